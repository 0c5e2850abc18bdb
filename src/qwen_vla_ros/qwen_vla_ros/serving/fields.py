"""A stranger's map, read one field at a time: each is what it must be, or a sentence says so."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qwen_vla_ros.serving.wire import WireError
from qwen_vla_ros.types import FloatArray

MOST_STAGES = 32
MAX_STAMP_NS = 2**63 - 1


class Fields:
    """What `wire.unpack` returned, if it is a map with texts for keys."""

    def __init__(self, value: object) -> None:
        """Take a value.

        Raises:
            WireError: It is no map.
        """
        if not isinstance(value, dict):
            raise WireError(f"a map is needed, not {type(value).__name__}.")
        self._entries: dict[Any, Any] = value

    def __contains__(self, key: str) -> bool:
        return self._entries.get(key) is not None

    def text(self, key: str, longest: int = 256) -> str:
        """Return a text of at most `longest` characters."""
        value = self._entries.get(key)
        if not isinstance(value, str) or len(value) > longest:
            raise self._error(key, f"a text of at most {longest} characters")
        return value

    def texts(self, key: str, most: int = 64) -> tuple[str, ...]:
        """Return a list of at most `most` texts."""
        value = self._entries.get(key)
        if not isinstance(value, list) or len(value) > most:
            raise self._error(key, f"a list of at most {most} texts")
        if not all(isinstance(item, str) for item in value):
            raise self._error(key, "a list of texts")
        return tuple(value)

    def whole(self, key: str, lowest: int = 0, highest: int = MAX_STAMP_NS) -> int:
        """Return a whole number between the two bounds."""
        value = self._entries.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._error(key, "a whole number")
        if not lowest <= value <= highest:
            raise self._error(key, f"a whole number from {lowest} to {highest}")
        return value

    def number(self, key: str, lowest: float, highest: float) -> float:
        """Return a finite number between the two bounds."""
        value = self._entries.get(key)
        if isinstance(value, int | float | np.number) and not isinstance(value, bool):
            number = float(value)
            if lowest <= number <= highest:
                return number
        raise self._error(key, f"a number from {lowest:g} to {highest:g}")

    def flag(self, key: str) -> bool:
        """Return true or false; a key that is absent is false."""
        value = self._entries.get(key, False)
        if not isinstance(value, bool):
            raise self._error(key, "true or false")
        return value

    def rows(self, key: str, columns: int, most: int) -> FloatArray:
        """Return finite numbers of shape (up to `most`, `columns`)."""
        value = self._floats(key)
        if value.ndim != 2 or value.shape[1] != columns or len(value) > most:
            raise self._error(key, f"an array of shape (up to {most}, {columns})")
        return self._finite(key, value)

    def vector(self, key: str, length: int) -> FloatArray:
        """Return finite numbers of shape (`length`,)."""
        value = self._floats(key)
        if value.shape != (length,):
            raise self._error(key, f"an array of shape ({length},)")
        return self._finite(key, value)

    def seconds(self, key: str) -> dict[str, float]:
        """Return those entries of a map that are durations."""
        return read_seconds(self._entries.get(key))

    def _floats(self, key: str) -> FloatArray:
        value = self._entries.get(key)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
            raise self._error(key, "an array of numbers")
        return value.astype(np.float64)

    def _finite(self, key: str, value: FloatArray) -> FloatArray:
        if not np.isfinite(value).all():
            place = np.argwhere(~np.isfinite(value))[0].tolist()
            raise WireError(f"'{key}': not finite at {place}: {value[tuple(place)]}.")
        return value

    def _error(self, key: str, needed: str) -> WireError:
        value = self._entries.get(key)
        if value is None:
            return WireError(f"'{key}' is missing; {needed} is needed.")
        shown = (
            f"an array of shape {value.shape} and type {value.dtype}"
            if isinstance(value, np.ndarray)
            else f"{type(value).__name__} {str(value)[:60]!r}"
        )
        return WireError(f"'{key}': {shown} does not fit; {needed} is needed.")


def read_seconds(value: object) -> dict[str, float]:
    """Return those entries of a map that are durations; a stranger's other entries are left out.

    Raises:
        WireError: It is no map, or a large one.
    """
    if not isinstance(value, dict) or len(value) > MOST_STAGES:
        raise WireError(f"a map of at most {MOST_STAGES} durations is needed.")
    return {
        name[:64]: seconds
        for name, seconds in value.items()
        if isinstance(name, str) and isinstance(seconds, float) and 0 <= seconds < math.inf
    }
