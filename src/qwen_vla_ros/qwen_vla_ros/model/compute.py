"""Where and in which numbers the model computes, and how much of the machine that takes."""

from __future__ import annotations

import resource

import torch

from qwen_vla_ros.errors import CheckpointError, suggest

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
AUTO = "auto"


def dtype_of(precision: str, device: str) -> torch.dtype:
    """Return the dtype of `fp32`, `bf16`, or `auto`: bf16 on a GPU, fp32 elsewhere.

    Raises:
        CheckpointError: When it is another word, or torch cannot compute on `device` here.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise CheckpointError(f"device '{device}': unknown; use 'cpu' or 'cuda'.") from error
    if kind not in {"cpu", "cuda"}:
        raise CheckpointError(f"device '{device}': not supported; use 'cpu' or 'cuda'.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(f"device '{device}': torch finds no GPU here; use 'cpu'.")
    if precision == AUTO:
        return DTYPES["bf16" if kind == "cuda" else "fp32"]
    if precision not in DTYPES:
        raise CheckpointError(f"precision '{precision}':{suggest(precision, (*DTYPES, AUTO))}")
    return DTYPES[precision]


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
