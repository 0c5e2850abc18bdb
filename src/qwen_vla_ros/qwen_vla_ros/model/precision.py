"""Which numbers the model computes in, by the words that people choose them with."""

from __future__ import annotations

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
