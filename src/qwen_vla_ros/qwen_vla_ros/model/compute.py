"""Where and in which numbers the model computes, and how much of the machine that takes."""

from __future__ import annotations

import resource

import torch

from qwen_vla_ros.errors import CheckpointError, suggest

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
AUTO = "auto"
_DEVICES = "'auto', 'cpu' or 'cuda'"


def device_of(word: str) -> torch.device:
    """Return the device of `cpu`, `cuda`, `cuda:1` or `auto`: a GPU where torch sees one.

    Raises:
        CheckpointError: When it is another word, or torch cannot compute there.
    """
    if word == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(word)
    except RuntimeError as error:
        raise CheckpointError(f"device '{word}': unknown; use {_DEVICES}.") from error
    if device.type not in {"cpu", "cuda"}:
        raise CheckpointError(f"device '{word}': not supported; use {_DEVICES}.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(f"device '{word}': torch finds no GPU here; use 'cpu' or 'auto'.")
    return device


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of `fp32`, `bf16`, or `auto`: bf16 on a GPU, fp32 elsewhere.

    Raises:
        CheckpointError: When it is another word.
    """
    if precision == AUTO:
        return DTYPES["bf16" if device.type == "cuda" else "fp32"]
    if precision not in DTYPES:
        raise CheckpointError(f"precision '{precision}':{suggest(precision, (*DTYPES, AUTO))}")
    return DTYPES[precision]


def use_threads(count: int) -> None:
    """Let torch compute with `count` CPU threads, in this whole process."""
    torch.set_num_threads(count)


def peak_memory_gib() -> dict[str, float]:
    """Return the most memory that this process ever had, by place."""
    # Linux counts in KiB.
    peak = {"CPU": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if torch.cuda.is_available():
        devices = range(torch.cuda.device_count())
        peak["GPU"] = sum(map(torch.cuda.max_memory_allocated, devices)) / 2**30
    return peak
