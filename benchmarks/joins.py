"""Whoever joins the graph while a robot moves: does its gate come late, does it stop?

    python benchmarks/joins.py --runs 40

A simulated ALOHA swings by a mock policy while short-lived participants with one subscription, as
`ros2 topic echo` has, come and go. The baseline is the gate on the transports of all other
processes (shared memory and UDP); ours is the gate as it is brought up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from side_by_side import arguments
from tqdm import tqdm

from qwen_vla_ros.bringup import Bringup, fastdds_profile
from qwen_vla_ros.cli.live_robot import live_robot

OUT = Path("out/bench")
ROBOT = "aloha_sim"
VISITOR = """
import time, rclpy
from qwen_vla_msgs.msg import SafetyState
rclpy.init()
node = rclpy.create_node("visitor")
node.create_subscription(SafetyState, "gate/output/safety_state", lambda _: None, 1)
time.sleep(0.3)
"""


def main() -> None:
    """Count late ticks and stops with either way."""
    options = arguments((__doc__ or "").splitlines()[0], runs=40).parse_args()
    shared = fastdds_profile("")
    for name, profile in (("shared memory and UDP", shared), ("UDP alone", {})):
        os.environ.update(profile)
        late, ticks, stops = count(options.runs)
        for variable in profile:
            del os.environ[variable]
        print(f"{name}: {options.runs} joins, {late} of {ticks} ticks late, {stops} stops")


def count(joins: int) -> tuple[int, int, int]:
    """Return late ticks, ticks, and stops of one moving robot while others join."""
    bringup = Bringup(robot=ROBOT, policy="mock", motion="sine")
    with live_robot(bringup, OUT / "joins.log") as (operator, _):
        operator.wait_for_policy(60)
        operator.reset(0)
        done, stops = threading.Event(), [0]

        def visit() -> None:
            for _ in tqdm(range(joins), leave=False):
                subprocess.run([sys.executable, "-c", VISITOR], check=True)
            done.set()

        before = operator.safety
        visitors = threading.Thread(target=visit)
        visitors.start()
        while not done.is_set():
            operator.reset(0)  # the swing begins where the robot is, and would wander
            operator.arm(30)
            operator.execute("swing gently", 10.0, lambda _: None)
            stops[0] += not operator.safety.armed
        visitors.join()
        operator.spin(0.6)
        after = operator.safety
        return after.ticks_late - before.ticks_late, after.ticks - before.ticks, stops[0]


if __name__ == "__main__":
    main()
