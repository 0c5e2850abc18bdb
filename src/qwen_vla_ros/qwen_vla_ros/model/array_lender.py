"""Large arrays whose memory is used again: asking for it takes longer than filling it."""

from __future__ import annotations

import math
import weakref

import numpy as np
import numpy.typing as npt

SPARE = 4
"""Arrays of one size that are kept while nobody uses them."""


class ArrayLender:
    """Lends arrays; their memory comes back by itself once nothing refers to it any more.

    Slices, views and tensors that share the memory count as users of it. A borrowed array holds
    at first what was left in it. A copy of a lender begins with nothing.
    """

    def __init__(self) -> None:
        self._spare: dict[int, list[memoryview]] = {}

    def __reduce__(self) -> tuple[type[ArrayLender], tuple[()]]:
        return ArrayLender, ()

    def floats(self, *shape: int) -> npt.NDArray[np.float32]:
        """Lend a float32 array."""
        return self._lend(4 * math.prod(shape)).view(np.float32).reshape(shape)

    def bytes(self, *shape: int) -> npt.NDArray[np.uint8]:
        """Lend a uint8 array."""
        return self._lend(math.prod(shape)).reshape(shape)

    def _lend(self, size: int) -> npt.NDArray[np.uint8]:
        if not size:
            return np.empty(0, np.uint8)
        spare = self._spare.setdefault(size, [])
        try:
            memory = spare.pop()
        except IndexError:
            memory = np.empty(size, np.uint8).data
        # Whatever is derived from this array, however far down, refers to this very object: NumPy
        # looks through bases that are arrays, and a memoryview is none.
        lent = np.frombuffer(memory, np.uint8)
        weakref.finalize(lent, _take_back, spare, memory).atexit = False
        return lent


def _take_back(spare: list[memoryview], memory: memoryview) -> None:
    if len(spare) < SPARE:
        spare.append(memory)
