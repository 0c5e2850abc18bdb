"""What is wrong with a file, in sentences: its owner wants to see all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from qwen_vla_ros.errors import EmbodimentError, QwenVlaError, suggest

Loc = tuple[str | int, ...]
"""Where in the file: keys and list indices from the top, such as `("action", 2, "joint")`."""

VERSION = "schema_version"

_NEEDED = {
    "float_type": "a number is needed",
    "int_type": "a whole number is needed",
    "bool_type": "true or false is needed",
    "string_type": "a text is needed",
    "tuple_type": "a list is needed",
    "dict_type": "a block of keys is needed",
    "dataclass_type": "a block of keys is needed",
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


def dotted(loc: Loc) -> str:
    """Return a place the way people write it: `action[2].joint`."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def label(path: Path) -> str:
    """Return a path as short as it can be typed from here."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def printable(text: str) -> str:
    """Return text that does nothing to a terminal: what cannot be printed is written as escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Problems:
    """A growing list of sentences about one file, each with its line and dotted path."""

    def __init__(
        self,
        path: Path,
        lines: Mapping[Loc, int] | None = None,
        kind: type[QwenVlaError] = EmbodimentError,
    ) -> None:
        self._label = label(path)
        self._lines = dict(lines or {})
        self._kind = kind
        self._found: list[tuple[int, str]] = []

    def add(self, loc: Loc, sentence: str) -> None:
        """Note what is wrong at `loc`; a place that is missing gets the line of its parent."""
        line = self._line(loc)
        where = f"{self._label}:{line}: " if line else f"{self._label}: "
        place = f"{dotted(loc)}: " if loc else ""
        self._found.append((line, printable(f"{where}{place}{sentence}")))

    def refuse_twice(self, places: Iterable[tuple[Loc, str]]) -> None:
        """Note every value that an earlier place already has."""
        first: dict[str, Loc] = {}
        for loc, value in places:
            if value in first:
                self.add(loc, f"'{value}' is already taken by {dotted(first[value])}.")
            first.setdefault(value, loc)

    def explain(
        self, error: ValidationError, model: object, patterns: Mapping[str, str] | None = None
    ) -> None:
        """Note everything that pydantic found where the file should have been a `model`.

        `patterns` has a sentence for a text that does not match, by its pattern.
        """
        details = error.errors(include_url=False)
        # Another version explains every other problem.
        for detail in [each for each in details if _is_other_version(each)] or details:
            is_key = detail["loc"][-1:] == ("[key]",)
            loc = detail["loc"][:-1] if is_key else detail["loc"]
            self.add(loc, _sentence(detail, model, patterns or {}))

    def error(self) -> QwenVlaError:
        """Return one error with a line per problem, in the order of the file, each once."""
        return self._kind("\n".join(dict.fromkeys(text for _, text in sorted(self._found))))

    def raise_if_any(self) -> None:
        """Raise `error()` where something was found."""
        if self._found:
            raise self.error()

    def _line(self, loc: Loc) -> int:
        while loc not in self._lines and loc:
            loc = loc[:-1]
        return self._lines.get(loc, 0)


def _sentence(detail: ErrorDetails, model: object, patterns: Mapping[str, str]) -> str:
    kind, loc, given = detail["type"], detail["loc"], detail["input"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
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
    if _is_other_version(detail):
        is_newer = given > int(context["expected"])
        age, advice = ("a newer", "Update it.") if is_newer else ("an older", "Make it anew.")
        return (
            f"{given} is made by {age} version of this software; the one that is installed "
            f"reads {context['expected']}. {advice}"
        )
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        if not isinstance(given, str) and str(given) in allowed:
            return f'{given} is a number here; put it in quotes: "{given}".'
        return f"{_shown(given)} is not allowed.{suggest(str(given), allowed)}"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return f"{_shown(given)} {patterns.get(pattern, f'does not match {pattern}.')}"
    return f"{detail['msg']}."


def _is_other_version(detail: ErrorDetails) -> bool:
    return (
        detail["loc"][-1:] == (VERSION,)
        and detail["type"] == "literal_error"
        and isinstance(detail["input"], int)
    )


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, (tuple, list)):
        return "a list"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value[:60]}'" if isinstance(value, str) else str(value)


def _known_keys(model: object, loc: Loc) -> list[str]:
    """Return the keys of the section at `loc`."""
    annotation = model
    for part in loc:
        # A list index or the key of a table stays at the same annotation: it names one entry.
        annotation = _keys(annotation).get(str(part), annotation)
    return list(_keys(annotation))


def _keys(annotation: object) -> dict[str, object]:
    """Return the keys and types of the section in `tuple[X, ...]`, `X | None` and their like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: field.annotation for name, field in annotation.model_fields.items()}
    if isinstance(annotation, type) and is_dataclass(annotation):
        hints = get_type_hints(annotation)
        return {field.name: hints[field.name] for field in fields(annotation)}
    return next((keys for inner in get_args(annotation) if (keys := _keys(inner))), {})
