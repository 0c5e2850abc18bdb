from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import ConfigDict

from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.json_file import MAX_BYTES, read_json, read_object, write_json

STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True)
class Wheel:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    radius: float
    colour: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cart:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    wheels: tuple[Wheel, ...]
    spare: Wheel | None = None
    schema_version: Literal[3] = 3


def refusal(tmp_path, text):
    path = tmp_path / "cart.json"
    path.write_text(text)
    with pytest.raises(CheckpointError) as caught:
        read_json(path, Cart)
    return str(caught.value).removeprefix(f"{path}: ")


def test_what_is_written_is_read_back(tmp_path):
    cart = Cart(wheels=(Wheel(radius=0.1), Wheel(radius=0.2, colour="red")))
    write_json(tmp_path / "cart.json", cart)
    assert read_json(tmp_path / "cart.json", Cart) == cart


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"weels": []}', "weels: unknown key. Did you mean 'wheels'? Known: schema_version"),
        ('{"wheels": [{"radius": 1.0}, {"radios": 2}]}', "wheels.1.radios: unknown key. Did you"),
        (
            '{"wheels": [], "spare": {"color": "x"}}',
            "Did you mean 'colour'? Known: colour, radius",
        ),
        ('{"wheels": [{"radius": "big"}]}', "wheels.0.radius: Input should be a valid number."),
        ('{"wheels": 1, "spare": 2}', "Input should be a valid array (and 1 more)."),
        ('{"wheels": [], "wheels": []}', "a name occurs twice"),
        ('{"wheels": [{"radius": 1, "radius": 2}]}', "a name occurs twice"),
        ("[]", "must be an object"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(tmp_path, text, sentence):
    assert sentence in refusal(tmp_path, text)


def test_a_newer_version_explains_every_other_problem(tmp_path):
    said = refusal(tmp_path, '{"schema_version": 4, "axles": 2}')
    assert said.startswith("schema_version 4: made by a newer version of this software; the one")
    assert said.endswith("installed reads 3. Update it.")


def test_an_older_version_says_what_to_do(tmp_path):
    said = refusal(tmp_path, '{"schema_version": 2, "wheels": []}')
    assert said.startswith("schema_version 2: made by an older version of this software")
    assert said.endswith("reads 3. Make the file anew.")


@pytest.mark.parametrize("version", ['"4"', "4.5"])
def test_a_version_that_never_was_is_just_wrong(tmp_path, version):
    said = refusal(tmp_path, f'{{"schema_version": {version}, "wheels": []}}')
    assert said == "schema_version: Input should be 3."


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.json").write_text("{}")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CheckpointError, match=r"a\.json: cannot be read: Permission denied\."):
        read_object(tmp_path / "a.json")


def test_a_missing_and_an_oversized_file_are_refused_unread(tmp_path):
    with pytest.raises(CheckpointError, match=r"a\.json: missing"):
        read_object(tmp_path / "a.json")
    with (tmp_path / "b.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CheckpointError, match=f"{MAX_BYTES + 1} bytes; at most {MAX_BYTES}"):
        read_object(tmp_path / "b.json")
