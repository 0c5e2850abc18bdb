"""A run of training in a folder: made from a recipe, ended at any time, gone on with later.

recipe.json     what was asked
begin/          the untrained checkpoint that it began with
state.pt        where it is
log.jsonl       figures, one line per report
checkpoint/     what came out, when it is done
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from qwen_vla_ros.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qwen_vla_ros.checkpoint.fresh_checkpoint import init_checkpoint
from qwen_vla_ros.checkpoint.manifest import RobotRecord
from qwen_vla_ros.data_file import read_json, write_json
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import TrainingError
from qwen_vla_ros.model.inputs import patches_of
from qwen_vla_ros.model.model import QwenVla
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.training.batch import Reader
from qwen_vla_ros.training.batches import Batches, load_batches, repeated
from qwen_vla_ros.training.example import DataSet
from qwen_vla_ros.training.objective import Objective
from qwen_vla_ros.training.open_loop import open_loop_errors
from qwen_vla_ros.training.recipe import Recipe
from qwen_vla_ros.training.trainer import Report, Trainer

RECIPE, BEGIN, LOG, DONE = "recipe.json", "begin", "log.jsonl", "checkpoint"
LAG = 16
HELD_OUT_BATCHES = 4
INSTRUCTION = "put the yellow cube that lies on the left on the blue plate on the right"
SPARE = 16
"""Tokens: numbers of the state have one to three digits."""


class Run:
    """One stage of training in one folder."""

    def __init__(
        self, recipe: Recipe, data: list[DataSet], folder: Path, device: torch.device, workers: int
    ) -> None:
        """Begin, or find where the folder was.

        Args:
            recipe: What to do; it must be that of the folder, where there is one.
            data: Of every source of the recipe, in its order.
            folder: Made when it is not there.
            device: Where the model is trained.
            workers: Processes that make batches.

        Raises:
            TrainingError: When the folder is that of another recipe.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / RECIPE).is_file() and read_json(folder / RECIPE, Recipe) != recipe:
            raise TrainingError(
                f"{folder / RECIPE}: is not what was asked for now. Go on with that recipe, or "
                "name another folder."
            )
        write_json(folder / RECIPE, recipe)
        self._recipe, self._data, self._folder, self._workers = recipe, data, folder, workers
        self._base = self._begin(device)
        config = self._base.model.config.decoder
        robots = [each.train.embodiment for each in data]
        things = tuple(dict.fromkeys(chain.from_iterable(each.train.things for each in data)))
        self._normalization = {
            robot.name: each.normalization for robot, each in zip(robots, data, strict=True)
        }
        self._reader = Reader(
            tokenizer=self._base.tokenizer,
            images=self._base.images,
            normalization=self._normalization,
            horizon=max(robot.file.prompt.action_horizon for robot in robots),
            width=config.action_channels,
            length=self._longest(robots),
            things=things,
            blind_share=recipe.blind_share,
        )
        objective = Objective(self._base.model, recipe.objective, len(things)).to(device)
        self.trainer = Trainer(objective, recipe, torch.from_numpy(self._base.images.levels))
        self.trainer.resume(folder)

    def go(
        self, report: Report, *, end: int | None = None, ended: threading.Event | None = None
    ) -> bool:
        """Train on; True when the recipe is done.

        Args:
            report: Told about progress.
            end: Step to end at; that of the recipe if `None`.
            ended: Set by whoever wants the state kept and this to return.
        """
        recipe, trainer = self._recipe, self.trainer
        end = recipe.steps if end is None else min(end, recipe.steps)
        group = LAG * recipe.repeats
        first = trainer.step // group * LAG
        shares = [source.share for source in recipe.sources]
        batches = Batches(
            [each.train for each in self._data],
            shares,
            self._reader,
            recipe.batch_size,
            recipe.seed,
        )
        loader = load_batches(
            batches,
            first,
            first + 1 + (end - first * recipe.repeats) // recipe.repeats + LAG,
            self._workers,
            pinned=trainer.device.type == "cuda",
        )
        stream = repeated(iter(loader), trainer.step, recipe.repeats, LAG)
        with (self._folder / LOG).open("a", encoding="utf-8") as log:

            def note(step: int, figures: Mapping[str, float]) -> None:
                log.write(json.dumps({"step": step, **figures}) + "\n")
                log.flush()
                report(step, figures)

            while trainer.step < end:
                if ended is not None and ended.is_set():
                    break
                trainer.run(stream, min(end, trainer.step + 50), note)
                if trainer.step % 1000 == 0:
                    trainer.save(self._folder)
        trainer.save(self._folder)
        return trainer.step >= recipe.steps

    def validate(self) -> Mapping[str, float]:
        """Return the errors on held out moments, by robot and phase."""
        shares = [source.share for source in self._recipe.sources]
        reader = replace(self._reader, blind_share=0.0)
        held = Batches(
            [each.held_out for each in self._data],
            shares,
            reader,
            self._recipe.batch_size,
            self._recipe.seed,
        )
        batches = (held[number] for number in range(HELD_OUT_BATCHES))
        return open_loop_errors(self._mean_model, batches, self.trainer.levels)

    def write_checkpoint(self, out: Path) -> None:
        """Write the mean of the weights as a checkpoint, whole or not at all."""
        base, robots = self._base, [each.train.embodiment for each in self._data]
        origin = replace(
            base.manifest.provenance,
            weights=f"trained for {self.trainer.step} steps",
            seed=self._recipe.seed,
            embodiments=tuple(RobotRecord(name=robot.name, hash=robot.hash) for robot in robots),
            datasets=tuple(each.record for each in self._data),
            stage=self._recipe.stage,
        )
        trained = Checkpoint(
            manifest=replace(base.manifest, provenance=origin),
            model=self._mean_model,
            tokenizer=base.tokenizer,
            images=base.images,
            normalization={
                robot.file.normalization: self._normalization[robot.name] for robot in robots
            },
        )
        save_checkpoint(trained, out)

    @property
    def _mean_model(self) -> QwenVla:
        objective = self.trainer.mean.module
        assert isinstance(objective, Objective)
        return objective.model

    def _longest(self, robots: Sequence[Embodiment]) -> int:
        """Return how many tokens the longest prompt may have, with words to spare."""
        lengths = []
        for robot in robots:
            example = robot.make_example()
            prompt = build_prompt(robot, INSTRUCTION, example.state)
            counts = patches_of(self._base.images, robot, example, prompt).token_counts
            lengths.append(len(self._base.tokenizer.encode(prompt.text, counts).ids))
        return max(lengths) + SPARE

    def _begin(self, device: torch.device) -> Checkpoint:
        recipe = self._recipe
        if recipe.checkpoint is not None:
            return load_checkpoint(recipe.checkpoint, device)
        begin = self._folder / BEGIN
        if not begin.is_dir():
            robots = [each.train.embodiment for each in self._data]
            init_checkpoint(recipe.preset, begin, robots, recipe.seed)
        return load_checkpoint(begin, device)
