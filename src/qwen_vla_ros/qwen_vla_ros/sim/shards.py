"""Demonstrations on disk: the physics as one compiled file, and episodes in shards.

A folder holds `scene.mjb`, `scene.json`, and one `.npz` per block of seeds. It is all that a
machine needs to draw the demonstrations, whatever else is missing there; see `scene_renderer`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.sim.demonstration import demonstrate
from qwen_vla_ros.sim.expert import load_expert
from qwen_vla_ros.sim.robot import SimulatedRobot, make_robot
from qwen_vla_ros.sim.world import JointWorld


def write_scene(embodiment: Embodiment, robot: SimulatedRobot, folder: Path) -> None:
    """Write `scene.mjb` and `scene.json`: what drawing the rows of shards takes."""
    world = robot.world
    joints: dict[str, int] = {}
    if isinstance(world, JointWorld):
        joints = {name: world.position_index(name) for name in world.joints}
    scene = {
        "robot": embodiment.name,
        "embodiment_hash": embodiment.hash,
        "mujoco": mujoco.__version__,
        "cameras": [
            camera.model_dump(include={"name", "width_px", "height_px", "fit"})
            | {"input_px": [camera.input_width_px, camera.input_height_px]}
            for camera in embodiment.file.cameras
        ],
        "channels": list(embodiment.channels),
        "dt_s": embodiment.dt,
        "horizon": embodiment.file.prompt.action_horizon,
        "objects": list(world.object_names),
        "heights_m": [world.object_size(name)[2] / 2 for name in world.object_names],
        "scatter": dataclasses.asdict(world.scatter),
        "phrases": list(world.phrases),
        "qpos_index": joints,
    }
    folder.mkdir(parents=True, exist_ok=True)
    mujoco.mj_saveModel(world.model, str(folder / "scene.mjb"))
    (folder / "scene.json").write_text(json.dumps(scene, indent=1) + "\n")


def shard_path(folder: Path, seed: int) -> Path:
    """Return the file of the shard that begins with a seed."""
    return folder / f"shard_{seed:09d}.npz"


def write_shard(
    embodiment: Embodiment,
    folder: Path,
    seeds: Sequence[int],
    noises: Sequence[float],
    time_limit_s: float,
    on_episode: Callable[[], None] = lambda: None,
) -> tuple[int, int]:
    """Run one block of seeds and write those that succeed; return how many did, and their rows.

    Args:
        embodiment: The robot's file.
        folder: Where the shard goes; it is named by its first seed.
        seeds: Of the episodes; the noise of each is `noises[seed % len(noises)]`.
        noises: See `demonstrate`.
        time_limit_s: Simulated time after which an episode has failed.
        on_episode: Called after each.
    """
    robot, expert = make_robot(embodiment), load_expert(embodiment)
    instructions: list[str] = []
    columns: dict[str, list[Any]] = {}
    succeeded: list[int] = []
    for seed in seeds:
        noise = noises[seed % len(noises)]
        shown = demonstrate(embodiment, robot, expert, seed, noise, time_limit_s)
        on_episode()
        if shown is None:
            continue
        succeeded.append(seed)
        if shown.instruction not in instructions:
            instructions.append(shown.instruction)
        count = len(shown.rows["time_s"])
        rows = {
            **shown.rows,
            "instruction": np.full(count, instructions.index(shown.instruction), np.int32),
            "episode": np.full(count, seed, np.int32),
            "noise": np.full(count, noise, np.float32),
        }
        for name, values in rows.items():
            columns.setdefault(name, []).append(values)
    path = shard_path(folder, seeds[0])
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            instructions=np.array(instructions, dtype=str),
            attempted=np.array(seeds, np.int32),
            succeeded=np.array(succeeded, np.int32),
            **{name: np.concatenate(values) for name, values in columns.items()},
        )
    unfinished.replace(path)
    return len(succeeded), sum(len(values) for values in columns.get("time_s", []))
