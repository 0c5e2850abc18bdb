"""How large a xacro file becomes, told before it is expanded.

A few nested macros of ten calls each make millions of elements, and xacro cannot be interrupted.
The bound counts what every call and inserted block would put in its place; conditions count as
always true, so that it is never too low.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_NESTED_MACROS = 32


@dataclass
class Element:
    """An XML element as far as its growth goes; `name` is its attribute of that name."""

    tag: str
    name: str
    children: list[Element] = field(default_factory=list)


@dataclass(frozen=True)
class _Grown:
    """How many elements something becomes, and how often it inserts the blocks it is given."""

    elements: float
    insertions: float


def expanded_size(roots: Sequence[Element]) -> float:
    """Return a bound on the elements after expansion; infinity where macros call themselves."""
    return _Bound(roots).grow_all(roots, 0).elements


class _Bound:
    def __init__(self, roots: Sequence[Element]) -> None:
        # A macro may be called by the namespace of its file, which is left out here.
        self._bodies: dict[str, list[Element]] = {}
        self._known: dict[str, _Grown] = {}
        waiting = list(roots)
        while waiting:
            element = waiting.pop()
            waiting.extend(element.children)
            if element.tag in ("xacro:macro", "xacro:property"):
                body = self._bodies.setdefault(_plain(element.name), [])
                body.extend(element.children)

    def grow_all(self, elements: Sequence[Element], depth: int) -> _Grown:
        grown = [self._grow(element, depth) for element in elements]
        return _Grown(
            sum((each.elements for each in grown), 0.0),
            sum((each.insertions for each in grown), 0.0),
        )

    def _grow(self, element: Element, depth: int) -> _Grown:
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
