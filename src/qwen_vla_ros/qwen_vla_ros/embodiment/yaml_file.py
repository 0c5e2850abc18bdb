"""Reads a YAML file that cannot mean two things.

YAML readers disagree: `on` is a boolean to one and a word to another, `1e3` a word or a number, a
key given twice counts once. On a safety limit none of that may be left to the reader, so the file
is read event by event and everything ambiguous is refused with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import yaml

from qwen_vla_ros.embodiment.problems import Loc, dotted, label
from qwen_vla_ros.errors import EmbodimentError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_NODES = 10_000

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,15})")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,15})\.[0-9]{1,30}")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NUMBER_LIKE = re.compile(
    r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|0[xob][0-9a-fA-F_]+"
)
# Words that YAML 1.1 reads as booleans and YAML 1.2 as text.
_BOOLEAN_LIKE = frozenset(("y", "n", "yes", "no", "on", "off"))
_BOOLEANS = {"true": True, "false": False}

Data = dict[str, "Data"] | tuple["Data", ...] | str | int | float | bool


@dataclass(frozen=True)
class YamlFile:
    """Plain data (dict, tuple, str, int, float, bool) and the line of every place in it."""

    data: Data
    lines: dict[Loc, int]


def read_yaml(path: Path) -> YamlFile:
    """Read a file strictly.

    Raises:
        EmbodimentError: With the line of the first thing that is not plain, unambiguous YAML.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise EmbodimentError(f"{label(path)}: larger than {MAX_BYTES} bytes.")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise EmbodimentError(f"{label(path)}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise EmbodimentError(f"{label(path)}: is not UTF-8 text.") from None
    return parse_yaml(text, label(path))


def parse_yaml(text: str, name: str) -> YamlFile:
    """Read the text of a file; `name` is what errors call it."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            return _Reader(loader, name).read()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise EmbodimentError(f"{name}:{line}: not valid YAML: {error.problem}.") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"the character U+{ord(error.character):04X}"
        raise EmbodimentError(f"{name}:{line}: {character} is not allowed in YAML.") from None
    except (ValueError, OverflowError):
        # PyYAML turns an escape such as "\UFFFFFFFF" into a character without checking it.
        raise EmbodimentError(f"{name}: an escape in a quoted text is no character.") from None


@dataclass
class _Open:
    """A mapping or sequence whose end has not come yet."""

    loc: Loc
    mapping: dict[str, Data] | None
    items: list[Data] = field(default_factory=list)
    key: str | None = None

    def next_loc(self) -> Loc:
        if self.mapping is None:
            return (*self.loc, len(self.items))
        return self.loc if self.key is None else (*self.loc, self.key)


class _Reader:
    """Builds data from parse events, without recursion: depth costs nothing and is capped."""

    def __init__(self, loader: yaml.SafeLoader, name: str) -> None:
        self._loader = loader
        self._name = name
        self._lines: dict[Loc, int] = {}
        self._nodes = 0

    def read(self) -> YamlFile:
        stack: list[_Open] = []
        result: Data | None = None
        documents = 0
        for event in self._events():
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fail(event, "a second document starts here; one file is one robot.")
                if event.version or event.tags:
                    self._fail(event, "directives (%YAML, %TAG) are not allowed.")
                continue
            if isinstance(event, yaml.NodeEvent):
                loc = stack[-1].next_loc() if stack else ()
                self._check_node(event, loc, len(stack))
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                is_mapping = isinstance(event, yaml.MappingStartEvent)
                if stack and stack[-1].mapping is not None and stack[-1].key is None:
                    self._fail(event, "a key must be a plain word.")
                self._lines[loc] = event.start_mark.line + 1
                stack.append(_Open(loc, {} if is_mapping else None))
            elif isinstance(event, yaml.ScalarEvent):
                if stack and stack[-1].mapping is not None and stack[-1].key is None:
                    stack[-1].key = self._key(event, stack[-1])
                else:
                    self._lines.setdefault(loc, event.start_mark.line + 1)
                    value = self._scalar(event, loc)
                    result = self._put(stack, value)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                done = stack.pop()
                closed: Data = tuple(done.items) if done.mapping is None else done.mapping
                result = self._put(stack, closed)
        if result is None:
            raise EmbodimentError(f"{self._name}: the file is empty.")
        return YamlFile(result, self._lines)

    def _events(self) -> Iterator[yaml.Event]:
        while self._loader.check_event():
            yield self._loader.get_event()

    @staticmethod
    def _put(stack: list[_Open], value: Data) -> Data:
        if stack:
            parent = stack[-1]
            if parent.mapping is None:
                parent.items.append(value)
            elif parent.key is not None:
                parent.mapping[parent.key] = value
                parent.key = None
        return value

    def _check_node(self, event: yaml.NodeEvent, loc: Loc, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._fail(event, f"more than {MAX_NODES} values.")
        if depth > MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH} levels.")
        if isinstance(event, yaml.AliasEvent):
            self._fail(event, f"alias '*{event.anchor}' is not allowed; write the value out.", loc)
        if event.anchor is not None:
            self._fail(event, f"anchor '&{event.anchor}' is not allowed.", loc)
        if getattr(event, "tag", None) is not None:
            self._fail(event, f"tag '{event.tag}' is not allowed.", loc)

    def _key(self, event: yaml.ScalarEvent, parent: _Open) -> str:
        key = self._scalar(event, parent.loc)
        if not isinstance(key, str) or not key:
            self._fail(event, f"'{event.value[:40]}' cannot be a key; a key is a word.", parent.loc)
        loc = (*parent.loc, key)
        if parent.mapping is not None and key in parent.mapping:
            self._fail(event, f"given twice; the first is on line {self._lines[loc]}.", loc)
        self._lines[loc] = event.start_mark.line + 1
        return key

    def _scalar(self, event: yaml.ScalarEvent, loc: Loc) -> Data:
        text: str = event.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            self._fail(event, "half of a surrogate pair is no character.", loc)
        if event.style is not None:
            return text
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        self._refuse_ambiguous(event, text, loc)
        return text

    def _refuse_ambiguous(self, event: yaml.ScalarEvent, text: str, loc: Loc) -> None:
        shown = text[:40]
        meaning = self._loader.resolve(yaml.ScalarNode, text, (True, False)).rpartition(":")[2]
        if meaning == "null":
            self._fail(event, "has no value; give it one, or leave the key out.", loc)
        if _NOT_FINITE.fullmatch(text):
            self._fail(event, f"'{shown}' is not a finite number.", loc)
        if meaning == "bool" or text.lower() in _BOOLEAN_LIKE:
            self._fail(
                event,
                f"'{shown}' is a boolean to some YAML readers and a word to others. "
                "Write true or false, or put it in quotes.",
                loc,
            )
        if meaning != "str" or _NUMBER_LIKE.fullmatch(text):
            self._fail(
                event,
                f"'{shown}' does not mean the same to every YAML reader. "
                "Write a number in decimal digits such as 1000 or 0.5, or put a text in quotes.",
                loc,
            )

    def _fail(self, event: yaml.Event, sentence: str, loc: Loc = ()) -> NoReturn:
        place = f"{dotted(loc)}: " if loc else ""
        raise EmbodimentError(f"{self._name}:{event.start_mark.line + 1}: {place}{sentence}")
