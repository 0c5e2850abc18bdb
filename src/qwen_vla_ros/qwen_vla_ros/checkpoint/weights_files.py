"""Where each weight of a folder is: in one safetensors file, or in several with an index.

    model.safetensors                                 up to `SHARD_BYTES`
    model-00001-of-00003.safetensors, ...             beyond that, as transformers does
    model.safetensors.index.json                      weight by file

Nothing here reads a weight; only headers and the index are looked at, and held against each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen_vla_ros.checkpoint.weights_header import MAX_TENSORS, TensorEntry, read_header
from qwen_vla_ros.data_file import read_object
from qwen_vla_ros.errors import CheckpointError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

SHARD_BYTES = 4_000_000_000
"""A file that every file system and every download takes."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.safetensors")


@dataclass(frozen=True)
class StoredWeight:
    """One weight: the file that holds it, and what that file's header says of it."""

    path: Path
    entry: TensorEntry

    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Hold the weight, which is called `name` here, against the shape that the model has.

        Raises:
            CheckpointError: When it is another.
        """
        if self.entry.shape != shape:
            raise CheckpointError(
                f"{self.path}: weight '{name}' has shape {list(self.entry.shape)}; "
                f"the model's is {list(shape)}."
            )


def find_weights(directory: Path, *, others: bool = False) -> dict[str, StoredWeight]:
    """Return every weight in a folder by its name.

    Args:
        directory: The folder.
        others: Whether the folder may hold safetensors files that the index does not name, as
            those of published models do.

    Raises:
        CheckpointError: When headers and index do not say the same.
    """
    single, index = directory / WEIGHTS, directory / INDEX
    if not index.is_file():
        if not others:
            sentence = f"there is no {INDEX} that names it, and without one only {WEIGHTS} counts."
            _refuse_strangers(directory, {WEIGHTS}, sentence)
        return {name: StoredWeight(single, entry) for name, entry in read_header(single).items()}
    if single.exists():
        raise CheckpointError(
            f"{index}: says that the weights are in several files, and {WEIGHTS} is there too. "
            "Remove the one that is not meant."
        )
    places = _read_index(index)
    if not others:
        _refuse_strangers(directory, set(places.values()), f"{INDEX} does not name it. Remove it.")
    found: dict[str, StoredWeight] = {}
    for file in sorted(set(places.values())):
        path = directory / file
        header = read_header(path)
        _check_against_index(path, header, places)
        found |= {name: StoredWeight(path, entry) for name, entry in header.items()}
    return found


def split_into_shards(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Return which weights go into which file: in order, each file below `limit` bytes.

    A weight that is larger than `limit` gets a file of its own.
    """
    shards: list[list[str]] = []
    filled = 0
    for name, size in sizes.items():
        if not shards or filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def shard_names(count: int) -> list[str]:
    """Return the names of `count` files."""
    if count == 1:
        return [WEIGHTS]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def index_of(shards: Sequence[Iterable[str]], total_bytes: int) -> dict[str, object]:
    """Return the content of the index."""
    names = shard_names(len(shards))
    places = {weight: file for file, shard in zip(names, shards, strict=True) for weight in shard}
    return {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(places.items()))}


def _read_index(path: Path) -> dict[str, str]:
    index = read_object(path)
    places = index.get("weight_map")
    if set(index) - {"metadata", "weight_map"} or not isinstance(places, dict):
        raise CheckpointError(f"{path}: must have weight_map, and may have metadata; no more.")
    if not 0 < len(places) <= MAX_TENSORS:
        raise CheckpointError(
            f"{path}: {len(places)} weights; at least 1 and at most {MAX_TENSORS} are allowed."
        )
    for weight, file in places.items():
        if not isinstance(file, str) or not _PLAIN_NAME.fullmatch(file) or ".." in file:
            raise CheckpointError(
                f"{path}: weight {weight[:80]!r} is said to be in {str(file)[:80]!r}; only the "
                "name of a .safetensors file in the same folder is allowed."
            )
    return places


def _check_against_index(
    path: Path, header: Mapping[str, TensorEntry], places: Mapping[str, str]
) -> None:
    for name in header:
        place = places.get(name)
        if place is None:
            raise CheckpointError(f"{path}: weight {name[:80]!r} is not in the index.")
        if place != path.name:
            raise CheckpointError(
                f"{path}: holds weight {name[:80]!r}, which the index places in {place}."
            )
    for name, place in places.items():
        if place == path.name and name not in header:
            raise CheckpointError(
                f"{path}: weight {name[:80]!r} is missing; the index places it there."
            )


def _refuse_strangers(directory: Path, known: set[str], sentence: str) -> None:
    for path in sorted(directory.glob("*.safetensors")):
        if path.name not in known:
            raise CheckpointError(f"{path}: {sentence}")
