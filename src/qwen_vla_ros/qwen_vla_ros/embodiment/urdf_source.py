"""Reads .urdf and .xacro files into plain URDF text, and refuses what could reach elsewhere.

A robot description is data. XML entities, files outside the folder and free Python expressions
turn it into a program, so none of them is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.parsers import expat

import xacro

from qwen_vla_ros.embodiment.problems import label, printable
from qwen_vla_ros.embodiment.xacro_size import Element, expanded_size
from qwen_vla_ros.errors import EmbodimentError

MAX_BYTES = 4 * 1024 * 1024
MAX_ELEMENTS = 20_000
MAX_DEPTH = 64
MAX_INCLUDED_FILES = 32

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


class _Prescan:
    """One pass over a file with a bare XML parser, before anything is expanded."""

    def __init__(self, path: Path, data: bytes, *, is_xacro: bool) -> None:
        self.path = path
        self._is_xacro = is_xacro
        self.includes: list[str] = []
        self.root = Element("", "")
        self._elements = 0
        self._open = [self.root]
        self._parser = expat.ParserCreate()
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
        element = Element(tag, attributes.get("name", ""))
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
    roots: list[Element] = []
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
        scan = _Prescan(current, _read_bytes(current), is_xacro=path.suffix == ".xacro")
        waiting.extend(path.parent / name for name in scan.includes)
        roots.append(scan.root)
    if expanded_size(roots) > MAX_ELEMENTS:
        sentence = f"its macros make more than {MAX_ELEMENTS} XML elements, or have no end."
        raise EmbodimentError(f"{label(path)}: {sentence}")


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise EmbodimentError(f"{label(path)}: larger than {MAX_BYTES} bytes.")
        data = path.read_bytes()
        data.decode("utf-8-sig")
    except OSError as error:
        raise EmbodimentError(f"{label(path)}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise EmbodimentError(f"{label(path)}: is not UTF-8 text.") from None
    return data
