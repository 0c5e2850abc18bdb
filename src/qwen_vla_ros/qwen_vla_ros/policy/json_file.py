"""Small JSON files of a checkpoint, read strictly into a type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from qwen_vla_ros.errors import CheckpointError

MAX_BYTES = 2**20

T = TypeVar("T")


def read_json(path: Path, kind: type[T]) -> T:
    """Return the content of a file as a `kind`.

    Raises:
        CheckpointError: When the file is missing, too large, or not what `kind` describes; with
            the place in it and what is allowed there.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; every checkpoint has this file.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointError(f"{path}: {size} bytes; at most {MAX_BYTES} are allowed.")
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{path}: {_tell(error)}") from error


def _tell(error: ValidationError) -> str:
    """Return the most telling problem as `place: sentence.`, and how many others there are."""
    problems = error.errors(include_url=False)
    # A misspelt key is also a missing key; the spelling says more.
    unknown = [problem for problem in problems if problem["type"] == "unexpected_keyword_argument"]
    problem = (unknown or problems)[0]
    place = ".".join(str(part) for part in problem["loc"]) or "file"
    what = "unknown key" if unknown else problem["msg"]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place}: {what}{more}."


def write_json(path: Path, value: object) -> None:
    """Write a dataclass or plain value, indented for people."""
    data = TypeAdapter(type(value)).dump_python(value, mode="json")
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
