"""Demonstrations from the simulator: drawn again each time that they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from qwen_vla_ros.checkpoint.manifest import DatasetRecord
from qwen_vla_ros.data_file import read_object
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import TrainingError
from qwen_vla_ros.sim.random_scenes import random_scenes
from qwen_vla_ros.sim.scene_renderer import SceneRenderer
from qwen_vla_ros.sim.variation import Variation
from qwen_vla_ros.training.example import DataSet, Example
from qwen_vla_ros.training.statistics import statistics_of
from qwen_vla_ros.types import Observation

HELD_OUT = 20
"""One episode of so many is kept to measure with."""
SCATTERED = 0.3
"""Share of the moments whose objects lie anywhere else. They only say where things are: what was
right to do is not right there."""
ROWS = ("qpos", "state", "actions", "instruction", "objects", "target", "phase", "episode")
NOTHING = -1

Array = Any
"""A NumPy array whose kind is that of its shard."""


class Demonstrations:
    """One part of the rows in a folder of shards; see `Source`.

    It travels to another process as the name of its folder: rows and OpenGL are had anew there.
    """

    def __init__(
        self, embodiment: Embodiment, folder: Path, *, held_out: bool, varied: bool
    ) -> None:
        """Name a part of a folder.

        Args:
            embodiment: The robot that the demonstrations are of.
            folder: With `scene.mjb`, `scene.json` and shards, as `qwen-vla collect` writes it.
            held_out: Whether to have the episodes that are measured with, or all others.
            varied: Whether pictures differ each time, and objects are scattered in some.

        Raises:
            CheckpointError: When the folder lacks its `scene.json`.
            TrainingError: When it holds no demonstrations.
        """
        if not any(folder.glob("shard_*.npz")):
            raise TrainingError(
                f"{folder}: holds no demonstrations (shard_*.npz). Make some with "
                f"`qwen-vla collect --robot {embodiment.name} --out {folder}`."
            )
        self.embodiment = embodiment
        self._folder, self._held_out, self._varied = folder, held_out, varied
        self._scene = read_object(folder / "scene.json")
        self.things = tuple(str(name) for name in self._scene["objects"])
        self._rows: dict[str, Array] = {}
        self._instructions: list[str] = []
        self._renderer: SceneRenderer | None = None

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.rows["episode"])

    def __getstate__(self) -> dict[str, object]:
        """Leave behind what is large or belongs to one process."""
        return {**self.__dict__, "_rows": {}, "_instructions": [], "_renderer": None}

    @property
    def rows(self) -> dict[str, Array]:
        """All rows, by the name of the array in a shard."""
        if not self._rows:
            parts: dict[str, list[Array]] = {name: [] for name in ROWS}
            for path in sorted(self._folder.glob("shard_*.npz")):
                with np.load(path, allow_pickle=False) as shard:
                    if "episode" not in shard:
                        continue  # none of its episodes succeeded
                    chosen = (shard["episode"] % HELD_OUT == 0) == self._held_out
                    for name in ROWS:
                        parts[name].append(shard[name][chosen])
                    parts["instruction"][-1] += len(self._instructions)
                    self._instructions += [str(text) for text in shard["instructions"]]
            self._rows = {name: np.concatenate(values) for name, values in parts.items()}
        return self._rows

    def draw(self, rng: np.random.Generator, count: int) -> Sequence[Example]:
        """Return `count` moments, all rows as often as one another."""
        if self._renderer is None:
            self._renderer = SceneRenderer(self._folder / "scene.mjb", self._folder / "scene.json")
        chosen = rng.integers(len(self), size=count)
        return [self._example(self._renderer, int(row), rng) for row in chosen]

    def _example(self, renderer: SceneRenderer, row: int, rng: np.random.Generator) -> Example:
        moment = {name: values[row] for name, values in self.rows.items()}
        qpos, objects, actions = moment["qpos"], moment["objects"], moment["actions"]
        target, instruction = int(moment["target"]), self._instructions[moment["instruction"]]
        if self._varied and rng.random() < SCATTERED:
            # Poses of one row alone: what the robot measured must stay what is drawn.
            scattered = random_scenes(
                renderer.model, self._scene, qpos[None], moment["state"][None], 1, rng
            )
            qpos, objects, actions = scattered["qpos"][0], scattered["objects"][0], actions[:0]
            there = np.flatnonzero(np.isfinite(objects[:, 0]))
            target = int(rng.choice(there)) if there.size else NOTHING
            if target != NOTHING:
                phrase = str(rng.choice(self._scene["phrases"]))
                instruction = phrase.format(thing=self.things[target].replace("_", " "))
        look = (
            Variation.draw(rng).applied(renderer.model, self.things, target)
            if self._varied
            else nullcontext()
        )
        with look:
            pictures = renderer.render(qpos, objects)
            pixels, in_sight = renderer.locate(qpos, objects)
        names = [view.name for view in renderer.views]
        sizes = [view.input_px for view in renderer.views]
        return Example(
            observation=Observation(
                stamp_ns=0,
                images=dict(zip(names, pictures, strict=True)),
                state=moment["state"].astype(float),
            ),
            instruction=instruction,
            actions=actions.astype(float),
            places={
                thing: {
                    name: (float(pixels[c, n, 0] / size[0]), float(pixels[c, n, 1] / size[1]))
                    for c, (name, size) in enumerate(zip(names, sizes, strict=True))
                    if in_sight[c, n]
                }
                for n, thing in enumerate(self.things)
            },
            named=() if target == NOTHING else (self.things[target],),
            phase=str(int(moment["phase"])),
        )


def read_demonstrations(embodiment: Embodiment, folder: Path) -> DataSet:
    """Return the demonstrations in a folder.

    Raises:
        CheckpointError: When the folder lacks its `scene.json`.
        TrainingError: When there are none.
    """
    train = Demonstrations(embodiment, folder, held_out=False, varied=True)
    episodes = len(np.unique(train.rows["episode"]))
    return DataSet(
        train=train,
        held_out=Demonstrations(embodiment, folder, held_out=True, varied=False),
        record=DatasetRecord(
            name=f"{embodiment.name} by its scripted expert",
            episodes=episodes,
            licence="Apache-2.0",
        ),
        normalization=statistics_of(
            embodiment,
            train.rows["actions"],
            f"{episodes} episodes of the scripted expert in simulation",
        ),
    )
