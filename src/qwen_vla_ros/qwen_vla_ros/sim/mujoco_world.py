"""What every world has that MuJoCo simulates: time, a moment's copy, pictures."""

from __future__ import annotations

import atexit
from typing import Any

import mujoco

from qwen_vla_ros.sim.offscreen import OffscreenRenderer
from qwen_vla_ros.sim.world import Snapshot
from qwen_vla_ros.types import ImageArray


class MujocoWorld:
    """Steps a model in fixed periods; its subclasses know what stands in it."""

    def __init__(self, model: Any, period_s: float) -> None:
        """Take over a model.

        Args:
            model: MjModel.
            period_s: Time per step, a multiple of the model's own timestep.
        """
        self.model = model
        self.period_s = period_s
        self.time_s = 0.0
        self._data = mujoco.MjData(model)
        self._renderer: OffscreenRenderer | None = None

    def snapshot(self) -> Snapshot:
        """Copy what a camera needs."""
        data = self._data
        return Snapshot(data.qpos.copy(), data.mocap_pos.copy(), data.mocap_quat.copy())

    def render(self, camera: str, width: int, height: int) -> ImageArray:
        """Draw now, in the calling thread, which must always be the same."""
        if self._renderer is None:
            self._renderer = OffscreenRenderer(self.model)
            # OpenGL complains about contexts that outlive it.
            atexit.register(self._renderer.close)
        return self._renderer.render(self.snapshot(), camera, width, height)

    def _settle(self, seconds: float) -> None:
        """Let what was put somewhere come to rest; time begins afterwards."""
        mujoco.mj_step(self.model, self._data, nstep=self._substeps(seconds))
        self.time_s = 0.0

    def _advance(self) -> None:
        mujoco.mj_step(self.model, self._data, nstep=self._substeps(self.period_s))
        self.time_s += self.period_s

    def _substeps(self, seconds: float) -> int:
        return max(1, round(seconds / float(self.model.opt.timestep)))
