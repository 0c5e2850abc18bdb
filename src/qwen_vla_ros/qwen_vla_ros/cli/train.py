"""`qwen-vla train`: from demonstrations to a checkpoint; ended at any time, it goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen_vla_ros.training.recipe import Recipe


def train(
    recipe: Path | None,
    robot: str,
    data: Path | None,
    out: Path,
    device: str,
    steps: int,
    workers: int,
) -> int:
    """Train as a recipe says, or a nano from scratch on one robot's demonstrations.

    Args:
        recipe: YAML file; `None` makes one of `robot` and `data`.
        robot: Name or path of the embodiment file.
        data: Folder of `qwen-vla collect`.
        out: Folder of the run; a run that is there goes on.
        device: Where the model is trained; `auto` is a GPU where there is one.
        steps: Instead of the recipe's; 0 keeps them.
        workers: Processes that draw pictures; 0 is one per core but one.

    Raises:
        QwenVlaError: The recipe, the data or the folder cannot be used.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from qwen_vla_ros.embodiment.load import load_embodiment
    from qwen_vla_ros.model.compute import device_of
    from qwen_vla_ros.training.demonstrations import read_demonstrations
    from qwen_vla_ros.training.run import DONE, Run

    asked = _recipe(recipe, robot, data, steps)
    sources = [
        read_demonstrations(load_embodiment(source.robot), source.data) for source in asked.sources
    ]
    workers = workers or max(1, (os.cpu_count() or 1) - 1)
    run = Run(asked, sources, out, device_of(device), workers)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} steps"),
        TimeRemainingColumn(), TextColumn("{task.fields[figures]}"),
    ) as progress:  # fmt: skip
        bar = progress.add_task("training", total=asked.steps, figures="")

        def report(step: int, figures: Mapping[str, float]) -> None:
            rate = asked.batch_size / figures["step_s"]
            loaded = figures["load_s"] / figures["step_s"]
            said = f"action {figures['action']:.4f}, {rate:.0f} samples/s ({loaded:.0%} waiting)"
            progress.update(bar, completed=step, figures=said)

        progress.update(bar, completed=run.trainer.step)
        is_done = run.go(report, ended=ended)
    if not is_done:
        print(f"ended at step {run.trainer.step}; the same command goes on from there")
        return 1
    for kind, error in run.validate().items():
        print(f"held out, {kind}: {error:.3f} of half the range")
    run.write_checkpoint(out / DONE)
    print(f"{out / DONE}: trained for {run.trainer.step} steps")
    return 0


def _recipe(path: Path | None, robot: str, data: Path | None, steps: int) -> Recipe:
    from qwen_vla_ros.errors import TrainingError
    from qwen_vla_ros.training.recipe import Recipe, SourceConfig, read_recipe

    if (path is None) == (data is None) or (data is not None) != bool(robot):
        raise TrainingError("name a recipe (YAML), or --robot and --data; not both.")
    if path is not None:
        recipe = read_recipe(path)
    else:
        assert data is not None
        recipe = Recipe(sources=(SourceConfig(robot=robot, data=data),))
    return replace(recipe, steps=steps) if steps else recipe
