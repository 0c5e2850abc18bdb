"""`qwen-vla collect`: demonstrations of a scripted expert, to learn from."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from qwen_vla_ros.embodiment.load import load_embodiment

SHARD_EPISODES = 25

Done = tuple[range, int, int]
"""The seeds of a shard, how many episodes succeeded, and how many rows they have."""


def collect(
    robot: str,
    episodes: int,
    out: Path,
    seed: int,
    noises: Sequence[float],
    time_limit_s: float,
    jobs: int,
) -> int:
    """Run episodes on all cores and write those that succeed; go on where a run was cut off.

    Args:
        robot: Name or path of the embodiment file.
        episodes: How many are run; a few may fail and are counted only.
        out: Folder for shards.
        seed: Of the first scene; episode i has `seed + i`.
        noises: Strengths of the action noise, one after the other.
        time_limit_s: Simulated seconds an episode may take.
        jobs: Processes; 0 is one per core.

    Raises:
        QwenVlaError: The robot is not simulated, or its world has no expert.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from qwen_vla_ros.sim.robot import make_robot
    from qwen_vla_ros.sim.shards import shard_path, write_scene

    embodiment = load_embodiment(robot)
    write_scene(embodiment, make_robot(embodiment), out)
    blocks = [
        range(first, min(first + SHARD_EPISODES, seed + episodes))
        for first in range(seed, seed + episodes, SHARD_EPISODES)
    ]
    missing = [block for block in blocks if not shard_path(out, block[0]).exists()]
    run = partial(_shard, robot, out, tuple(noises), time_limit_s)
    attempted = succeeded = rows = 0
    with Progress(
        TextColumn(robot), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
    ) as progress:
        done = episodes - sum(map(len, missing))
        bar = progress.add_task("episodes", total=episodes, completed=done)
        for block, kept, count in _spread(run, missing, jobs or os.cpu_count() or 1):
            attempted, succeeded, rows = attempted + len(block), succeeded + kept, rows + count
            said = f"{succeeded} of {attempted} succeeded, {rows} rows"
            progress.update(bar, advance=len(block), description=said)
    print(f"{succeeded} of {attempted} new episodes succeeded, {rows} rows, in {out}")
    return 0


def _spread(run: Callable[[range], Done], blocks: Sequence[range], jobs: int) -> Iterator[Done]:
    if jobs == 1:
        yield from map(run, blocks)
        return
    # Spawned: a world that was built before does not survive a fork.
    with multiprocessing.get_context("spawn").Pool(min(jobs, max(1, len(blocks)))) as pool:
        yield from pool.imap_unordered(run, blocks)


def _shard(
    robot: str, out: Path, noises: tuple[float, ...], time_limit_s: float, seeds: range
) -> Done:
    from qwen_vla_ros.sim.shards import write_shard

    kept, rows = write_shard(load_embodiment(robot), out, seeds, noises, time_limit_s)
    return seeds, kept, rows
