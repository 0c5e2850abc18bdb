"""Values as bytes: msgpack with NumPy arrays, as openpi's clients and servers write it.

An array is a map with the keys `__ndarray__`, `data`, `dtype` and `shape`; so is a NumPy scalar
with `__npgeneric__`. openpi writes these keys as bytes, vla-eval as text. What is read was written
by a stranger: nothing in it can run code, and nothing is allocated because a header claims so.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgpack
import numpy as np

from qwen_vla_ros.errors import QwenVlaError

MAX_BYTES = 16 * 2**20
"""Largest message in either direction."""

MAX_ITEMS = 1024
"""Most entries of one list or map."""
MAX_CONTAINERS = 512
"""Most lists and maps of one message; an array takes two. Bounds what small bytes can become."""
MAX_TEXT_BYTES = 64 * 1024
MAX_DEPTH = 8
MAX_DIMENSIONS = 6

UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)
"""What msgpack raises over damaged bytes."""

# Booleans, integers and floats of up to 8 bytes: no objects, no records, no texts, no times.
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
_ARRAY, _SCALAR = b"__ndarray__", b"__npgeneric__"
_PLAIN = (str, bytes, bool, int, float, type(None), np.ndarray, np.generic)


class WireError(QwenVlaError):
    """What came over the wire cannot be used."""


def pack(value: Any, *, has_text_keys: bool = False) -> bytes:
    """Return the bytes of nested dicts and lists with texts, numbers, bytes and arrays.

    Args:
        value: What is written.
        has_text_keys: Write an array's own keys as text, and a NumPy scalar as a plain number.

    Raises:
        ValueError: An array or a scalar has a type that nobody would read.
    """
    return bytes(msgpack.packb(value, default=_describe_in_text if has_text_keys else _describe))


def unpack(data: bytes | str) -> Any:
    """Return the value that `pack` was given; its arrays are read-only.

    Raises:
        WireError: It is a text, the bytes are damaged, or they claim more than is allowed.
    """
    if isinstance(data, str):
        raise WireError("a text, where a binary message belongs.")
    try:
        value = msgpack.unpackb(data, **_Reader().options)
    except UNREADABLE as error:
        raise _unreadable(error) from error
    _check_plain(value, MAX_DEPTH)
    return value


class _Reader:
    """Makes arrays of maps, and counts what a message is made of."""

    def __init__(self) -> None:
        self.containers = 0
        self.options: dict[str, Any] = {
            "object_hook": self._on_map,
            "list_hook": self._on_list,
            "ext_hook": _refuse_extension,
            "max_array_len": MAX_ITEMS,
            "max_map_len": MAX_ITEMS,
            "max_str_len": MAX_TEXT_BYTES,
            "max_bin_len": MAX_BYTES,
            "max_ext_len": 16,
        }

    def _on_list(self, items: list[Any]) -> list[Any]:
        self._count()
        return items

    def _on_map(self, entries: dict[Any, Any]) -> Any:
        self._count()
        if _ARRAY in entries:
            return _array(entries)
        if _ARRAY.decode() in entries:
            return _array({key.encode(): entries[key] for key in entries if isinstance(key, str)})
        return _scalar(entries) if _SCALAR in entries else entries

    def _count(self) -> None:
        self.containers += 1
        if self.containers > MAX_CONTAINERS:
            raise WireError(f"more than {MAX_CONTAINERS} lists and maps in one message.")


def _unreadable(error: Exception) -> WireError:
    return WireError(f"this is no msgpack that is taken here: {error}.")


def _describe(value: object) -> dict[bytes, Any]:
    if isinstance(value, np.ndarray | np.generic) and _DTYPE.fullmatch(value.dtype.str):
        if isinstance(value, np.ndarray):
            return {
                _ARRAY: True,
                b"data": value.tobytes(),
                b"dtype": value.dtype.str,
                b"shape": value.shape,
            }
        return {_SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    kind = getattr(value, "dtype", type(value).__name__)
    raise ValueError(f"{kind} cannot be sent; numbers and arrays of numbers can")


def _describe_in_text(value: object) -> Any:
    described = _describe(value)
    if _SCALAR in described:
        return described[b"data"]
    return {key.decode(): item for key, item in described.items()}


def _array(entries: dict[Any, Any]) -> np.ndarray[Any, Any]:
    dtype = _dtype(entries)
    shape, data = entries.get(b"shape"), entries.get(b"data")
    if not isinstance(shape, list) or not isinstance(data, bytes):
        raise WireError("an array needs a shape that is a list, and data that is bytes.")
    if len(shape) > MAX_DIMENSIONS or not all(_is_length(length) for length in shape):
        raise WireError(f"an array of shape {str(shape)[:60]}; {MAX_DIMENSIONS} lengths at most.")
    # Python's integers do not overflow: a product of huge lengths is merely wrong.
    if math.prod(shape) * dtype.itemsize != len(data):
        raise WireError(f"an array of shape {shape} and type {dtype} in {len(data)} bytes.")
    return np.frombuffer(data, dtype).reshape(shape)


def _scalar(entries: dict[Any, Any]) -> np.generic:
    value = entries.get(b"data")
    if not isinstance(value, int | float):
        raise WireError("a NumPy scalar needs data that is a number.")
    try:
        with np.errstate(over="ignore"):
            scalar: np.generic = _dtype(entries).type(value)
    except (ValueError, OverflowError) as error:
        raise WireError(f"a NumPy scalar cannot be read: {error}.") from error
    return scalar


def _dtype(entries: dict[Any, Any]) -> np.dtype[Any]:
    text = entries.get(b"dtype")
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise WireError(
            f"an array of type {str(text)[:20]!r}. Allowed: booleans, integers and floats of up "
            "to 8 bytes, such as '|u1' and '<f4'."
        )
    return np.dtype(text)


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_BYTES


def _refuse_extension(code: int, data: bytes) -> None:
    raise WireError(f"a msgpack extension of type {code} with {len(data)} bytes.")


def _check_plain(value: object, depth: int) -> None:
    """Refuse what is nested deeper than `depth`, and the one type that msgpack adds by itself."""
    if isinstance(value, dict | list):
        if depth == 0:
            raise WireError(f"a message nested deeper than {MAX_DEPTH}.")
        for item in value.values() if isinstance(value, dict) else value:
            _check_plain(item, depth - 1)
    elif not isinstance(value, _PLAIN):
        raise WireError(f"a msgpack value of type {type(value).__name__}.")
