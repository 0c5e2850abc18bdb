import json
import re
import shutil

import pytest

from qwen_vla_ros.cli.init import init
from qwen_vla_ros.cli.model_info import model_info
from qwen_vla_ros.errors import CheckpointError


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    out = tmp_path_factory.mktemp("model_info") / "nano"
    init("nano", out, ["aloha_sim", "diffbot_sim"])
    return out


def rows(text):
    """The numbers of every line that has some, by the words that it begins with."""
    found = {}
    for line in text.splitlines():
        words, *numbers = re.split(r" {2,}", line.strip())
        found[words] = numbers
    return found


@pytest.mark.slow
def test_the_papers_table_is_printed_in_millions(capsys):
    assert model_info() == 0
    table = rows(capsys.readouterr().out)
    assert table["decoder blocks"] == ["1,132.6", "16 x 70.8 M"]
    assert table["action projections"] == ["4.9"]
    assert table["context projection"] == ["3.9"]
    assert table["timestep MLP"] == ["2.8"]
    assert table["output AdaLN"] == ["4.7"]
    assert table["action decoder"] == ["1,148.9"]
    assert table["backbone"] == ["4,539.3"]
    assert table["total"] == ["5,688.2"]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["nano", "0.8b", "2b", "4b"])
def test_the_memory_of_every_preset_is_printed_and_the_asked_one_marked(preset, capsys):
    model_info(preset)
    table = rows(capsys.readouterr().out)
    marked = [words for words in table if words.startswith("> ")]
    assert marked == [f"> {preset}"]
    known = {words.removeprefix("> "): numbers for words, numbers in table.items()}
    for name in ("nano", "0.8b", "2b", "4b"):
        fp32, bf16, train_fp32, train_bf16 = map(float, known[name])
        assert fp32 == pytest.approx(2 * bf16, abs=0.011)
        assert train_fp32 == train_bf16 == pytest.approx(8 * bf16, rel=0.02, abs=0.05)
    assert known["4b"][:2] == ["22.75", "11.38"]


@pytest.mark.slow
def test_the_columns_line_up(capsys):
    model_info("2b")
    lines = capsys.readouterr().out.splitlines()
    counts = [line for line in lines if re.search(r"\d\.\d( |$)", line)][:8]
    ends = {re.search(r"\d\.\d(?= |$)", line).end() for line in counts}
    assert len(ends) == 1
    sizes = [line for line in lines if re.match(r"[> ] (nano|0.8b|2b|4b) ", line)]
    assert len(sizes) == 4
    assert len({len(line) for line in sizes}) == 1


@pytest.mark.slow
def test_a_checkpoint_says_where_it_comes_from_and_what_its_actions_mean(nano, capsys):
    model_info(checkpoint=nano)
    said = capsys.readouterr().out
    facts = json.loads((nano / "config.json").read_text())
    table = rows(said)
    assert table["weights"] == ["random (seed 0)"]
    assert table["stage"] == ["untrained"]
    assert table["created with"] == ["0.1.0"]
    assert table["files"] == ["1, 0.04 GB, F32"]
    assert table["sha256 of weights"] == [facts["weights_sha256"]]
    assert all(
        f"{robot['name']} {robot['hash']}" in said for robot in facts["provenance"]["embodiments"]
    )
    assert table["left_waist"] == ["-3.1400", "3.1400", "rad"]
    assert "statistics of diffbot_sim" in table
    assert not re.search(r"\b4b\b", said)


@pytest.mark.slow
def test_data_that_it_was_trained_on_is_named(nano, tmp_path, capsys):
    folder = shutil.copytree(nano, tmp_path / "trained")
    config = json.loads((folder / "config.json").read_text())
    config["provenance"] |= {
        "datasets": [{"name": "cubes", "episodes": 50, "licence": "CC-BY-4.0"}], "stage": "sft",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    path = folder / "normalization" / "aloha_sim.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "count": 123456}))
    model_info(checkpoint=folder)
    table = rows(capsys.readouterr().out)
    assert table["data set"] == ["cubes, 50 episodes, CC-BY-4.0"]
    assert table["stage"] == ["sft"]
    assert table["actions"] == ["123,456"]


@pytest.mark.parametrize(
    ("preset", "given", "sentence"),
    [
        ("8b", None, "unknown preset '8b'"),
        ("4b", "nano", "a preset or a checkpoint, not both"),
        ("", "nowhere", "there is no such folder"),
    ],
)
def test_what_cannot_be_shown_is_told(tmp_path, preset, given, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        model_info(preset, given and tmp_path / given)


@pytest.mark.slow
def test_a_truncated_checkpoint_is_told(nano, tmp_path):
    folder = shutil.copytree(nano, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .* bytes of data where"):
        model_info(checkpoint=folder)
