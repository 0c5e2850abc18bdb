"""Demonstrations from the simulator: drawn again each time that they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qwen_vla_ros.checkpoint.manifest import DatasetRecord
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import TrainingError
from qwen_vla_ros.sim.scene_renderer import SceneRenderer, Variation
from qwen_vla_ros.training.example import DataSet, Example
from qwen_vla_ros.training.statistics import statistics_of
from qwen_vla_ros.types import Observation

HELD_OUT = 20
"""One episode of so many is kept to measure with."""
SCATTERED = 0.3
"""Share of the rows whose objects lie anywhere else: they only say where things are, since what
was right to do is not right there."""
NEAR_M = np.array([[0.4, -1.2], [3.0, 1.2]])
"""Ahead of a base, and to its sides."""
ROWS = ("qpos", "state", "actions", "instruction", "objects", "target", "phase", "episode")


class Demonstrations:
    """One part of the rows in a folder of shards; see `Source`."""

    def __init__(
        self, embodiment: Embodiment, folder: Path, *, held_out: bool, varied: bool
    ) -> None:
        """Read all shards of a folder.

        Args:
            embodiment: The robot that they are of.
            folder: With `scene.mjb`, `scene.json` and shards.
            held_out: Whether to have the episodes that are measured with, or all others.
            varied: Whether pictures differ each time.

        Raises:
            TrainingError: When there are none.
        """
        shards = sorted(folder.glob("shard_*.npz"))
        if not shards:
            raise TrainingError(
                f"{folder}: holds no demonstrations (shard_*.npz). Make some with "
                f"`qwen-vla collect --robot {embodiment.name} --out {folder}`."
            )
        self.embodiment = embodiment
        self._instructions: list[str] = []
        parts: dict[str, list[np.ndarray]] = {name: [] for name in ROWS}
        for path in shards:
            with np.load(path, allow_pickle=False) as shard:
                chosen = (shard["episode"] % HELD_OUT == 0) == held_out
                for name in ROWS:
                    parts[name].append(shard[name][chosen])
                parts["instruction"][-1] = parts["instruction"][-1] + len(self._instructions)
                self._instructions += [str(text) for text in shard["instructions"]]
        self._rows = {name: np.concatenate(values) for name, values in parts.items()}
        self._folder, self._varied = folder, varied
        self._renderer: SceneRenderer | None = None
        self._area = self._find_area()
        self.things = SceneRenderer(folder).objects

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows["episode"])

    @property
    def actions(self) -> np.ndarray:
        """The chunks of all rows; (rows, H, c)."""
        return self._rows["actions"]

    @property
    def episodes(self) -> int:
        """How many episodes the rows are of."""
        return len(np.unique(self._rows["episode"]))

    def __getstate__(self) -> dict[str, object]:
        """Leave OpenGL behind: each process has its own."""
        return {**self.__dict__, "_renderer": None}

    def draw(self, rng: np.random.Generator, count: int) -> Sequence[Example]:
        """Return `count` rows, any phase as often as another where there are phases."""
        if self._renderer is None:
            self._renderer = SceneRenderer(self._folder, Variation() if self._varied else None)
        return [self._example(int(row), rng) for row in self._choose(rng, count)]

    def _choose(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.integers(len(self), size=count)

    def _example(self, row: int, rng: np.random.Generator) -> Example:
        assert self._renderer is not None
        rows = {name: np.array(values[row]) for name, values in self._rows.items()}
        qpos, objects = rows["qpos"].astype(float), rows["objects"].astype(float)
        instruction = self._instructions[rows["instruction"]]
        actions, target = rows["actions"].astype(float), int(rows["target"])
        there = np.isfinite(objects[:, 0])
        if self._varied and rng.random() < SCATTERED:
            self._renderer.scatter(qpos, objects, self._area, rng)
            if self.embodiment.has_base:
                objects[:, :2] = _seen_from(rows["state"], objects[:, :2])
            target = int(rng.choice(np.flatnonzero(there)))
            phrase = str(rng.choice(self._renderer.phrases))
            instruction = phrase.format(thing=self.things[target].replace("_", " "))
            actions = actions[:0]
        pictures, places = self._renderer.draw(qpos, objects, rng)
        cameras = self._renderer.cameras
        return Example(
            observation=Observation(
                stamp_ns=0, images=pictures, state=rows["state"].astype(float)
            ),
            instruction=instruction,
            actions=actions,
            places={
                thing: {
                    camera.name: (float(places[c, n, 0]), float(places[c, n, 1]))
                    for c, camera in enumerate(cameras)
                }
                for n, thing in enumerate(self.things)
                if there[n]
            },
            named=(self.things[target],),
            phase=str(int(rows["phase"])),
        )

    def _find_area(self) -> np.ndarray:
        """Least and most x and y of where objects are, before they are moved; (2, 2)."""
        if self.embodiment.has_base:
            return NEAR_M
        begun = self._rows["objects"][:, :, :2].reshape(-1, 2)
        return np.array([np.nanquantile(begun, share, axis=0) for share in (0.01, 0.99)])


def _seen_from(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points (N, 2) in the frame of a base at `pose` (x, y, yaw) in the world's."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    turned: np.ndarray = points @ np.array([[cos, sin], [-sin, cos]]) + pose[:2]
    return turned


def read_demonstrations(embodiment: Embodiment, folder: Path) -> DataSet:
    """Return the demonstrations in a folder.

    Raises:
        TrainingError: When there are none.
    """
    train = Demonstrations(embodiment, folder, held_out=False, varied=True)
    held_out = Demonstrations(embodiment, folder, held_out=True, varied=False)
    source = f"{train.episodes} episodes of the scripted expert in simulation"
    return DataSet(
        train=train,
        held_out=held_out,
        record=DatasetRecord(
            name=f"{embodiment.name} by its scripted expert",
            episodes=train.episodes,
            licence="Apache-2.0",
        ),
        normalization=statistics_of(embodiment, train.actions, source),
    )
