"""Scenes that say where things are and nothing else: objects anywhere, the robot as it was once.

Made from demonstrations and `scene.json`, with `mujoco` and `numpy` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

TRIES = 200
CLEAR_OF_BASE_M = 0.45


def random_scenes(
    model: Any,
    scene: Mapping[str, Any],
    qpos: Any,
    state: Any,
    count: int,
    rng: np.random.Generator,
    present: float = 0.8,
) -> dict[str, Any]:
    """Scatter objects around robots in poses of demonstrations; nothing need be at rest there.

    Args:
        model: MjModel of the scene.
        scene: What `scene.json` says.
        qpos: Positions (N, nq) of demonstrations.
        state: What the robot measured in them (N, c).
        count: How many scenes.
        rng: Decides.
        present: Chance of each object to be in a scene; those with joints always are.

    Returns:
        `qpos` (count, nq), `state` (count, c) and `objects` (count, n, 7) as in a shard.
    """
    names, scatter = scene["objects"], scene["scatter"]
    low, high = np.array(scatter["low"]), np.array(scatter["high"])
    joints = [int(model.body(name).jntadr[0]) for name in names]
    base = [j for j in range(model.njnt) if model.joint(j).name == "base"]
    chosen = rng.integers(len(qpos), size=count)
    rows = np.array(qpos[chosen])
    objects = np.full((count, len(names), 7), np.nan, np.float32)
    for row, poses in zip(rows, objects, strict=True):
        taken: list[Any] = []
        for index in rng.permutation(len(names)):
            joint = joints[index]
            if joint < 0 and rng.random() > present:
                continue
            for _ in range(TRIES):
                place = rng.uniform(low, high)
                near = [float(np.linalg.norm(place - other)) for other in taken]
                at = row[model.jnt_qposadr[base[0]] :][:2] if base else None
                is_clear = at is None or np.linalg.norm(place - at) > CLEAR_OF_BASE_M
                if is_clear and min(near, default=np.inf) > scatter["apart_m"]:
                    break
            else:
                continue
            taken.append(place)
            half = rng.uniform(-np.pi, np.pi) / 2 if joint >= 0 else 0.0
            poses[index] = (*place, scene["heights_m"][index], np.cos(half), 0, 0, np.sin(half))
            if joint >= 0:
                row[model.jnt_qposadr[joint] :][:7] = poses[index]
    return {"qpos": rows, "state": np.array(state[chosen]), "objects": objects}
