"""The judge of the hand-over, from contacts: strict, so that luck does not count."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import numpy as np

from qwen_vla_ros.sim.world import Verdict

HOLD_S = 0.2
"""How long the left gripper must hold the cube alone before it counts."""


class Stage(IntEnum):
    """How far a cube has come."""

    UNTOUCHED = 0
    TOUCHED = 1
    LIFTED = 2
    SHARED = 3
    TRANSFERRED = 4


class TransferJudge:
    """Watches who touches which cube, period by period."""

    def __init__(self, model: Any, cubes: Iterable[str]) -> None:
        names = [model.geom(i).name for i in range(model.ngeom)]
        self._cubes = {name: names.index(name) for name in cubes}
        self._left = np.array([name.startswith("vx300s_left/") for name in names])
        self._left_finger = np.array(["_left/10_" in name for name in names])
        self._right = np.array([name.startswith("vx300s_right/") for name in names])
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self._held_s = dict.fromkeys(self._cubes, 0.0)
        self._best = dict.fromkeys(self._cubes, Stage.UNTOUCHED)

    def watch(self, data: Any, period_s: float) -> None:
        """Look at the contacts of now.

        Args:
            data: MjData after a step.
            period_s: Time since the last look.
        """
        pairs = np.asarray(data.contact.geom).reshape(-1, 2)
        for name, geom in self._cubes.items():
            touching = pairs[:, ::-1][pairs == geom]
            stage = self._stage(touching)
            alone = stage is Stage.TRANSFERRED
            self._held_s[name] = self._held_s[name] + period_s if alone else 0.0
            if alone and self._held_s[name] < HOLD_S:
                stage = Stage.SHARED
            self._best[name] = max(self._best[name], stage)

    def verdict(self, target: str) -> Verdict:
        """Return the verdict on one cube; an empty name means that none was asked for."""
        if not target:
            return Verdict(target="", success=False, progress=0.0)
        return Verdict(
            target=target,
            success=self._held_s[target] >= HOLD_S,
            progress=float(self._best[target] / Stage.TRANSFERRED),
        )

    def _stage(self, touching: Any) -> Stage:
        """Return the stage of a cube from the geoms that touch it."""
        left = bool(self._left_finger[touching].any())
        right = bool(self._right[touching].any())
        others = ~(self._left[touching] | self._right[touching])
        free = not bool(others.any())
        if left and right and free:
            return Stage.SHARED
        if left and free:
            return Stage.TRANSFERRED
        if right and free:
            return Stage.LIFTED
        return Stage.TOUCHED if left or right else Stage.UNTOUCHED
