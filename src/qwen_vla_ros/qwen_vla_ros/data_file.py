"""Reads files of data strictly: YAML that people write, JSON that programs write.

YAML readers disagree: `on` is a boolean to one and a word to another, `1e3` a word or a number, a
key given twice counts once. On a safety limit none of that may be left to the reader, so the file
is read event by event and everything ambiguous is refused with its line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from qwen_vla_ros.errors import CheckpointError, EmbodimentError, QwenVlaError
from qwen_vla_ros.problems import Loc, Problems, dotted, label, printable

MAX_YAML_BYTES = 256 * 1024
MAX_JSON_BYTES = 2**20
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
T = TypeVar("T")


@dataclass(frozen=True)
class YamlFile:
    """Plain data (dict, tuple, str, int, float, bool) and the line of every place in it."""

    data: Data
    lines: dict[Loc, int]


def read_text(path: Path, max_bytes: int, error: type[QwenVlaError]) -> str:
    """Return the text of a file, without a byte order mark.

    Raises:
        QwenVlaError: An `error` when the file is missing, too large, or not UTF-8.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise error(f"{label(path)}: larger than {max_bytes} bytes.")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as reason:
        raise error(f"{label(path)}: cannot be read: {reason.strerror}.") from None
    except UnicodeDecodeError:
        raise error(f"{label(path)}: is not UTF-8 text.") from None


def read_json(path: Path, kind: type[T]) -> T:
    """Return the content of a file as a `kind`.

    Raises:
        CheckpointError: When the file is missing, too large, or not what `kind` describes; with
            the places in it and what is allowed there.
    """
    text = _read_json_text(path)
    parse_object(path, text)
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        problems = Problems(path, kind=CheckpointError)
        problems.explain(error, kind)
        raise problems.error() from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that somebody else describes.

    Raises:
        CheckpointError: When the file is missing, too large, or no object.
    """
    return parse_object(path, _read_json_text(path))


def parse_object(path: Path, raw: str | bytes) -> dict[str, Any]:
    """Return the JSON object in `raw`, which was read from `path`.

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


def _read_json_text(path: Path) -> str:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; the folder is not complete without it.")
    return read_text(path, MAX_JSON_BYTES, CheckpointError)


def read_yaml(path: Path) -> YamlFile:
    """Read a file strictly.

    Raises:
        EmbodimentError: With the line of the first thing that is not plain, unambiguous YAML.
    """
    return parse_yaml(read_text(path, MAX_YAML_BYTES, EmbodimentError), label(path))


def parse_yaml(text: str, name: str) -> YamlFile:
    """Read the text of a file; `name` is what errors call it."""
    try:
        # libyaml, which reads ROS's parameter files too, is 25 times as fast as PyYAML's own.
        return _Reader(yaml.CSafeLoader(text), name).read()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        sentence = printable(f"not valid YAML: {error.problem}.")
        raise EmbodimentError(f"{name}:{line}: {sentence}") from None
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        character = f"the character U+{int(error.character):04X}"
        raise EmbodimentError(f"{name}:{line}: {character} is not allowed in YAML.") from None


class _Reader:
    """Builds data from parse events; the cap on depth makes recursion safe."""

    def __init__(self, loader: yaml.CSafeLoader, name: str) -> None:
        self._loader = loader
        self._events: Iterator[yaml.Event] = iter(loader.get_event, None)
        self._name = name
        self._lines: dict[Loc, int] = {}
        self._nodes = 0

    def read(self) -> YamlFile:
        data: Data | None = None
        for event in self._events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            if data is not None:
                self._fail(event, "a second document starts here; one file is one robot.")
            if event.version or event.tags:
                self._fail(event, "directives (%YAML, %TAG) are not allowed.")
            data = self._node(next(self._events), ())
        if data is None:
            raise EmbodimentError(f"{self._name}: the file is empty.")
        return YamlFile(data, self._lines)

    def _node(self, event: yaml.Event, loc: Loc) -> Data:
        self._check_node(event, loc)
        self._lines.setdefault(loc, _line(event))
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, loc)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Data] = []
            while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(event, (*loc, len(items))))
            return tuple(items)
        block: dict[str, Data] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, loc)
            block[key] = self._node(next(self._events), (*loc, key))
        return block

    def _check_node(self, event: yaml.Event, loc: Loc) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._fail(event, f"more than {MAX_NODES} values.")
        if len(loc) > MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH} levels.")
        if isinstance(event, yaml.AliasEvent):
            self._fail(event, f"alias '*{event.anchor}' is not allowed; write the value out.", loc)
        for kind, mark in (("anchor", "&"), ("tag", "")):
            given = getattr(event, kind, None)
            if given is not None:
                self._fail(event, f"{kind} '{mark}{given}' is not allowed.", loc)

    def _key(self, event: yaml.Event, block: Loc) -> str:
        self._check_node(event, block)
        if not isinstance(event, yaml.ScalarEvent):
            self._fail(event, "a list or block cannot be a key; a key is a word.", block)
        key = self._scalar(event, block)
        if not isinstance(key, str) or not key:
            self._fail(event, f"'{event.value[:40]}' cannot be a key; a key is a word.", block)
        loc = (*block, key)
        if loc in self._lines:
            self._fail(event, f"given twice; the first is on line {self._lines[loc]}.", loc)
        self._lines[loc] = _line(event)
        return key

    def _scalar(self, event: yaml.ScalarEvent, loc: Loc) -> Data:
        text: str = event.value
        if event.style:  # in quotes, or a block
            return text
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if "\t" in text:
            self._fail(event, "a tab between words; put the text in quotes.", loc)
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
