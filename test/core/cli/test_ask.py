import numpy as np
import pytest
from PIL import Image

from qwen_vla_ros.cli.ask import MAX_IMAGE_BYTES, ask, read_image
from qwen_vla_ros.cli.init import init
from qwen_vla_ros.errors import CheckpointError, QwenVlaError

QUESTION = "what do you see?"


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    out = tmp_path_factory.mktemp("ask") / "nano"
    init("nano", out, ["aloha_sim"])
    return out


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "view.png")
    return tmp_path / "view.png"


@pytest.mark.slow
def test_a_question_is_answered_and_random_weights_are_admitted(nano, picture, capsys):
    assert ask(nano, QUESTION, [picture, picture], max_new_tokens=4) == 0
    said = capsys.readouterr()
    assert said.out.strip()
    assert "The weights are random" in said.err
    assert "falling back" not in said.err


@pytest.mark.slow
def test_a_question_needs_no_picture_but_words(nano, capsys):
    assert ask(nano, QUESTION, [], max_new_tokens=2) == 0
    assert capsys.readouterr().out.strip()
    with pytest.raises(QwenVlaError, match="the question is empty"):
        ask(nano, "  ", [])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_pictures_of_any_kind_become_rgb(tmp_path, mode):
    Image.new(mode, (5, 3)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (3, 5, 3)
    assert image.dtype == np.uint8


def test_the_colours_are_in_order(tmp_path):
    Image.new("RGB", (2, 2), (200, 100, 50)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [200, 100, 50]


def test_a_file_that_is_no_picture_is_told(tmp_path, picture):
    with pytest.raises(
        QwenVlaError, match=r"viev\.png: there is no such file\. Did you mean 'view"
    ):
        read_image(tmp_path / "viev.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(QwenVlaError, match=r"text\.png: is no picture that can be read"):
        read_image(tmp_path / "text.png")
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:200])
    with pytest.raises(QwenVlaError, match=r"cut\.png: is no picture that can be read"):
        read_image(tmp_path / "cut.png")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    with pytest.raises(QwenVlaError, match=f"at most {MAX_IMAGE_BYTES} are allowed"):
        read_image(tmp_path / "huge.png")


def test_a_picture_that_would_fill_the_memory_is_told(tmp_path, monkeypatch):
    Image.new("RGB", (400, 400)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(QwenVlaError, match=r"bomb\.png: is no picture that can be read"):
        read_image(tmp_path / "bomb.png")


def test_a_checkpoint_that_is_missing_is_told(tmp_path, picture):
    with pytest.raises(CheckpointError, match="there is no such folder"):
        ask(tmp_path / "nowhere", QUESTION, [picture])
