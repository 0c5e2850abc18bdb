"""Real processes, killed and frozen in the middle of a motion, at random phases of it.

    make faults-processes FAULTS="--phases 20"

A whole simulated robot runs as it always does. The judge listens to the command topics and plays
what it hears; what counts is when the motion that is commanded ends, and whether it begins again.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from faults.judge import Base, Limits, Player, S
from faults.rig import ROOT, plain_file

VICTIMS = ("policy", "gate", "monitor", "simulator")
MANAGED = ("policy", "gate")
ALONE = ("gate", "monitor")


@dataclass(frozen=True)
class Way:
    """How a process is lost: by a signal, or by transitions of its lifecycle, one after another.

    What is told to go brakes in order; what is lost without a word does not. A transition that
    does not fit loses nothing.
    """

    signal: int = 0
    again: int = 0
    transitions: tuple[str, ...] = ()
    is_orderly: bool = False
    is_refused: bool = False


WAYS = {
    "killed": Way(signal.SIGKILL),
    "frozen": Way(signal.SIGSTOP),
    "frozen for a second": Way(signal.SIGSTOP, signal.SIGCONT),
    "terminated": Way(signal.SIGTERM, is_orderly=True),
    "cleaned up": Way(transitions=("deactivate", "cleanup"), is_orderly=True),
    "shut down": Way(transitions=("shutdown",), is_orderly=True),
    "told what does not fit": Way(transitions=("configure", "cleanup"), is_refused=True),
}
GOALS = {"aloha_sim": "hand over the red cube", "diffbot_sim": "go to the blue box"}
GATE_S = {"aloha_sim": 0.2, "diffbot_sim": 0.3}
"""The motion that is commanded ends so soon after the gate is lost."""
MONITOR_S = 0.3
"""Its gate knows so soon that a monitor is lost."""
STAYS_S = 2.0
MARGIN_S = 0.06
"""For the way of messages, and a machine that does other work too."""


def _load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Witness:
    """Plays what is sent to the controllers of a robot."""

    def __init__(self, graph, robot: str) -> None:
        from geometry_msgs.msg import TwistStamped
        from trajectory_msgs.msg import JointTrajectory

        from qwen_vla_ros.ros.qos import COMMAND

        self._node = graph.node
        self._heard: list[tuple[str, int, object]] = []
        self._plain = plain_file(robot)
        self.is_base = "base" in self._plain["safety"]
        kind = TwistStamped if self.is_base else JointTrajectory
        for output in self._plain["command"]["outputs"]:
            topic = output["topic"]
            self._node.create_subscription(
                kind, topic, lambda m, t=topic: self._heard.append((t, self.now_ns(), m)), COMMAND
            )

    def now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def is_moving(self) -> bool:
        """Whether a newest command asks for a tenth of what is allowed, or more."""
        newest = {topic: message for topic, _, message in self._heard[-8:]}
        return any(self._moves(message) for message in newest.values())

    def _moves(self, message) -> bool:
        if self.is_base:
            return abs(message.twist.linear.x) > 0.06
        limits = self._plain["safety"]["joints"]
        point = message.points[min(1, len(message.points) - 1)]
        speeds = zip(message.joint_names, point.velocities, strict=True)
        return any(abs(speed) > 0.1 * limits[name]["velocity"] for name, speed in speeds)

    def accounts(self, begin_ns: int, end_ns: int) -> list:
        """Play what was heard in a span of time; returns one account a topic."""
        found = []
        heard = list(self._heard)
        for output in self._plain["command"]["outputs"]:
            mine = [item for item in heard if item[0] == output["topic"] and item[1] < end_ns]
            before = [item for item in mine if item[1] <= begin_ns]
            rest = (before[-1:] or []) + [item for item in mine if item[1] > begin_ns]
            if not rest:
                continue
            start_ns = min(begin_ns, rest[0][1])
            if self.is_base:
                player = Base(Limits.of_base(self._plain["safety"]["base"]), 1000, 50, start_ns)
                for _, at_ns, m in rest:
                    stamp_ns = m.header.stamp.sec * S + m.header.stamp.nanosec
                    player.hear(at_ns, stamp_ns, [m.twist.linear.x, m.twist.angular.z])
            else:
                joints = output["joints"]
                limits = Limits.of_joints(joints, self._plain["safety"]["joints"])
                first = rest[0][2]
                order = [list(first.joint_names).index(joint) for joint in joints]
                home = np.array(first.points[0].positions)[order]
                player = Player(limits, 1000, home, start_ns)
                for _, at_ns, m in rest:
                    player.hear_trajectory(at_ns, m)
            player.play(end_ns)
            found.append(player.account)
        return found

    def last_motion_s(self, begin_ns: int, end_ns: int) -> float:
        """Return when something last moved, in seconds after `begin_ns`; at least 0."""
        moved = [account.moved_s for account in self.accounts(begin_ns, end_ns)]
        return max(0.0, max(moved, default=0.0) - begin_ns / S)


@dataclass
class Case:
    """One process that was lost, and what came of it."""

    robot: str
    victim: str
    way: str
    ended_s: float
    bound_s: float
    miss: str
    is_tried: bool = True


def bound_s(robot: str, victim: str, way: Way) -> float:
    """Return until when the motion must have ended."""
    plain = plain_file(robot)
    period_s = 1 / plain["command"]["rate_hz"]
    if victim == "gate" and not way.is_orderly:
        return GATE_S[robot] + MARGIN_S
    safety = plain["safety"]
    if "base" in safety:
        base = safety["base"]
        braking_s = max(
            base["linear_velocity"] / base["linear_acceleration"],
            base["angular_velocity"] / base["angular_acceleration"],
        )
    else:
        braking_s = max(j["velocity"] / j["acceleration"] for j in safety["joints"].values())
    known_s = {
        "gate": 0.0,
        "policy": safety["max_observation_age_s"],
        # One that is told to go stays for as long as its gate may be braking.
        "monitor": MONITOR_S + (STAYS_S if way.is_orderly else 0.0),
        "simulator": max(source["max_age_s"] for source in plain["state"]),
    }[victim]
    return known_s + 2 * period_s + braking_s + MARGIN_S


class NotMovingError(Exception):
    """The robot did not get into the motion that was to be disturbed."""


def bring_up(graph, robot: str, witness: Witness) -> dict:
    """Have a whole simulated robot move; returns its processes."""
    from qwen_vla_msgs.action import ExecuteInstruction
    from rclpy.action import ActionClient

    from qwen_vla_ros.bringup import Bringup

    processes = graph.bring_up(Bringup(robot=robot, policy="expert", scene_seed=1))
    action = ActionClient(graph.node, ExecuteInstruction, "execute_instruction")
    ready = graph.wait_for(action.server_is_ready, 60)
    ready = ready and processes["policy"].wait_for_line("[policy]: active", 60)
    ready = ready and graph.wait_for(lambda: graph.call("gate/arm").success, 30)
    if ready:
        goal = ExecuteInstruction.Goal(instruction=GOALS[robot], time_limit_s=30.0)
        sent = action.send_goal_async(goal)
        ready = graph.wait_for(sent.done, 10) and sent.result().accepted
    if not (ready and graph.wait_for(witness.is_moving, 15)):
        said = [line for line in processes["gate"].output.splitlines() if "[gate]" in line]
        raise NotMovingError(said[-1:])
    return processes


def bring_up_alone(graph, robot: str, witness: Witness) -> dict:
    """Have a gate and its monitor move a driver that lives here, as a policy here asks."""
    tests = ROOT / "test" / "ros"
    try:
        if witness.is_base:
            floor = _load(tests / "test_monitor.py", "campaign_base").Floor(
                graph, ("gate", "monitor"), 0.5
            )
            floor.drives()
            processes = floor.processes
        else:
            from qwen_vla_ros.embodiment.load import load_embodiment

            module = _load(tests / "test_arm_gate.py", "campaign_arms")
            cell = module.Cell(graph, load_embodiment(robot))
            cell.moves()
            processes = {"gate": cell.gate}
    except AssertionError as error:
        raise NotMovingError(str(error)[-300:]) from error
    if not graph.wait_for(witness.is_moving, 15):
        raise NotMovingError("nothing was commanded")
    return processes


def lose(
    ros: ModuleType, robot: str, victim: str, way: str, rng: np.random.Generator, *, is_alone: bool
) -> Case:
    """Bring a robot up, let it move, lose a process, and look."""
    lost = WAYS[way]
    limit_s = bound_s(robot, victim, lost)
    with ros._open_graph() as graph:
        witness = Witness(graph, robot)
        try:
            processes = (bring_up_alone if is_alone else bring_up)(graph, robot, witness)
            time.sleep(float(rng.uniform(0.1, 0.6)))
            if not graph.wait_for(witness.is_moving, 5):
                raise NotMovingError("it no longer moved")
        except NotMovingError as error:
            return Case(robot, victim, way, 0.0, limit_s, f"not tried: {error}", is_tried=False)
        lost_ns = witness.now_ns()
        if lost.signal:
            processes[victim].send_signal(lost.signal)
        answers = [graph.change_state(victim, each) for each in lost.transitions]
        time.sleep(limit_s + 0.5)
        ended_s = witness.last_motion_s(lost_ns, witness.now_ns())
        exit_status = processes[victim].exit_status()
        if lost.is_refused:
            misses = {
                "it was done all the same": any(answers),
                f"it ended with {exit_status}": exit_status is not None,
                "the motion ended": ended_s <= limit_s,
            }
        else:
            misses = {
                f"moved for {ended_s:.3f} s": ended_s > limit_s,
                f"it ended with {exit_status}": lost.is_orderly and exit_status not in (0, None),
            }
        if lost.again:
            processes[victim].send_signal(lost.again)
            woke_ns = witness.now_ns()
            time.sleep(2.0)
            moved_s = witness.last_motion_s(woke_ns + round(0.1 * S), witness.now_ns())
            # Nobody armed; a policy that is back may go on.
            misses[f"moved for {moved_s:.2f} s after it woke"] = moved_s > 0 and victim != "policy"
        miss = next((what for what, is_so in misses.items() if is_so), "")
        return Case(robot, victim, way, ended_s, limit_s, miss)


def exists(robot: str, victim: str, way: str) -> bool:
    """Whether a robot has such a process, and such a process can be lost so."""
    has_it = victim != "monitor" or "base" in plain_file(robot)["safety"]
    return has_it and (victim in MANAGED or not WAYS[way].transitions)


def table(cases: list[Case]) -> str:
    """Return one row for every robot, process and way to lose it."""
    lines = [
        "| robot | lost | how | phases | misses | bound ms | p50 | max |",
        "|" + "---|" * 8,
    ]
    keys = list(dict.fromkeys((case.robot, case.victim, case.way) for case in cases))
    for key in keys:
        mine = [case for case in cases if (case.robot, case.victim, case.way) == key]
        tried = [case for case in mine if case.is_tried]
        times = np.array([case.ended_s for case in tried] or [np.nan]) * 1e3
        # What loses nothing has nothing to end.
        figures = f"{mine[0].bound_s * 1e3:.0f} | {np.median(times):.0f} | {times.max():.0f}"
        figures = "- | - | -" if WAYS[key[2]].is_refused else figures
        lines.append(
            f"| {' | '.join(key)} | {len(tried)} | {sum(bool(case.miss) for case in tried)} "
            f"| {figures} |"
        )
    lines += [
        f"- {case.robot}, {case.victim} {case.way}: {case.miss}" for case in cases if case.miss
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Lose processes and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--phases", type=int, default=3, help="times that each is lost")
    parser.add_argument("--robots", nargs="*", default=list(GOALS))
    parser.add_argument("--victims", nargs="*", default=list(VICTIMS), choices=VICTIMS)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument(
        "--alone",
        action="store_true",
        help="only gate and monitor are processes; driver and policy live in this one, which goes "
        "first as they do: for a machine that does other work too",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/faults"))
    options = parser.parse_args()
    if importlib.util.find_spec("rclpy") is None:
        raise SystemExit("no rclpy: run make setup, or source a ROS 2 installation")
    # They settle the ROS domain and how this machine's processes find each other.
    _load(ROOT / "test" / "conftest.py", "campaign_conftest")
    ros = _load(ROOT / "test" / "ros" / "conftest.py", "campaign_ros_conftest")
    if options.alone:
        from qwen_vla_ros.ros.priority import raise_priority

        print(raise_priority())
    rng = np.random.default_rng(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    cases: list[Case] = []
    # All of them once, and then again: a run that is cut short has tried each.
    for _ in range(options.phases):
        for robot, victim, way in itertools.product(options.robots, options.victims, options.ways):
            if not exists(robot, victim, way) or (options.alone and victim not in ALONE):
                continue
            case = lose(ros, robot, victim, way, rng, is_alone=options.alone)
            cases.append(case)
            outcome = case.miss or f"ended after {case.ended_s * 1e3:.0f} ms"
            load = os.getloadavg()[0]
            print(f"{robot}: {victim} {way}: {outcome} (load {load:.1f})", flush=True)
            (options.out / "processes.md").write_text(table(cases), encoding="utf-8")
    print(f"\n{table(cases)}")


if __name__ == "__main__":
    main()
