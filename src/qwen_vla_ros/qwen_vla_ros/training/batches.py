"""The batches of a run: number n is the same whoever makes it, and whenever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from qwen_vla_ros.training.batch import Batch, Reader
from qwen_vla_ros.training.example import Source


@dataclass(frozen=True)
class Batches(Dataset[Batch]):
    """Batch by number. Every source has the same number of examples in each.

    Attributes:
        sources: Where the examples come from.
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
            (source.embodiment, example)
            for source, count in zip(self.sources, self.counts, strict=True)
            for example in source.draw(rng, count)
        ]
        return self.reader.read(examples, rng)

    @property
    def counts(self) -> list[int]:
        """How many examples of each source are in a batch."""
        ends = np.cumsum(self.shares) / np.sum(self.shares) * self.size
        return [int(count) for count in np.diff(np.round(ends), prepend=0)]


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


def repeated(batches: Iterator[Batch], first: int, times: int, lag: int = 16) -> Iterator[Batch]:
    """Yield every batch `times` times, `lag` steps apart, where making one takes long.

    Args:
        batches: Of the groups of `times * lag` steps that step `first` is in, and later.
        first: Step that is yielded first.
        times: How often each is used.
        lag: Batches that are held at once.
    """
    group = times * lag
    skip = first % group
    while True:
        held: list[Batch] = []
        for step in range(group):
            if step < lag:
                try:
                    held.append(next(batches))
                except StopIteration:
                    return
            if step >= skip:
                yield held[step % lag]
        skip = 0


def _alone(_: int) -> None:
    """Keep a process to one thread: there is one for every processor."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
