from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict

from qwen_vla_ros.data_file import (
    MAX_JSON_BYTES,
    MAX_YAML_BYTES,
    parse_yaml,
    read_json,
    read_object,
    read_yaml,
    write_json,
)
from qwen_vla_ros.errors import CheckpointError, EmbodimentError

GOOD = (Path(__file__).parents[2] / "config" / "embodiments" / "aloha_sim.yaml").read_text()


def refusal(text: str) -> str:
    with pytest.raises(EmbodimentError) as caught:
        parse_yaml(text, "robot.yaml")
    return str(caught.value)


def told_about(text: str) -> str:
    try:
        parse_yaml(text, "robot.yaml")
    except EmbodimentError as error:
        return str(error)
    return "robot.yaml: is good"


def test_plain_data_comes_out_with_the_line_of_every_place():
    source = parse_yaml("a: 1\nb:\n  - c: [true, -0.5]\n  - 'on'\n", "robot.yaml")
    assert source.data == {"a": 1, "b": ({"c": (True, -0.5)}, "on")}
    assert source.lines[("a",)] == 1
    assert source.lines[("b", 0, "c")] == 3
    assert source.lines[("b", 0, "c", 1)] == 3
    assert source.lines[("b", 1)] == 4


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "robot.yaml: the file is empty."),
        ("# nothing\n", "robot.yaml: the file is empty."),
        ("a: 1\nb: 2\na: 3\n", "robot.yaml:3: a: given twice; the first is on line 1."),
        ("a: {b: 1, b: 2}\n", "robot.yaml:1: a.b: given twice; the first is on line 1."),
        ("a: &x 1\n", "robot.yaml:1: a: anchor '&x' is not allowed."),
        ("b: *x\n", "robot.yaml:1: b: alias '*x' is not allowed; write the value out."),
        ("a: !!str 1\n", "robot.yaml:1: a: tag 'tag:yaml.org,2002:str' is not allowed."),
        ("a: .nan\n", "robot.yaml:1: a: '.nan' is not a finite number."),
        ("a: -.inf\n", "robot.yaml:1: a: '-.inf' is not a finite number."),
        ("a:\n", "robot.yaml:1: a: has no value; give it one, or leave the key out."),
        ("a: ~\n", "robot.yaml:1: a: has no value; give it one, or leave the key out."),
        ("a: null\n", "robot.yaml:1: a: has no value; give it one, or leave the key out."),
        ("a: 1\n---\nb: 2\n", "robot.yaml:2: a second document starts here; one file is one"),
        ("%YAML 1.1\n---\na: 1\n", "robot.yaml:1: directives (%YAML, %TAG) are not allowed."),
        ("1: a\n", "robot.yaml:1: '1' cannot be a key; a key is a word."),
        ("? [a]\n: 1\n", "robot.yaml:1: a list or block cannot be a key; a key is a word."),
        ("a: 'b\n", "robot.yaml:2: not valid YAML: found unexpected end of stream."),
        (
            "a: b: c\n",
            "robot.yaml:1: not valid YAML: mapping values are not allowed in this context.",
        ),
        ("a: b\tc\n", "robot.yaml:1: a: a tab between words; put the text in quotes."),
        ("a: é\nb: \x07\n", "robot.yaml:2: the character U+0007 is not allowed in YAML."),
        ("a: \x07\n", "robot.yaml:1: the character U+0007 is not allowed in YAML."),
        ('a: "\\UFFFFFFFF"\n', "robot.yaml:1: not valid YAML: found invalid Unicode char"),
        ('a: "\\uD800"\n', "robot.yaml:1: not valid YAML: found invalid Unicode character"),
        ("[" * 100_000, "robot.yaml:1: nested deeper than 16 levels."),
        ("a: [" + "1," * 20_000 + "]", "robot.yaml:1: more than 10000 values."),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, sentence: str):
    assert refusal(text).startswith(sentence)


@pytest.mark.parametrize("word", ["on", "off", "yes", "No", "Y", "n", "ON", "True", "FALSE"])
def test_words_that_are_booleans_to_some_readers_are_refused(word: str):
    assert "is a boolean to some YAML readers" in refusal(f"a: {word}\n")
    assert parse_yaml(f"a: '{word}'\n", "robot.yaml").data == {"a": word}


@pytest.mark.parametrize(
    "number",
    [
        "1e3",
        "1.0e3",
        "1.0e+3",
        "1.0E5",
        "010",
        "0x1F",
        "0o17",
        "0b1",
        "1_000",
        "1:30",
        "+.5",
        ".5",
        "1.",
        "2026-08-01",
        "1" * 17,
        "=",
        "<<",
    ],
)
def test_numbers_that_readers_disagree_on_are_refused(number: str):
    assert "does not mean the same to every YAML reader" in refusal(f"a: {number}\n")


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("-3", -3), ("+7", 7), ("0.5", 0.5), ("-3.14158", -3.14158)]
)
def test_decimal_numbers_are_read(text: str, value: float):
    read = parse_yaml(f"a: {text}\n", "robot.yaml").data
    assert read == {"a": value}
    assert type(read["a"]) is type(value)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path):
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * (MAX_YAML_BYTES + 1))
    with pytest.raises(EmbodimentError, match="larger than 262144 bytes"):
        read_yaml(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(EmbodimentError, match=r"is not UTF-8 text"):
        read_yaml(path)
    with pytest.raises(EmbodimentError, match=r"cannot be read: No such file"):
        read_yaml(tmp_path / "absent.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["a: " + "x" * 250_000, "#" * 250_000, "a: '" + "\n" * 250_000, "- " * 100_000]
)
@pytest.mark.timeout(30)
def test_an_evil_file_is_soon_done_with(text: str):
    with contextlib.suppress(EmbodimentError):
        parse_yaml(text, "robot.yaml")


PLAIN = st.recursive(
    st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(categories=["L"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abcdefgh_", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


def tuples(data: object) -> object:
    if isinstance(data, list):
        return tuple(tuples(item) for item in data)
    if isinstance(data, dict):
        return {key: tuples(value) for key, value in data.items()}
    return data


class QuotedText(yaml.SafeDumper):
    """Dumps every text in quotes and repeats nothing by reference."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the library's signature
        return True


QuotedText.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


@pytest.mark.slow
@given(PLAIN)
@settings(max_examples=100, deadline=None)
def test_quoted_data_comes_back_as_it_was(data: object):
    text = yaml.dump({"top": data}, Dumper=QuotedText)
    assert parse_yaml(text, "robot.yaml").data == {"top": tuples(data)}


@pytest.mark.slow
@given(st.text(max_size=200) | st.text("ab:-[]{}&*!|>'\"%#?, \n\t", max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_text_is_read_or_refused_in_a_sentence(text: str):
    told = told_about(text)
    assert told.startswith("robot.yaml:")
    assert told.isprintable()


@pytest.mark.slow
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 40), st.text(max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_damaged_good_file_is_read_or_refused_in_a_sentence(at: int, cut: int, put: str):
    assert told_about(GOOD[:at] + put + GOOD[at + cut :]).startswith("robot.yaml:")


@dataclass(frozen=True, kw_only=True)
class Cart:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)
    wheels: tuple[float, ...]
    colour: str | None = None


def test_what_is_written_is_read_back(tmp_path: Path):
    cart = Cart(wheels=(0.1, 0.2), colour="red")
    write_json(tmp_path / "cart.json", cart)
    assert read_json(tmp_path / "cart.json", Cart) == cart


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"wheels": [], "wheels": []}', "a name occurs twice"),
        ('{"wheels": [{"radius": 1, "radius": 2}]}', "a name occurs twice"),
        ("[]", "must be an object"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str, sentence: str):
    (tmp_path / "cart.json").write_text(text)
    with pytest.raises(CheckpointError, match=f"cart.json: .*{sentence}"):
        read_json(tmp_path / "cart.json", Cart)


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.json").write_text("{}")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CheckpointError, match=r"a\.json: cannot be read: Permission denied\."):
        read_object(tmp_path / "a.json")


def test_a_missing_and_an_oversized_file_are_refused_unread(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"a\.json: missing"):
        read_object(tmp_path / "a.json")
    with (tmp_path / "b.json").open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(CheckpointError, match=f"larger than {MAX_JSON_BYTES} bytes"):
        read_object(tmp_path / "b.json")
