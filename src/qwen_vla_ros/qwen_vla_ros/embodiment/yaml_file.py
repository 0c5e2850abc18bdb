"""Reads a YAML file that cannot mean two things.

YAML readers disagree: `on` is a boolean to one and a word to another, `1e3` a word or a number, a
key given twice counts once. On a safety limit none of that may be left to the reader, so the file
is read event by event and everything ambiguous is refused with its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import yaml

from qwen_vla_ros.embodiment.problems import Loc, dotted, label, printable
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
        sentence = printable(f"not valid YAML: {error.problem}.")
        raise EmbodimentError(f"{name}:{line}: {sentence}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"the character U+{int(error.character):04X}"
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

    @property
    def needs_key(self) -> bool:
        return self.mapping is not None and self.key is None

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
        self._stack: list[_Open] = []
        self._nodes = 0
        self._documents = 0
        self._result: Data | None = None

    def read(self) -> YamlFile:
        while self._loader.check_event():
            event = self._loader.get_event()  # type: ignore[no-untyped-call]
            if isinstance(event, yaml.DocumentStartEvent):
                self._start_document(event)
            elif isinstance(event, yaml.NodeEvent):
                self._start_node(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                done = self._stack.pop()
                self._put(tuple(done.items) if done.mapping is None else done.mapping)
        if self._result is None:
            raise EmbodimentError(f"{self._name}: the file is empty.")
        return YamlFile(self._result, self._lines)

    def _start_document(self, event: yaml.DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            self._fail(event, "a second document starts here; one file is one robot.")
        if event.version or event.tags:
            self._fail(event, "directives (%YAML, %TAG) are not allowed.")

    def _start_node(self, event: yaml.NodeEvent) -> None:
        parent = self._stack[-1] if self._stack else None
        loc = parent.next_loc() if parent else ()
        self._check_node(event, loc)
        if parent is not None and parent.needs_key:
            parent.key = self._key(event, parent)
            return
        self._lines.setdefault(loc, _line(event))
        if isinstance(event, yaml.ScalarEvent):
            self._put(self._scalar(event, loc))
        else:
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            self._stack.append(_Open(loc, {} if is_mapping else None))

    def _put(self, value: Data) -> None:
        if not self._stack:
            self._result = value
            return
        parent = self._stack[-1]
        if parent.mapping is None:
            parent.items.append(value)
        elif parent.key is not None:
            parent.mapping[parent.key] = value
            parent.key = None

    def _check_node(self, event: yaml.NodeEvent, loc: Loc) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._fail(event, f"more than {MAX_NODES} values.")
        if len(self._stack) > MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH} levels.")
        if isinstance(event, yaml.AliasEvent):
            self._fail(event, f"alias '*{event.anchor}' is not allowed; write the value out.", loc)
        if event.anchor is not None:
            self._fail(event, f"anchor '&{event.anchor}' is not allowed.", loc)
        if getattr(event, "tag", None) is not None:
            self._fail(event, f"tag '{getattr(event, 'tag', '')}' is not allowed.", loc)

    def _key(self, event: yaml.NodeEvent, parent: _Open) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._fail(event, "a list or block cannot be a key; a key is a word.", parent.loc)
        key = self._scalar(event, parent.loc)
        if not isinstance(key, str) or not key:
            self._fail(
                event, f"'{event.value[:40]}' cannot be a key; a key is a word.", parent.loc
            )
        loc = (*parent.loc, key)
        if parent.mapping is not None and key in parent.mapping:
            self._fail(event, f"given twice; the first is on line {self._lines[loc]}.", loc)
        self._lines[loc] = _line(event)
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
        tag: str = self._loader.resolve(  # type: ignore[no-untyped-call]
            yaml.ScalarNode, text, (True, False)
        )
        meaning = tag.rpartition(":")[2]
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
        raise EmbodimentError(printable(f"{self._name}:{_line(event)}: {place}{sentence}"))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
