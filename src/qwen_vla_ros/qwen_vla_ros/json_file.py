"""Small JSON files of a checkpoint, read strictly into a type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from qwen_vla_ros.errors import CheckpointError, suggest

MAX_BYTES = 2**20
VERSION = "schema_version"

T = TypeVar("T")


def read_json(path: Path, kind: type[T]) -> T:
    """Return the content of a file as a `kind`.

    Raises:
        CheckpointError: When the file is missing, too large, or not what `kind` describes; with
            the place in it and what is allowed there.
    """
    raw = _read(path)
    parse_object(path, raw)
    try:
        return TypeAdapter(kind).validate_json(raw)
    except ValidationError as error:
        raise CheckpointError(f"{path}: {_tell(error, kind)}") from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the content of a file that somebody else describes.

    Raises:
        CheckpointError: When the file is missing, too large, or no object.
    """
    return parse_object(path, _read(path))


def parse_object(path: Path, raw: bytes) -> dict[str, Any]:
    """Return the object in `raw`, which was read from `path`.

    Raises:
        CheckpointError: When it is no JSON, no object, or has a name twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    try:
        value = json.loads(raw, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must be an object.")
    return value


def write_json(path: Path, value: object) -> None:
    """Write a dataclass or plain value, indented for people."""
    data = TypeAdapter(type(value)).dump_python(value, mode="json")
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; the folder is not complete without it.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointError(f"{path}: {size} bytes; at most {MAX_BYTES} are allowed.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from error


def _tell(error: ValidationError, kind: object) -> str:
    """Return the most telling problem as `place: sentence.`, and how many others there are."""
    problems = error.errors(include_url=False)
    # Another version explains every other problem; a misspelt key is also a missing one.
    problem = max(problems, key=lambda each: (_is_other_version(each), _is_unknown(each)))
    place = ".".join(str(part) for part in problem["loc"]) or "file"
    if _is_other_version(problem):
        found, read = problem["input"], problem["ctx"]["expected"]
        newer = found > int(read)
        age, advice = ("a newer", "Update it.") if newer else ("an older", "Make the file anew.")
        return (
            f"{place} {found}: made by {age} version of this software; the one that is installed "
            f"reads {read}. {advice}"
        )
    if _is_unknown(problem):
        known = _known_keys(kind, problem["loc"][:-1])
        return f"{place}: unknown key.{suggest(str(problem['loc'][-1]), known)}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place}: {problem['msg']}{more}."


def _is_other_version(problem: ErrorDetails) -> bool:
    return (
        problem["loc"][-1:] == (VERSION,)
        and problem["type"] == "literal_error"
        and isinstance(problem["input"], int)
    )


def _is_unknown(problem: ErrorDetails) -> bool:
    return problem["type"] == "unexpected_keyword_argument"


def _known_keys(kind: object, place: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section at `place`, which its annotations lead to."""
    annotation = kind
    for part in place:
        section = next(_sections(annotation), None)
        hints = {} if section is None else get_type_hints(section)
        # The index of a list stays at the same annotation: it names one entry.
        annotation = hints.get(str(part), annotation)
    section = next(_sections(annotation), None)
    return [] if section is None else [field.name for field in fields(section)]


def _sections(annotation: object) -> Iterator[Any]:
    """Find the dataclass inside `tuple[X, ...]`, `X | None` and their like."""
    if isinstance(annotation, type) and is_dataclass(annotation):
        yield annotation
        return
    for inner in get_args(annotation):
        yield from _sections(inner)
