"""The batches of a run: number n is the same whoever makes it, and whenever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from qwen_vla_ros.training.batch import Batch, Reader
from qwen_vla_ros.training.example import Source


@dataclass(frozen=True)
class Batches(Dataset[Batch]):
    """Batch by number. Every source has the same share of each, to within one example.

    Attributes:
        sources: Their order is that of `Batch.robots`.
        shares: Of every source, relative to the others.
        size: Examples in a batch.
        seed: Of the run.
    """

    sources: Sequence[Source]
    shares: Sequence[float]
    reader: Reader
    size: int
    seed: int

    def __getitem__(self, number: int) -> Batch:
        """Return batch `number`."""
        rng = np.random.default_rng((self.seed, number))
        examples = [
            (source.embodiment, at, example)
            for at, (source, count) in enumerate(
                zip(self.sources, self.counts(number), strict=True)
            )
            for example in source.draw(rng, int(count))
        ]
        return self.reader.read(examples, rng)

    def counts(self, number: int) -> npt.NDArray[np.int64]:
        """Return how many examples each source has in batch `number`.

        What rounding takes from a source in one batch it is given in a later one.
        """
        ends = np.cumsum(self.shares) / np.sum(self.shares) * self.size
        counts: npt.NDArray[np.int64] = np.diff(
            np.floor((number + 1) * ends + 1e-9) - np.floor(number * ends + 1e-9), prepend=0
        ).astype(np.int64)
        return counts


def load_batches(
    batches: Batches, first: int, end: int, workers: int, *, pinned: bool
) -> DataLoader[Batch]:
    """Return batches `first` to `end` - 1 in their order, made by `workers` processes.

    Args:
        batches: Where they come from.
        first: Number of the first batch.
        end: Number behind the last batch.
        workers: Processes; none makes them in this one.
        pinned: Whether a GPU fetches them.
    """
    numbers: Any = range(first, end)
    return DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        pin_memory=pinned,
        prefetch_factor=4 if workers else None,
        persistent_workers=False,
        # A renderer's context does not survive a fork.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_alone,
    )


def _alone(_: int) -> None:
    """Keep a process to one thread: there is one for every processor."""
    torch.set_num_threads(1)
