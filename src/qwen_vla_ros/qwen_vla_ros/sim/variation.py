"""How a scene may look otherwise: colours, light, cameras, things that are not there.

Only what is drawn changes, never what moves. It needs `mujoco`'s model and `numpy`, no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Axes:
    """How far each thing may vary; 0 leaves it as it is.

    Attributes:
        object_color: Red, green and blue of an object, each up or down by so much.
        body_color: The same of everything else: table, floor, walls, robot.
        brightness: Every colour of a scene together, as a factor of 1 plus or minus this.
        light: Strength of every light, as a factor of 1 plus or minus this.
        direction: Turn of a light, rad.
        camera_m, camera_rad: Shift and turn of a camera.
        zoom: Field of view of a camera, as a factor of 1 plus or minus this.
        absent: Chance that an object which is not asked for is not drawn.
    """

    object_color: float = 0.08
    body_color: float = 0.12
    brightness: float = 0.2
    light: float = 0.35
    direction: float = 0.4
    camera_m: float = 0.008
    camera_rad: float = 0.02
    zoom: float = 0.02
    absent: float = 0.15


_VARIED = (
    "geom_rgba",
    "mat_rgba",
    "light_diffuse",
    "light_dir",
    "cam_pos",
    "cam_quat",
    "cam_fovy",
)
_HEADLIGHT = ("ambient", "diffuse")


@dataclass(frozen=True, kw_only=True)
class Variation:
    """One way in which a scene may look; the same again whenever it is applied."""

    seed: int
    axes: Axes

    @classmethod
    def draw(cls, rng: np.random.Generator, axes: Axes = Axes()) -> Self:
        """Choose one at random."""
        return cls(seed=int(rng.integers(2**63)), axes=axes)

    @contextmanager
    def applied(self, model: Any, objects: Sequence[str], target: int) -> Iterator[None]:
        """Let a model look like this for a while.

        Args:
            model: MjModel.
            objects: Names of the objects.
            target: Which of them is asked for, and stays; -1 lets all stay.
        """
        before = {name: np.array(getattr(model, name)) for name in _VARIED}
        headlight = model.vis.headlight
        light = {name: np.array(getattr(headlight, name)) for name in _HEADLIGHT}
        try:
            self._apply(model, [int(model.body(name).geomadr[0]) for name in objects], target)
            yield
        finally:
            for name, values in before.items():
                getattr(model, name)[:] = values
            for name, values in light.items():
                getattr(headlight, name)[:] = values

    def _apply(self, model: Any, objects: Sequence[int], target: int) -> None:
        rng, axes = np.random.default_rng(self.seed), self.axes

        def around(centre: float, width: float, *shape: int) -> Any:
            return rng.uniform(centre - width, centre + width, shape)

        colors, is_object = model.geom_rgba[:, :3], np.zeros(model.ngeom, bool)
        is_object[list(objects)] = True
        # What has one colour, such as all parts of an arm, keeps one.
        kinds, kind = np.unique(colors, axis=0, return_inverse=True)
        shift = around(0.0, axes.body_color, len(kinds), 3)[kind.ravel()]
        own = around(0.0, axes.object_color, model.ngeom, 3)
        changed = colors + np.where(is_object[:, np.newaxis], own, shift)
        bright = float(around(1.0, axes.brightness))
        colors[:] = np.clip(changed * bright, 0.0, 1.0)
        materials = model.mat_rgba[:, :3]
        materials[:] = np.clip(materials + around(0.0, axes.body_color, model.nmat, 3), 0.0, 1.0)
        model.light_diffuse *= around(1.0, axes.light, model.nlight, 1)
        model.light_dir += around(0.0, axes.direction, model.nlight, 3)
        model.light_dir /= np.linalg.norm(model.light_dir, axis=1, keepdims=True)
        for name in _HEADLIGHT:
            getattr(model.vis.headlight, name)[:] *= around(1.0, axes.light)
        model.cam_pos += around(0.0, axes.camera_m, model.ncam, 3)
        # A small turn is half of itself in a quaternion, to first order.
        turned = model.cam_quat + around(0.0, axes.camera_rad / 2, model.ncam, 4)
        model.cam_quat[:] = turned / np.linalg.norm(turned, axis=1, keepdims=True)
        model.cam_fovy *= around(1.0, axes.zoom, model.ncam)
        for index, geom in enumerate(objects):
            if target not in (-1, index) and rng.random() < axes.absent:
                model.geom_rgba[geom, 3] = 0.0
