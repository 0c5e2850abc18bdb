"""A whole simulated robot at work for a long time: does anything grow, does anything die?

    make soak SOAK="--minutes 30"

It carries out instruction after instruction. Somebody stops it in the middle of some and arms it
again; between others the policy, and the gate while the robot rests, go through their lifecycle.
Once a second what each process holds is noted.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from faults.growth import Watch, draw, table, wrong
from qwen_vla_ros.bringup import Bringup
from qwen_vla_ros.cli.live_robot import live_robot
from qwen_vla_ros.errors import NotReadyError, QwenVlaError

ROBOTS = ("aloha_sim", "diffbot_sim")
POLICIES = ("expert", "mock")
PATIENCE_S = 60.0
REST_S = 1.5
"""A gate that has stopped commands rest for a second."""
LONGEST_EPISODE_S = 40.0
STOP_AT_S = 3.0
"""In an instruction that is interrupted; by then the robot moves."""
EVERY = {"stop": 2, "policy": 3, "gate": 4}
"""One in so many instructions is interrupted by a stop; after one in so many a node is cycled."""
CYCLE_S = 10.0


@dataclass
class Work:
    """What was done."""

    episodes: int = 0
    interrupted: int = 0
    succeeded: int = 0
    cycles: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    stops_s: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


class Shift:
    """One operator's work at one robot."""

    def __init__(self, operator, begin_s: float) -> None:
        from lifecycle_msgs.srv import ChangeState
        from qwen_vla_msgs.msg import SafetyState
        from std_srvs.srv import Trigger

        from qwen_vla_ros.ros.qos import EVERYTHING

        self.work = Work()
        self._operator = operator
        self._begin_s = begin_s
        self._was_armed = False
        node = operator.node
        node.create_subscription(
            SafetyState, "gate/output/safety_state", self._on_safety, EVERYTHING
        )
        self._stop = node.create_client(Trigger, "gate/stop")
        self._change = {
            name: node.create_client(ChangeState, f"{name}/change_state")
            for name in ("policy", "gate")
        }

    def episode(self, number: int, time_limit_s: float) -> None:
        """Carry out one instruction of a scene of its own; interrupt some."""
        operator, work = self._operator, self.work
        instruction = operator.reset(number)
        operator.arm()
        is_interrupted = number % EVERY["stop"] == 0
        asked = False

        def look(feedback) -> None:
            nonlocal asked
            if is_interrupted and not asked and feedback.elapsed_s > STOP_AT_S:
                asked = True
                self._stop.call_async(self._stop.srv_type.Request())

        limit_s = min(time_limit_s, 2 * STOP_AT_S) if is_interrupted else time_limit_s
        result = operator.execute(instruction, limit_s, look)
        if result.outcome == result.CANCELED:
            raise KeyboardInterrupt  # somebody's Ctrl-C cancelled it
        work.episodes += 1
        work.interrupted += asked
        work.succeeded += result.outcome == result.SUCCEEDED
        for name in self._change:
            if number % EVERY[name] == 0:
                self._cycle(name)

    def _cycle(self, name: str) -> None:
        """Deactivate a node and activate it again; the gate while its robot rests."""
        self._operator.stop()
        self._operator.spin(REST_S)
        self._transition(name, "deactivate")
        self._transition(name, "activate")
        self.work.cycles[name] += 1

    def _transition(self, name: str, label: str) -> None:
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        deadline = time.monotonic() + CYCLE_S
        while time.monotonic() < deadline:
            asked = ChangeState.Request(transition=Transition(label=label))
            future = self._change[name].call_async(asked)
            if self._operator.spin_until(future.done, CYCLE_S) and future.result().success:
                return
            self._operator.spin(0.5)  # it may wait for something
        raise NotReadyError(f"the {name} does not {label}.")

    def _on_safety(self, message) -> None:
        if self._was_armed and not message.armed:
            self.work.stops[message.cause] += 1
            self.work.stops_s.append(time.monotonic() - self._begin_s)
        self._was_armed = message.armed


def soak(robot: str, policy: str, seconds: float, seed: int, out: Path) -> list[str]:
    """Let a robot work, write table and plot; returns what may not be, as sentences."""
    motion = {"motion": "sine"} if policy == "mock" else {}
    bringup = Bringup(robot=robot, policy=policy, scene_seed=seed, **motion)
    with (
        live_robot(bringup, out / "soak.log") as (operator, supervisor),
        tqdm(total=round(seconds), unit="s") as bar,
    ):
        operator.wait_for_policy(PATIENCE_S)
        operator.arm(PATIENCE_S)
        before = operator.safety
        processes = {each.name: supervisor.process_id(each.name) for each in bringup.nodes()}

        def show(at_s: float) -> None:
            bar.set_postfix(
                episodes=work.episodes,
                stops=work.stops.total(),
                gate=f"{watch.series['gate'].held[-1].rss_mib:.1f} MiB",
                refresh=False,
            )
            bar.update(min(round(at_s), bar.total) - bar.n)

        watch = Watch(processes, show)
        shift = Shift(operator, watch.begin_s)
        work = shift.work
        watch.start()
        for number in itertools.count(seed + 1):
            left_s = seconds - (time.monotonic() - watch.begin_s)
            if left_s <= 0 or watch.ended:
                break
            try:
                shift.episode(number, max(1.0, min(LONGEST_EPISODE_S, left_s)))
            except KeyboardInterrupt:
                break  # what was seen until then is told
            except NotReadyError as error:
                work.refusals.append(str(error))
                operator.spin(1.0)
        operator.spin(0.6)  # the gate tells its counters five times a second
        watch.end()
        after = operator.safety
        lasted_s = time.monotonic() - watch.begin_s
    lines = [
        f"{robot}, {policy}, {lasted_s / 60:.1f} min, seed {seed}; "
        f"load at the end {os.getloadavg()[1]:.1f}",
        "",
        *table(watch.series),
        "",
        f"- {work.succeeded} of {work.episodes} instructions succeeded; "
        f"{work.interrupted} were interrupted by a stop",
        f"- {after.ticks - before.ticks} ticks, {after.ticks_late - before.ticks_late} late, "
        f"{after.violations} violations",
        f"- stops: {_counted(work.stops)}",
        f"- lifecycle cycles: {_counted(work.cycles)}",
        *(f"- refused: {sentence}" for sentence in work.refusals),
    ]
    complaints = wrong(watch.series, lasted_s)
    lines += [f"- WRONG: {sentence}" for sentence in complaints]
    text = "\n".join(lines) + "\n"
    (out / "soak.md").write_text(text, encoding="utf-8")
    draw(watch.series, work.stops_s, out / "soak.png")
    print(f"\n{text}\nwritten: {out / 'soak.md'}, {out / 'soak.png'}")
    return complaints


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counter.most_common()) or "none"


def main() -> int:
    """Let one robot work; returns 1 when something died or grew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--robot", default=ROBOTS[0], choices=ROBOTS)
    parser.add_argument("--policy", default=POLICIES[0], choices=POLICIES)
    parser.add_argument("--seed", type=int, default=0, help="of the first scene")
    parser.add_argument("--out", type=Path, default=Path("out/faults"))
    options = parser.parse_args()
    if importlib.util.find_spec("rclpy") is None:
        raise SystemExit("no rclpy: run make setup, or source a ROS 2 installation")
    options.out.mkdir(parents=True, exist_ok=True)
    seconds = 60 * options.minutes
    try:
        complaints = soak(options.robot, options.policy, seconds, options.seed, options.out)
    except QwenVlaError as error:
        raise SystemExit(str(error)) from None
    return 1 if complaints else 0


if __name__ == "__main__":
    raise SystemExit(main())
