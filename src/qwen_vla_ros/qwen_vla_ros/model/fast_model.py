"""The whole model as it serves one robot: backbone, then decoder, with the same shapes each time.

On a CPU both are computed as they are called. On a GPU each is recorded once and replayed, the
decoder right behind the backbone; two recordings and not one, so that each can be timed.

Shapes: P patches, H action steps, K action channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from qwen_vla_ros.model.backbone import Context
from qwen_vla_ros.model.continuation import Committed
from qwen_vla_ros.model.fast_backbone import FastBackbone, Layout
from qwen_vla_ros.model.fast_vision import Grid
from qwen_vla_ros.model.model import QwenVla
from qwen_vla_ros.model.recorded import Recorded, Recorder
from qwen_vla_ros.model.tokenizer import PromptTokens

BUCKET = 64
"""Where calls are recorded, prompts are padded to a multiple of this many tokens."""


class FastModel:
    """Answers one observation at a time; the weights must not change any more."""

    def __init__(
        self,
        model: QwenVla,
        mask: Tensor,
        steps: int,
        record: Recorder[Any] | None = None,
    ) -> None:
        """Compute what does not depend on any observation.

        Args:
            model: On the device where it shall run.
            mask: True where an action is real; (1, H, K).
            steps: Euler steps.
            record: Records calls, see `Recorded`; `None` computes each as it is called.
        """
        self._model, self._mask = model, mask
        self._backbone = FastBackbone(model.backbone)
        self._schedule = model.decoder.schedule(steps)
        self.is_recorded = record is not None
        self._read: Callable[[Layout, Tensor], Context] = self._backbone
        self._decide: Callable[[None, Context, Tensor, Committed | None], Tensor] = self._decode
        if record is not None:
            self._read = Recorded(self._backbone, record)
            self._decide = Recorded(self._decode, record)

    def lay_out(self, tokens: PromptTokens, grids: Sequence[Grid]) -> Layout:
        """Return what stays the same while the prompt and the sizes of its images do."""
        return self._backbone.lay_out(tokens, grids, bucket=BUCKET if self.is_recorded else None)

    def read(self, stills: Tensor, layout: Layout) -> Context:
        """Return what the decoder is told; it holds until the next call.

        Args:
            stills: One frame of every patch; (P, values of a frame).
            layout: Of the prompt.
        """
        return self._read(layout, stills)

    def decide(self, context: Context, noise: Tensor, committed: Committed | None) -> Tensor:
        """Return the normalised actions (1, H, K) that noise of that shape becomes."""
        if committed is not None and committed.method == "guidance":
            # Follows a gradient in every step, which is no fixed list of kernels.
            return self._decode(None, context, noise, committed)
        return self._decide(None, context, noise, committed)

    def _decode(
        self, _: None, context: Context, noise: Tensor, committed: Committed | None
    ) -> Tensor:
        return self._model.decode(context, noise, self._mask, self._schedule, committed)
