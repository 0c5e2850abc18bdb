"""The header of a safetensors file, checked before anything trusts it.

The library maps what the header says. A hostile header can be huge, list a hundred thousand
tensors, or point outside of the file or twice to the same bytes; all of that is refused here,
having read nothing but the header.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_vla_ros.data_file import parse_object
from qwen_vla_ros.errors import CheckpointError

MAX_HEADER_BYTES = 4 * 2**20
MAX_TENSORS = 20_000
MAX_RANK = 8
BYTES_OF = {"F32": 4, "BF16": 2, "F16": 2}
"""The number formats of weights; anything else has no business here."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor in the file; its bytes are [begin, end) after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Return what a safetensors file says it holds.

    Raises:
        CheckpointError: When the header is not one that this project would have written.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; a checkpoint keeps its weights in safetensors.")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise CheckpointError(f"{path}: the header does not fit into the file.")
            if length > MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{path}: a header of {length} bytes; at most {MAX_HEADER_BYTES} are allowed."
                )
            raw = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from error
    entries = {
        name: _entry(path, name, value)
        for name, value in _parse(path, raw).items()
        if name != "__metadata__"
    }
    _check_layout(path, entries, size - 8 - length)
    return entries


def _parse(path: Path, raw: bytes) -> Mapping[str, Any]:
    header = parse_object(path, raw)
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"{path}: {len(header)} tensors; at most {MAX_TENSORS} are allowed.")
    return header


def _entry(path: Path, name: str, value: object) -> TensorEntry:
    where = f"{path}: tensor {name[:80]!r}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where}: must have dtype, shape and data_offsets, and no more.")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES_OF:
        raise CheckpointError(f"{where}: dtype {dtype!r}; allowed: {', '.join(BYTES_OF)}.")
    if not _is_counts(shape) or len(shape) > MAX_RANK:
        raise CheckpointError(f"{where}: shape must be at most {MAX_RANK} whole numbers.")
    if not _is_counts(offsets) or len(offsets) != 2:
        raise CheckpointError(f"{where}: data_offsets must be two whole numbers.")
    begin, end = offsets
    if end - begin != math.prod(shape) * BYTES_OF[dtype]:
        raise CheckpointError(f"{where}: its offsets do not fit its shape {shape}.")
    return TensorEntry(dtype, tuple(shape), begin, end)


def _is_counts(value: object) -> bool:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < 2**48 for item in value
    )


def _check_layout(path: Path, entries: Mapping[str, TensorEntry], data_bytes: int) -> None:
    at = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != at:
            raise CheckpointError(f"{path}: tensors overlap or leave gaps at byte {at}.")
        at = entry.end
    if at != data_bytes:
        raise CheckpointError(f"{path}: {data_bytes} bytes of data where tensors take {at}.")
