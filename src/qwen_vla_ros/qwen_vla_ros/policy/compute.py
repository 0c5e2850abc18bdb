"""How much of the machine the model may use, and how much it has used."""

from __future__ import annotations

import ctypes
import resource

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Settings of glibc's allocator, by the numbers that its header gives them."""

LARGEST_FROM_HEAP = 32 * 2**20
"""The most that glibc takes for `M_MMAP_THRESHOLD` in every version."""

FREED_AND_KEPT = 256 * 2**20


def use_threads(count: int) -> None:
    """Let torch compute with `count` CPU threads, in this whole process."""
    torch.set_num_threads(count)


def keep_freed_memory() -> None:
    """Let this process keep memory that it frees, for the next answer to use again.

    By default glibc gives large blocks back to the system, and gets each page anew, filled with
    zeros, in the next call. Does nothing where the allocator is another.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGEST_FROM_HEAP)
        set_option(M_TRIM_THRESHOLD, FREED_AND_KEPT)


def peak_memory_gib(device: str) -> dict[str, float]:
    """Return the most memory that this process ever had, by place."""
    # Linux counts in KiB.
    peak = {"CPU": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if torch.device(device).type == "cuda":
        peak["GPU"] = torch.cuda.max_memory_allocated(device) / 2**30
    return peak
