"""What of a chunk is settled before it is sampled: the robot plays it while the model thinks.

Shapes: B batch, H action steps, K action channels (padded).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Committed:
    """Rows of the chunk before that are played whatever the new chunk says.

    Every field has the shape of the whole chunk, however many rows are committed: a call has the
    same shapes and the same kernels each time. Nothing committed is `rows` all false.

    Attributes:
        actions: Normalised actions; read where `rows` is true; (B, H, K).
        rows: True where a row is committed; (B, H).
        method: `prefix` gives the rows to the decoder as clean data, which it must have been
            trained for (`DecoderConfig.frozen_prefix`), and returns them exactly as given.
            `guidance` pulls the sample towards them and works with any decoder.
    """

    actions: Tensor
    rows: Tensor
    method: Literal["prefix", "guidance"]
