"""The backbone as it serves: what the prompt's layout says is computed once, the rest each time.

`Backbone` is the reference, and what is trained; this computes the same hidden states from the
same weights. Between the images and the hidden states no number decides what is computed next, so
that a GPU can record all of it as one graph.

Shapes: L tokens, padded; D hidden size, P patches, V image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from qwen_vla_ros.model.backbone import Backbone, Context
from qwen_vla_ros.model.fast_language import FastLanguage, TextLayout
from qwen_vla_ros.model.fast_vision import FastVision, Grid, VisionLayout
from qwen_vla_ros.model.inputs import Inputs
from qwen_vla_ros.model.tokenizer import PromptTokens


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a prompt says before an image is seen.

    Attributes:
        embedded: Embeddings of all tokens; those at the places of images mean nothing; (L, D).
        image_places: Where the image tokens stand; (V,).
        positions: Time, height and width row of every token, zero where padded; (3, 1, L).
        mask: True where a token is real; (1, L). `None` when all are, and nothing is padded.
        text: Of the language model.
        vision: Of the image encoder.
    """

    embedded: Tensor
    image_places: Tensor
    positions: Tensor
    mask: Tensor | None
    text: TextLayout
    vision: VisionLayout


class FastBackbone:
    """Reads one observation at a time; the weights must not change any more."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        model = backbone.qwen.model
        self._embedding = model.language_model.embed_tokens
        self._vision = FastVision(model.visual)
        self._language = FastLanguage(model.language_model, backbone.config.context_layer)
        self._seen: tuple[tuple[Grid, ...], VisionLayout] | None = None

    def lay_out(
        self, tokens: PromptTokens, grids: Sequence[Grid], *, bucket: int | None = None
    ) -> Layout:
        """Return what stays the same while prompt and image sizes do.

        Args:
            tokens: The prompt.
            grids: Of the images in it.
            bucket: Pad to a multiple of this many tokens, so that prompts of about one length have
                the same shapes; `None` does not pad.
        """
        device = self._embedding.weight.device
        inputs = Inputs(
            token_ids=torch.from_numpy(tokens.ids)[None],
            is_image=torch.from_numpy(tokens.is_image)[None],
            mask=None,
            patches=torch.empty(0),
            grids=torch.tensor(grids),
        )
        positions = self._backbone.positions(inputs).to(device)
        ids, mask = inputs.token_ids[0].to(device), None
        if bucket is not None:
            # On the right, where no layer looks back from.
            padding = (0, -len(ids) % bucket)
            mask = functional.pad(torch.ones(1, len(ids), device=device), padding).bool()
            ids, positions = functional.pad(ids, padding), functional.pad(positions, padding)
        return Layout(
            embedded=self._embedding(ids),
            image_places=inputs.is_image[0].nonzero()[:, 0].to(device),
            positions=positions,
            mask=mask,
            text=self._language.lay_out(positions),
            vision=self._vision_layout(tuple(grids)),
        )

    def __call__(self, layout: Layout, stills: Tensor) -> Context:
        """Read the images (P, 3 patch^2), one frame of each, at their places in the prompt."""
        seen = self._vision(stills, layout.vision)  # (V, D)
        tokens = layout.embedded.index_copy(0, layout.image_places, seen)
        hidden = self._language(tokens, layout.text)
        return Context(hidden.unsqueeze(0), layout.positions, layout.mask)

    def _vision_layout(self, grids: tuple[Grid, ...]) -> VisionLayout:
        # Prompts come and go; the cameras stay.
        if self._seen is None or self._seen[0] != grids:
            self._seen = grids, self._vision.lay_out(grids)
        return self._seen[1]
