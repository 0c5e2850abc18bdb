"""Sentences about JSON; those about YAML are in the tests of robots' files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import ConfigDict, Field

from qwen_vla_ros.data_file import read_json
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.problems import Problems, dotted, printable

STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True)
class Wheel:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    radius: float
    colour: Annotated[str, Field(pattern="^[a-z]+$")] | None = None


@dataclass(frozen=True, kw_only=True)
class Cart:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    wheels: tuple[Wheel, ...]
    spare: Wheel | None = None
    schema_version: Literal[3] = 3


def refusal(tmp_path: Path, text: str) -> str:
    path = tmp_path / "cart.json"
    path.write_text(text)
    with pytest.raises(CheckpointError) as caught:
        read_json(path, Cart)
    return str(caught.value).replace(f"{path}: ", "")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"weels": []}', "weels: unknown key. Did you mean 'wheels'? Known: schema_version"),
        ('{"wheels": [{"radius": 1.0}, {"radios": 2}]}', "wheels[1].radios: unknown key. Did you"),
        ('{"wheels": [{"colour": "red"}]}', "wheels[0].radius: is missing."),
        (
            '{"wheels": [], "spare": {"color": "x"}}',
            "Did you mean 'colour'? Known: colour, radius",
        ),
        ('{"wheels": [{"radius": "big"}]}', "[0].radius: 'big' does not fit; a number is needed."),
        ('{"wheels": [null]}', "wheels[0]: null does not fit; a block of keys is needed."),
        ('{"wheels": 1, "spare": 2}', "wheels: 1 does not fit; a list is needed."),
        ('{"wheels": 1, "spare": 2}', "spare: 2 does not fit; a block of keys is needed."),
        (
            '{"wheels": [], "spare": {"radius": 1, "colour": "R"}}',
            "colour: 'R' does not match ^",
        ),
    ],
)
def test_a_wrong_file_is_told_with_its_places(tmp_path: Path, text: str, sentence: str):
    assert sentence in refusal(tmp_path, text)


def test_a_newer_version_explains_every_other_problem(tmp_path: Path):
    said = refusal(tmp_path, '{"schema_version": 4, "axles": 2}')
    assert said.startswith("schema_version: 4 is made by a newer version of this software; the ")
    assert said.endswith("installed reads 3. Update it.")


def test_an_older_version_says_what_to_do(tmp_path: Path):
    said = refusal(tmp_path, '{"schema_version": 2, "wheels": []}')
    assert said.startswith("schema_version: 2 is made by an older version of this software; the ")
    assert said.endswith("reads 3. Make it anew.")


def test_a_version_that_never_was_is_just_wrong(tmp_path: Path):
    said = refusal(tmp_path, '{"schema_version": 4.5, "wheels": []}')
    assert said == "schema_version: 4.5 is not allowed. Known: 3."


def test_a_problem_has_the_line_of_the_nearest_place_that_is_there(tmp_path: Path):
    problems = Problems(tmp_path / "a.yaml", {(): 1, ("b",): 2, ("b", 0): 3})
    problems.add(("b", 1), "is late.")
    problems.add(("c",), "is early.")
    problems.add(("c",), "is early.")
    assert str(problems.error()).splitlines() == [
        f"{tmp_path}/a.yaml:1: c: is early.",
        f"{tmp_path}/a.yaml:2: b[1]: is late.",
    ]


def test_places_and_texts_are_written_as_people_can_read_them():
    assert dotted(("action", 2, "joint")) == "action[2].joint"
    assert printable("a\x1b[31mb") == "a\\x1b[31mb"
