"""How steady the gate's output is while the nano model infers on the same machine.

    python benchmarks/gate_ticks.py --seconds 60

A tick is missed when the gate published fewer commands than its rate asks for.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qwen_vla_ros.bringup import Bringup
from qwen_vla_ros.cli.init import init
from qwen_vla_ros.cli.live_robot import live_robot
from qwen_vla_ros.embodiment.load import load_embodiment

if TYPE_CHECKING:
    from qwen_vla_msgs.action import ExecuteInstruction

OUT = Path("out/benchmarks")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--robot", default="aloha_sim")
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    robot = load_embodiment(arguments.robot)
    checkpoint = OUT / "nano"
    if not (checkpoint / "config.json").is_file():
        init("nano", checkpoint, ["aloha_sim", "diffbot_sim"], 0)
    bringup = Bringup(robot=robot, policy="qwen_vla", checkpoint=str(checkpoint), seed=0)
    infer: list[float] = []
    with live_robot(bringup, OUT / "gate_ticks.log") as (operator, _):
        operator.wait_for_policy(60)
        instruction = operator.reset(0)

        def note(feedback: ExecuteInstruction.Feedback) -> None:
            timings = dict(zip(feedback.stages, feedback.stage_seconds, strict=True))
            infer.extend(timings[stage] for stage in ("infer",) if stage in timings)

        operator.arm(30)
        before, begin, chunks = operator.safety, time.monotonic(), 0
        while (left := begin + arguments.seconds - time.monotonic()) > 0.5:
            # An untrained model may be held for so long that the gate stops for good.
            operator.arm(30)
            result = operator.execute(instruction, left, note)
            chunks += result.chunks
            operator.spin(0.6)
        after = operator.safety
    ticks = after.ticks - before.ticks
    stamps = after.header.stamp, before.header.stamp
    span = (stamps[0].sec - stamps[1].sec) + (stamps[0].nanosec - stamps[1].nanosec) * 1e-9
    wanted = span * robot.file.command.rate_hz
    late = after.ticks_late - before.ticks_late
    print(f"{arguments.robot}: {chunks} chunks in {span:.1f} s; {result.why}")
    print(
        f"inference p50 {np.percentile(infer, 50) * 1e3:.0f} ms, "
        f"p95 {np.percentile(infer, 95) * 1e3:.0f} ms"
    )
    print(f"ticks {ticks} of {wanted:.0f} wanted: {100 * (1 - ticks / wanted):.2f} % missed")
    print(f"late by more than half a period: {late} ({100 * late / max(ticks, 1):.2f} %)")
    print(f"violations: {after.violations}")


if __name__ == "__main__":
    main()
