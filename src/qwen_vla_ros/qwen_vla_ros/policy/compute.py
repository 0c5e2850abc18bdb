"""How much of the machine the model may use."""

from __future__ import annotations

import torch


def use_threads(count: int) -> None:
    """Let torch compute with `count` CPU threads, in this whole process."""
    torch.set_num_threads(count)
