"""A robot that sees one coloured spot and has to say where it is: the smallest thing to learn."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.training.batch import Reader
from qwen_vla_ros.training.example import Example
from qwen_vla_ros.training.objective import Objective, ObjectiveConfig
from qwen_vla_ros.training.recipe import Recipe, SourceConfig
from qwen_vla_ros.training.trainer import Trainer

THINGS = ("red_ball", "blue_ball")
COLOURS = {"red_ball": (220, 20, 20), "blue_ball": (20, 40, 220)}


@dataclass(frozen=True)
class Spots:
    """A `Source`: two spots, of which the instruction names one; the way there is what to do."""

    embodiment: Embodiment
    things: tuple[str, ...] = THINGS

    def draw(self, rng: np.random.Generator, count: int) -> list[Example]:
        return [self._example(rng) for _ in range(count)]

    def _example(self, rng: np.random.Generator) -> Example:
        (camera,) = self.embodiment.file.cameras
        size = camera.input_width_px
        image = np.full((size, size, 3), 90, np.uint8)
        places = {}
        for thing in THINGS:
            column, row = rng.uniform(0.1, 0.9, 2)
            x, y = int(column * size), int(row * size)
            image[y - 8 : y + 8, x - 8 : x + 8] = COLOURS[thing]
            places[thing] = {camera.name: (float(column), float(row))}
        named = THINGS[rng.integers(2)]
        turn = 0.5 - places[named][camera.name][0]
        actions = np.tile([0.1, 0.0, 0.3 * turn], (8, 1))
        return Example(
            observation=replace(self.embodiment.make_example(), images={camera.name: image}),
            instruction=f"go to the {named.replace('_', ' ')}",
            actions=actions,
            places=places,
            named=(named,),
            phase="drive",
        )


@pytest.fixture
def spots(diffbot) -> Spots:
    return Spots(diffbot)


@pytest.fixture
def reader(tiny, diffbot) -> Reader:
    return Reader(
        tokenizer=tiny.tokenizer,
        images=tiny.images,
        normalization={diffbot.name: tiny.normalization[diffbot.file.normalization]},
        horizon=16,
        width=tiny.model.config.decoder.action_channels,
        length=160,
        things=THINGS,
    )


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        sources=(SourceConfig(robot="diffbot_sim", data=Path("none")),),
        steps=8,
        batch_size=4,
        warm_up_steps=2,
        ema_decay=0.5,
        objective=ObjectiveConfig(draws=2, longest_prefix=4),
    )


@pytest.fixture
def make_trainer(tiny, recipe):
    def make(**changes) -> Trainer:
        asked = replace(recipe, **changes)
        torch.manual_seed(0)
        objective = Objective(copy.deepcopy(tiny.model), asked.objective, len(THINGS))
        return Trainer(objective.train(), asked, torch.from_numpy(tiny.images.levels))

    return make
