"""The loop: batches in, better weights out. Ended at any time, it goes on to the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qwen_vla_ros.model.compute import dtype_of
from qwen_vla_ros.training.batch import Batch
from qwen_vla_ros.training.objective import Objective
from qwen_vla_ros.training.recipe import Recipe

STATE = "state.pt"

Report = Callable[[int, Mapping[str, float]], None]
"""Told the number of steps done, and the mean of every figure since it was told last."""


class Trainer:
    """Weights, their mean, and the optimiser of one run.

    Everything random in step n is drawn from (seed, n), so that nothing but tensors is kept.
    """

    def __init__(self, objective: Objective, recipe: Recipe, levels: Tensor) -> None:
        """Begin at step 0.

        Args:
            objective: On the device where it shall be trained; float32.
            recipe: What to do.
            levels: What the bytes of a picture are worth, see `ImageProcessor.levels`; (3, 256).
        """
        self.objective, self.recipe = objective, recipe
        self.device = next(objective.parameters()).device
        self.levels = levels.to(self.device)
        on_gpu = self.device.type == "cuda"
        self._halves = dtype_of(recipe.precision, self.device) is torch.bfloat16
        average = get_ema_multi_avg_fn(recipe.ema_decay)  # type: ignore[no-untyped-call]
        self.mean = AveragedModel(objective, multi_avg_fn=average)
        self._optimizer = torch.optim.AdamW(
            _groups(objective, recipe), betas=(0.9, 0.95), fused=on_gpu
        )
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self.step = 0

    def run(self, batches: Iterator[Batch], end: int, report: Report, every: int = 20) -> None:
        """Do steps until `end` of them are done; batches begin with that of the next step.

        Args:
            batches: One per step.
            end: Number of steps, of the whole run, after which to return.
            report: Told about progress.
            every: Steps between two reports.
        """
        sums: dict[str, Tensor] = {}
        began, waited, since = time.perf_counter(), 0.0, 0
        while self.step < end:
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            for name, value in self._advance(batch).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
            since += 1
            if since == every or self.step == end:
                figures = {name: float(total) / since for name, total in sums.items()}
                took = time.perf_counter() - began
                figures |= {"step_s": took / since, "load_s": waited / since}
                report(self.step, figures)
                sums, began, waited, since = {}, time.perf_counter(), 0.0, 0

    def losses(self, batch: Batch, number: int) -> dict[str, Any]:
        """Return the losses of one batch; `number` seeds what is drawn.

        Args:
            batch: On the CPU.
            number: Of the step.
        """
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + number)
        there = batch.to(self.device, self.levels)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._halves):
            found: dict[str, Any] = self.objective(there, generator)
        return found

    def _advance(self, batch: Batch) -> dict[str, Tensor]:
        losses = self.losses(batch, self.step)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.clip_norm)
        share = learning_rate_share(self.step, self.recipe)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.mean.update_parameters(self.objective)
        self.step += 1
        return {**{name: value.detach() for name, value in losses.items()}, "gradient": norm}

    def save(self, folder: Path) -> None:
        """Keep everything that is needed to go on, whole or not at all."""
        state = {
            "step": self.step,
            "objective": self.objective.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        partial = folder / f"{STATE}.partial"
        torch.save(state, partial)
        partial.replace(folder / STATE)

    def resume(self, folder: Path) -> bool:
        """Go on where a run in `folder` was; False when there is none."""
        path = folder / STATE
        if not path.is_file():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.objective.load_state_dict(state["objective"])
        self.mean.load_state_dict(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        return True


def learning_rate_share(step: int, recipe: Recipe) -> float:
    """Return by how much of its highest the learning rate is, at `step`."""
    rising = min(1.0, (step + 1) / max(1, recipe.warm_up_steps))
    falling = 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.steps)))
    return rising * (recipe.floor + (1 - recipe.floor) * falling)


def _groups(objective: Objective, recipe: Recipe) -> list[dict[str, Any]]:
    """Deal the weights by learning rate, and by whether they decay: only matrices do."""
    parts: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        key = name.startswith("model.backbone."), parameter.ndim > 1 and "embed" not in name
        parts.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": recipe.backbone_learning_rate if is_backbone else recipe.learning_rate,
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (is_backbone, decays), parameters in parts.items()
    ]
