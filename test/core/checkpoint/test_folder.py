import pytest

from qwen_vla_ros.checkpoint.folder import refuse_executables, refuse_existing, written_whole
from qwen_vla_ros.errors import CheckpointError


@pytest.mark.parametrize(
    "name", ["a.bin", "deep/er/b.PKL", "hook.py", "lib.so", "run.sh", "x.npy"]
)
def test_a_file_that_could_run_is_found_anywhere(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"can run code when they are read"):
        refuse_executables(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "README.md", "merges.txt"])
def test_weights_and_words_may_stay(tmp_path, name):
    (tmp_path / name).touch()
    refuse_executables(tmp_path)


def test_a_folder_appears_when_all_of_it_is_written(tmp_path):
    out = tmp_path / "deep" / "new"
    with written_whole(out) as folder:
        (folder / "a").touch()
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["a"]
    assert [path.name for path in out.parent.iterdir()] == ["new"]


def test_everybody_who_may_read_new_files_may_read_all_of_them(tmp_path):
    (tmp_path / "usual").touch()
    with written_whole(tmp_path / "new") as folder:
        (folder / "deep").mkdir()
        for name in ("a", "deep/b"):
            (folder / name).touch(mode=0o600)
    for name in ("a", "deep/b"):
        mode = (tmp_path / "new" / name).stat().st_mode
        assert mode == (tmp_path / "usual").stat().st_mode
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"a", "deep"}


def test_what_fails_leaves_nothing_behind(tmp_path):
    def write():
        with written_whole(tmp_path / "new") as folder:
            (folder / "a").touch()
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert not list(tmp_path.iterdir())


def test_only_a_new_or_an_empty_place_is_free(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    refuse_existing(tmp_path / "new")
    refuse_existing(tmp_path / "empty")
    for name in ("full", "full/a"):
        with pytest.raises(CheckpointError, match="exists already"):
            refuse_existing(tmp_path / name)
