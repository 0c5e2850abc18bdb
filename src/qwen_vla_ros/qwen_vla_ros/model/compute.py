"""How much of the machine the model may use, and how much it has used."""

from __future__ import annotations

import resource

import torch


def use_threads(count: int) -> None:
    """Let torch compute with `count` CPU threads, in this whole process."""
    torch.set_num_threads(count)


def peak_memory_gib(device: str) -> dict[str, float]:
    """Return the most memory that this process ever had, by place."""
    # Linux counts in KiB.
    peak = {"CPU": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if torch.device(device).type == "cuda":
        peak["GPU"] = torch.cuda.max_memory_allocated(device) / 2**30
    return peak
