"""How far a model's answers are from the demonstrator's, on moments that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from qwen_vla_ros.model.model import QwenVla
from qwen_vla_ros.model.sampling import decode, draw_noise, step_times
from qwen_vla_ros.training.batch import Batch


def open_loop_errors(
    model: QwenVla, batches: Iterable[Batch], levels: Tensor, *, steps: int = 4, seed: int = 0
) -> Mapping[str, float]:
    """Return the mean absolute error by robot and phase, in halves of the normalised range.

    By phase, because the mean over all hides the one that matters: reaching for what can only be
    seen. Nothing is committed, and the temperature is 0.5.

    Args:
        model: To be measured.
        batches: Held out.
        levels: What the bytes of a picture are worth; (3, 256), on the model's device.
        steps: Euler steps.
        seed: Of the noise.
    """
    device = levels.device
    schedule = model.decoder.schedule(step_times(steps))
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[float]] = {}
    with torch.no_grad():
        for batch in batches:
            there = batch.to(device, levels)
            context = model.backbone(
                model.backbone.lay_out(there.inputs), there.inputs.pixel_values
            )
            # Of one horizon at a time: an answer has no masked rows.
            for horizon in sorted({int(rows.any(dim=1).sum()) for rows in there.mask}):
                chosen = there.mask.any(dim=2).sum(dim=1) == horizon
                mask = there.mask[chosen, :horizon]
                part = type(context)(
                    context.hidden[chosen],
                    context.positions[:, chosen],
                    None if context.mask is None else context.mask[chosen],
                )
                noise = draw_noise(mask.cpu(), generator, temperature=0.5).to(device)
                decoded = decode(model.decoder, part, noise, mask, schedule)
                apart = ((decoded - there.actions[chosen, :horizon]).abs() * mask).sum(dim=(1, 2))
                error = (apart / mask.sum(dim=(1, 2))).tolist()
                for row, value in zip(chosen.nonzero()[:, 0].tolist(), error, strict=True):
                    found.setdefault(batch.kinds[row], []).append(value)
    return {kind: float(np.mean(values)) for kind, values in sorted(found.items())}
