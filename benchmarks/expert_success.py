"""Success of the scripted experts through the whole ROS path, against the same without ROS.

    python benchmarks/expert_success.py --robot aloha_sim --seeds 20

Prints one line per seed, then both rates with their 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from qwen_vla_ros.bringup import Bringup
from qwen_vla_ros.cli.live_robot import live_robot
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.evaluation.command_audit import CommandAudit
from qwen_vla_ros.evaluation.interval import rate_text
from qwen_vla_ros.sim.expert import load_expert
from qwen_vla_ros.sim.robot import make_robot
from qwen_vla_ros.sim.rollout import run_episode

OUT = Path("out/benchmarks")


def through_ros(robot_name: str, seeds: range, time_limit_s: float) -> list[dict[str, object]]:
    """Run one episode per seed on one running graph."""
    robot = load_embodiment(robot_name)
    audit = CommandAudit(robot)
    rows: list[dict[str, object]] = []
    log = OUT / f"expert_{robot_name}.log"
    with live_robot(Bringup(robot=robot_name, policy="expert"), log) as (operator, _):
        from qwen_vla_ros.ros.commands import listen
        from qwen_vla_ros.ros.qos import EVERYTHING

        for output in robot.file.command.outputs:
            listen(operator.node, output, audit.on_command, EVERYTHING)
        operator.wait_for_policy(60)
        for seed in tqdm(seeds, desc=f"{robot_name} through ROS", unit="episode"):
            instruction = operator.reset(seed)
            operator.arm()
            result = operator.execute(instruction, time_limit_s, lambda _: None)
            rows.append(
                {
                    "seed": seed,
                    "instruction": instruction,
                    "success": result.outcome == result.SUCCEEDED,
                    "why": result.why,
                    "seconds": round(result.duration_s, 1),
                    "chunks": result.chunks,
                }
            )
            tqdm.write(str(rows[-1]))
        safety = operator.safety
    tqdm.write(
        f"{audit.commands} commands, {audit.total_violations} outside the envelope, gate: "
        f"{safety.ticks_limited} of {safety.ticks} ticks limited, {safety.ticks_late} late"
    )
    return rows


def without_ros(robot_name: str, seeds: range, time_limit_s: float) -> list[bool]:
    """Run the same scenes in one loop, faster than real time."""
    embodiment = load_embodiment(robot_name)
    robot, expert = make_robot(embodiment), load_expert(embodiment)
    return [
        run_episode(embodiment, robot, expert, seed, time_limit_s).success
        for seed in tqdm(seeds, desc=f"{robot_name} without ROS", unit="episode")
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--robot", default="aloha_sim")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--time-limit", type=float, default=40.0, help="seconds an episode")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    rows = through_ros(arguments.robot, seeds, arguments.time_limit)
    alone = without_ros(arguments.robot, seeds, arguments.time_limit)
    successes = sum(bool(row["success"]) for row in rows)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"expert_{arguments.robot}.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"seeds {seeds.start} to {seeds.stop - 1}")
    print(f"{arguments.robot} through ROS: {rate_text(successes, len(rows))}")
    print(f"{arguments.robot} without ROS: {rate_text(sum(alone), len(alone))}")


if __name__ == "__main__":
    main()
