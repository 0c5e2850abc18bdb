"""Reads .urdf and .xacro files into plain URDF text, and refuses what could reach elsewhere.

A robot description is data. XML entities, files outside the folder and free Python expressions
turn it into a program, so none of them is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

import xacro

from qwen_vla_ros.data_file import read_text
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.problems import label, printable

MAX_BYTES = 4 * 1024 * 1024
MAX_ELEMENTS = 20_000
MAX_DEPTH = 64
MAX_INCLUDED_FILES = 32
MAX_NESTED_MACROS = 32

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SUBSTITUTION = re.compile(r"\$\((?!\s*arg\s)")
_EXPRESSION = re.compile(r"\$\{([^}]*)\}")
# Arithmetic, comparisons and calls of these functions. No attribute, no index, no power operator:
# with them an expression could read files or run for hours.
_ALPHABET = re.compile(r"[\w\s.,+\-*/%()<>=!'\"]*")
_FORBIDDEN = re.compile(r"\*\*|__|\.\s*[A-Za-z_]|\)\s*\(")
# A text times a number, or a format with a width, could fill the memory.
_QUOTE = re.compile(r"['\"]")
_GROWTH = re.compile(r"[*%]")
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
# Words of the expression language may stand before a bracket too.
# fmt: off
_FUNCTIONS = frozenset((
    "abs", "min", "max", "sqrt", "radians", "degrees", "float", "int", "round",
    "sin", "cos", "tan", "asin", "acos", "atan", "atan2",
    "and", "or", "not", "in", "if", "else",
))
# fmt: on


@dataclass
class _Element:
    """An XML element as far as its growth goes; `name` is its attribute of that name."""

    tag: str
    name: str
    children: list[_Element] = field(default_factory=list)


class _Prescan:
    """One pass over a file with a bare XML parser, before anything is expanded."""

    def __init__(self, path: Path, text: str, *, is_xacro: bool) -> None:
        self.path = path
        self._is_xacro = is_xacro
        self.includes: list[str] = []
        self.root = _Element("", "")
        self._elements = 0
        self._open = [self.root]
        self._parser = expat.ParserCreate()
        data = text.encode()
        # One piece of text at a time: `$&#123;` would otherwise come in two.
        self._parser.buffer_text = True
        self._parser.buffer_size = max(len(data), 1)
        self._parser.XmlDeclHandler = self._check_encoding
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.EntityDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._check_text
        try:
            self._parser.Parse(data, True)  # noqa: FBT003 - no keyword in C
        except expat.ExpatError as error:
            sentence = f"not well-formed XML: {expat.ErrorString(error.code)}"
            raise EmbodimentError(f"{label(path)}:{error.lineno}: {sentence}.") from None

    def _fail(self, sentence: str) -> None:
        line = self._parser.CurrentLineNumber
        raise EmbodimentError(printable(f"{label(self.path)}:{line}: {sentence}"))

    def _check_encoding(self, _version: str, encoding: str | None, _standalone: int) -> None:
        # Another encoding could show this pass one text and the next reader another.
        if encoding is not None and encoding.lower() != "utf-8":
            self._fail(f"declares the encoding '{encoding}'; use UTF-8.")

    def _refuse_doctype(self, *_: object) -> None:
        self._fail("a DOCTYPE or ENTITY is not allowed in a robot description; remove it.")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            self._fail(f"more than {MAX_ELEMENTS} XML elements.")
        if len(self._open) > MAX_DEPTH:
            self._fail(f"XML nested deeper than {MAX_DEPTH} levels.")
        if tag == "xacro:call":
            self._fail("a macro can only be called by its own name, not by xacro:call.")
        element = _Element(tag, attributes.get("name", ""))
        self._open[-1].children.append(element)
        self._open.append(element)
        for value in attributes.values():
            self._check_text(value)
        if tag.rpartition(":")[2] == "include" and "filename" in attributes:
            self.includes.append(self._included(attributes["filename"]))

    def _end(self, _tag: str) -> None:
        self._open.pop()

    def _included(self, filename: str) -> str:
        if not _PLAIN_NAME.fullmatch(filename):
            self._fail(
                f"include '{filename}': only the name of a file in the same folder is allowed."
            )
        return filename

    def _check_text(self, text: str) -> None:
        if not self._is_xacro:
            return
        if _SUBSTITUTION.search(text):
            self._fail(
                "only $(arg ...) substitutions are allowed. Expand the description with the xacro "
                "command and name the .urdf file instead."
            )
        for expression in _EXPRESSION.findall(text):
            if not _is_arithmetic(expression):
                self._fail(f"expression '{expression.strip()[:60]}': only arithmetic is allowed.")


def read_urdf_text(path: Path) -> str:
    """Return the URDF of a .urdf or .xacro file as text, xacro expanded.

    Raises:
        EmbodimentError: The file is missing, too large, not XML, holds a DOCTYPE, includes a file
            outside its own folder, or xacro cannot expand it.
    """
    _check_file_and_includes(path)
    if path.suffix != ".xacro":
        return path.read_text(encoding="utf-8-sig")
    try:
        text: str = xacro.process_file(str(path)).documentElement.toxml()
    except Exception as error:
        # Xacro evaluates expressions, so that anything can come out of it; people get a sentence.
        reason = " ".join(str(error).split()) or type(error).__name__
        sentence = printable(f"xacro cannot expand it: {reason}.")
        raise EmbodimentError(f"{label(path)}: {sentence}") from None
    if len(text) > MAX_BYTES:
        raise EmbodimentError(f"{label(path)}: larger than {MAX_BYTES} bytes when expanded.")
    return text


def _is_arithmetic(expression: str) -> bool:
    return (
        _ALPHABET.fullmatch(expression) is not None
        and not (_QUOTE.search(expression) and _GROWTH.search(expression))
        and _FORBIDDEN.search(expression) is None
        and _FUNCTIONS.issuperset(_CALL.findall(expression))
    )


def _check_file_and_includes(path: Path) -> None:
    roots: list[_Element] = []
    waiting = [path]
    seen: set[Path] = set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if len(seen) > MAX_INCLUDED_FILES:
            raise EmbodimentError(f"{label(path)}: includes more than {MAX_INCLUDED_FILES} files.")
        # What a xacro file includes is expanded too, whatever its name ends in.
        scan = _Prescan(
            current,
            read_text(current, MAX_BYTES, EmbodimentError),
            is_xacro=path.suffix == ".xacro",
        )
        waiting.extend(path.parent / name for name in scan.includes)
        roots.append(scan.root)
    if _expanded_size(roots) > MAX_ELEMENTS:
        sentence = f"its macros make more than {MAX_ELEMENTS} XML elements, or have no end."
        raise EmbodimentError(f"{label(path)}: {sentence}")


# A few nested macros of ten calls each make millions of elements, and xacro cannot be interrupted.
# The bound counts what every call and inserted block would put in its place; conditions count as
# always true, so that it is never too low.


@dataclass(frozen=True)
class _Grown:
    """How many elements something becomes, and how often it inserts the blocks it is given."""

    elements: float
    insertions: float


def _expanded_size(roots: Sequence[_Element]) -> float:
    """Return a bound on the elements after expansion; infinity where macros call themselves."""
    return _Bound(roots).grow_all(roots, 0).elements


class _Bound:
    def __init__(self, roots: Sequence[_Element]) -> None:
        # A macro may be called by the namespace of its file, which is left out here.
        self._bodies: dict[str, list[_Element]] = {}
        self._known: dict[str, _Grown] = {}
        waiting = list(roots)
        while waiting:
            element = waiting.pop()
            waiting.extend(element.children)
            if element.tag in ("xacro:macro", "xacro:property"):
                body = self._bodies.setdefault(_plain(element.name), [])
                body.extend(element.children)

    def grow_all(self, elements: Sequence[_Element], depth: int) -> _Grown:
        grown = [self._grow(element, depth) for element in elements]
        return _Grown(
            sum((each.elements for each in grown), 0.0),
            sum((each.insertions for each in grown), 0.0),
        )

    def _grow(self, element: _Element, depth: int) -> _Grown:
        if element.tag in ("xacro:macro", "xacro:property"):
            return _Grown(1, 0)
        if element.tag == "xacro:insert_block":
            inserted = self._body(_plain(element.name), depth)
            return _Grown(1 + inserted.elements, 1)
        given = self.grow_all(element.children, depth)
        kind, _, called = element.tag.partition(":")
        if kind != "xacro" or _plain(called) not in self._bodies:
            return _Grown(1 + given.elements, given.insertions)
        body = self._body(_plain(called), depth)
        times = max(1.0, body.insertions)
        return _Grown(1 + body.elements + times * given.elements, times * given.insertions)

    def _body(self, name: str, depth: int) -> _Grown:
        if name not in self._bodies:
            return _Grown(0, 0)
        if depth >= MAX_NESTED_MACROS:
            return _Grown(math.inf, 0)
        if name not in self._known:
            self._known[name] = self.grow_all(self._bodies[name], depth + 1)
        return self._known[name]


def _plain(name: str) -> str:
    return name.rpartition(".")[2]
