"""What is wrong with an embodiment file, collected: its owner wants to see all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from qwen_vla_ros.errors import EmbodimentError

Loc = tuple[str | int, ...]
"""Where in the file: keys and list indices from the top, such as `("action", 2, "joint")`."""


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

    def __init__(self, path: Path, lines: Mapping[Loc, int] | None = None) -> None:
        self._label = label(path)
        self._lines = dict(lines or {})
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

    def error(self) -> EmbodimentError:
        """Return one error with a line per problem, in the order of the file."""
        return EmbodimentError("\n".join(unique(text for _, text in sorted(self._found))))

    def raise_if_any(self) -> None:
        """Raise `error()` where something was found."""
        if self._found:
            raise self.error()

    def _line(self, loc: Loc) -> int:
        while loc not in self._lines and loc:
            loc = loc[:-1]
        return self._lines.get(loc, 0)


def unique(texts: Iterable[str]) -> list[str]:
    """Return the texts in their order, each once."""
    return list(dict.fromkeys(texts))
