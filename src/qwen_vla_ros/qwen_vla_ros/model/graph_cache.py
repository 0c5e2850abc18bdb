"""A computation that is recorded once per shape of what it is given, and then replayed.

A GPU that is told kernel by kernel waits for Python; one that replays a graph does not. A graph
always reads and writes the same memory, so what is asked is copied there first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Output = TypeVar("Output")

WARM_UPS = 3
"""Runs before a recording: libraries choose their kernels and take their memory in the first."""


@dataclass(frozen=True)
class Recording(Generic[Output]):
    """What was recorded: `replay` computes again, into the tensors of `output`."""

    output: Output
    replay: Callable[[], None]


Recorder = Callable[[Callable[[], Output]], Recording[Output]]


def record_on_gpu(compute: Callable[[], Output]) -> Recording[Output]:
    """Record what `compute` has the current GPU do."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            compute()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = compute()
    return Recording(output, graph.replay)


@dataclass
class _Kept(Generic[Output]):
    lasting: Any
    asked: tuple[Any, ...]
    recording: Recording[Output]
    last: Any


class GraphCache(Generic[Output]):
    """Calls `compute(lasting, *asked)`; both hold tensors, alone or in dataclasses.

    The output belongs to the recording: it holds until the next call.
    """

    def __init__(
        self, compute: Callable[..., Output], record: Recorder[Output], *, most: int = 4
    ) -> None:
        """Record nothing yet.

        Args:
            compute: Must not look at the values of what it is given, only at shapes.
            record: Makes a recording of one call without arguments.
            most: Recordings that are kept; the one unused for longest goes first.
        """
        self._compute = compute
        self._record = record
        self._most = most
        self._kept: OrderedDict[Hashable, _Kept[Output]] = OrderedDict()

    def __call__(self, lasting: Any, *asked: Any) -> Output:
        """Compute.

        Args:
            lasting: Copied only when it is another object than the last time.
            asked: Copied every time.
        """
        shape = _shape((lasting, asked))
        kept = self._kept.get(shape)
        if kept is None:
            kept = self._kept[shape] = self._new(lasting, asked)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(shape)
        if kept.last is not lasting:
            fill(kept.lasting, lasting)
            kept.last = lasting
        fill(kept.asked, asked)
        kept.recording.replay()
        return kept.recording.output

    def _new(self, lasting: Any, asked: tuple[Any, ...]) -> _Kept[Output]:
        own_lasting, own_asked = _cloned(lasting), _cloned(asked)
        recording = self._record(lambda: self._compute(own_lasting, *own_asked))
        return _Kept(own_lasting, own_asked, recording, lasting)


def fill(into: object, source: object) -> None:
    """Copy the tensors of one value into those of another of the same make."""
    for ours, theirs in zip(_tensors(into), _tensors(source), strict=True):
        ours.copy_(theirs, non_blocking=True)


def _parts(value: Any) -> dict[str, Any]:
    """Return what is in a tuple or in a dataclass, by name."""
    if isinstance(value, tuple):
        return {str(i): part for i, part in enumerate(value)}
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return {}


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    for part in _parts(value).values():
        yield from _tensors(part)


def _shape(value: object) -> Hashable:
    """Return what two values have in common when one recording serves both."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    parts = _parts(value)
    return (type(value), *map(_shape, parts.values())) if parts else value


def _cloned(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    parts = {name: _cloned(part) for name, part in _parts(value).items()}
    if not parts:
        return value
    return tuple(parts.values()) if isinstance(value, tuple) else replace(value, **parts)
