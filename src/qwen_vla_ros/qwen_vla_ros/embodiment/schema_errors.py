"""Turns pydantic's errors into sentences for the owner of a robot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from qwen_vla_ros.embodiment.problems import Loc, Problems
from qwen_vla_ros.errors import suggest

_NEEDED = {
    "float_type": "a number is needed",
    "int_type": "a whole number is needed",
    "bool_type": "true or false is needed",
    "string_type": "a text is needed",
    "tuple_type": "a list is needed",
    "dict_type": "a block of keys is needed",
    "model_type": "a block of keys is needed",
    "model_attributes_type": "a block of keys is needed",
}
_BOUNDS = {
    "greater_than": ("gt", "must be above"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be below"),
    "less_than_equal": ("le", "must be at most"),
}
_COUNTS = {
    "too_short": ("min_length", "the list is too short; at least"),
    "too_long": ("max_length", "the list is too long; at most"),
    "string_too_short": ("min_length", "the text is too short; at least"),
    "string_too_long": ("max_length", "the text is too long; at most"),
}
# What the patterns of the schema mean, told by the field that has them; other fields are names.
_PATTERNS = {
    "topic": "is no topic name. Allowed: words of letters, digits and _ with / between them.",
    "urdf": "is no URDF file. Allowed: a file name without folder, ending in .urdf or .xacro.",
    "frame_id": "is no frame name. Allowed: letters, digits and _ / . - in it.",
    "description": "holds a control character; it is one line of text.",
    "robot_tag": "holds a control character or one of < > |, which the prompt is built with.",
}
_NAME = "is no name. Allowed: lower-case letters, digits and _, a letter first, at most 64."


def explain(details: list[ErrorDetails], model: type[BaseModel], problems: Problems) -> None:
    """Add one sentence to `problems` for every error that `model` found."""
    for error in details:
        is_key = error["loc"][-1:] == ("[key]",)
        loc = error["loc"][:-1] if is_key else error["loc"]
        problems.add(loc, _sentence(error, model))


def _sentence(error: ErrorDetails, model: type[BaseModel]) -> str:
    kind, loc, given = error["type"], error["loc"], error["input"]
    context: dict[str, Any] = error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key.{suggest(str(loc[-1]), _known_keys(model, loc[:-1]))}"
    if kind == "missing":
        return "is missing."
    if kind in _NEEDED:
        return f"{_shown(given)} does not fit; {_NEEDED[kind]}."
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{_shown(given)} {words} {context[key]:g}."
    if kind in _COUNTS:
        key, words = _COUNTS[kind]
        return f"{words} {context[key]}."
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        if not isinstance(given, str) and str(given) in allowed:
            return f'{given} is a number here; put it in quotes: "{given}".'
        return f"{_shown(given)} is not allowed.{suggest(str(given), allowed)}"
    if kind == "string_pattern_mismatch":
        return f"{_shown(given)} {_PATTERNS.get(str(loc[-1]), _NAME)}"
    return f"{error['msg']}."


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, tuple):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value[:60]}'" if isinstance(value, str) else str(value)


def _known_keys(model: type[BaseModel], loc: Loc) -> list[str]:
    """Return the keys of the section at `loc`."""
    annotation: object = model
    for part in loc:
        section = next(_models(annotation), None)
        if section is not None and part in section.model_fields:
            annotation = section.model_fields[str(part)].annotation
        # A list index or the key of a table stays at the same annotation: it names one entry.
    section = next(_models(annotation), None)
    return [] if section is None else list(section.model_fields)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """Find the section inside `tuple[X, ...]`, `dict[Name, X]`, `X | None` and their like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for inner in get_args(annotation):
        yield from _models(inner)
