"""A robot whose servos are ideal, the gate before it, a policy, and a clock that obeys.

What is measured is what the judge has played of the gate's own messages. Everything can be broken
from outside: a fault sets an attribute, or puts a function into one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from faults.judge import Base, Curve, Floats, Limits, Player, Point, S
from qwen_vla_ros.embodiment.backend import load_backend
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.safety.arms import Arms
from qwen_vla_ros.safety.base import Base as BaseLimb
from qwen_vla_ros.safety.robot_gate import RobotGate
from qwen_vla_ros.types import ActionChunk

ROOT = Path(__file__).resolve().parents[2]
TEST_ROBOTS = ROOT / "test" / "robots" / "embodiments"
BEGIN_NS = 10**15
STEADY_OFFSET_NS = 10**14
"""The steady clock is not ROS time; a test that mixes them up fails."""


def robots() -> list[str]:
    """Return every embodiment whose commands the judge can play."""
    found = []
    for path in sorted((ROOT / "config" / "embodiments").glob("*.yaml")):
        outputs = plain_file(path.stem)["command"]["outputs"]
        if all(output["backend"] in HEARD for output in outputs):
            found.append(path.stem)
    return found


HOMES = {"aloha_sim": (0.0, -0.7, 0.95, 0.0, -0.3, 0.0, 0.039) * 2}
"""Where a robot begins that would touch something in the middle of its joints' ranges."""
SWINGS = {"aloha_sim": 0.12}
"""rad: amplitude at most, where a wider swing would bring links together."""
LOOK_NS = 5_000_000
HEARD = {"joint_trajectory", "forward_position", "twist", "twist_stamped"}


def all_robots() -> list[str]:
    """Return those, and the robots that there are only to be attacked."""
    return [*robots(), *sorted(path.stem for path in TEST_ROBOTS.glob("*.yaml"))]


def file_of(name: str) -> Path:
    shipped = ROOT / "config" / "embodiments" / f"{name}.yaml"
    return shipped if shipped.is_file() else TEST_ROBOTS / f"{name}.yaml"


@cache
def embodiment_of(name: str) -> Embodiment:
    return load_embodiment(file_of(name))


@cache
def plain_file(name: str) -> dict[str, Any]:
    """Return the numbers of an embodiment file, read past the product's own reader."""
    content: dict[str, Any] = yaml.safe_load(file_of(name).read_text())
    return content


@dataclass
class Message:
    """One command as it was received.

    Attributes:
        received_ns: By the controller's clock.
        topic: Where it was sent.
        raw: The message.
        period_ns: Of the gate.
    """

    received_ns: int
    topic: str
    raw: Any
    period_ns: int

    @property
    def speed(self) -> Floats:
        """Of every axis, where this message is the first to decide, as it alone plays.

        A trajectory repeats what was sent before it, for two periods from its stamp on.
        """
        if hasattr(self.raw, "points"):
            return _speed_at(self.raw, self.received_ns, 2 * self.period_ns)
        twist = self.raw.twist if hasattr(self.raw, "twist") else self.raw
        return np.array([twist.linear.x, twist.angular.z])


@dataclass
class Sample:
    """What one source of measurements says once."""

    names: list[str]
    positions: list[float]
    velocities: list[float]
    stamp_ns: int


@dataclass
class Rig:
    """One robot under its gate. `tick` is the whole world's step."""

    name: str
    rates: tuple[int, ...] = (1000,)
    embodiment: Embodiment | None = None
    home: Floats | None = None
    sent: list[Message] = field(default_factory=list)
    keeps: bool = True

    def __post_init__(self) -> None:
        self.embodiment = self.embodiment or embodiment_of(self.name)
        plain = plain_file(self.name)
        self.file = plain
        self.safety = plain["safety"]
        self.is_base = "base" in self.safety
        self.hz = float(plain["command"]["rate_hz"])
        self.period_ns = round(S / self.hz)
        self.gate = RobotGate(self.embodiment)
        self._true_ns = self._received_ns = BEGIN_NS
        self.ticks = 0
        self.ros_offset_ns = 0
        self.is_paused = False
        self._paused_ns = 0
        self.reports = True
        self.distort: Callable[[Sample], Sequence[Sample]] = lambda sample: [sample]
        self.hears = True
        self.drops_commands = False
        self.watch: Callable[[Sequence[str], Floats], object] | None = None
        self.sensed: Callable[[Floats, Floats], tuple[Floats, Floats]] = lambda q, v: (q, v)
        self._outputs = {
            output.topic: (output, load_backend(output.backend))
            for output in self.embodiment.file.command.outputs
        }
        if self.is_base:
            self.limits = Limits.of_base(self.safety["base"])
            self.players = {
                output: {hz: Base(self.limits, hz, self.hz, BEGIN_NS) for hz in self.rates}
                for output in self._outputs
            }
            return
        self.names = self.embodiment.joints
        self.limits = Limits.of_joints(self.names, self.safety["joints"])
        if self.home is None:
            middle = (self.limits.lower + self.limits.upper) / 2
            self.home = np.array(HOMES.get(self.name, middle))
        self.players = {}
        self._places = {}
        for output in self.embodiment.file.command.outputs:
            part = [self.names.index(joint) for joint in output.joints]
            limits = Limits.of_joints(output.joints, self.safety["joints"])
            self._places[output.topic] = part
            self.players[output.topic] = {
                hz: Player(
                    limits,
                    hz,
                    self.home[part],
                    BEGIN_NS,
                    None if load_backend(output.backend).is_timed else self.hz,
                )
                for hz in self.rates
            }

    # clocks ------------------------------------------------------------------------------------

    @property
    def true_ns(self) -> int:
        """The controllers' clock, which no fault touches."""
        return self._true_ns

    @property
    def now_ns(self) -> int:
        """ROS time as the gate reads it."""
        return self._paused_ns if self.is_paused else self._true_ns + self.ros_offset_ns

    @property
    def steady_ns(self) -> int:
        return self._true_ns - STEADY_OFFSET_NS

    def pause(self) -> None:
        self._paused_ns = self.now_ns
        self.is_paused = True

    def resume(self) -> None:
        """Let ROS time go on where it stood."""
        self.ros_offset_ns = self._paused_ns - self._true_ns
        self.is_paused = False

    # measurements ------------------------------------------------------------------------------

    @property
    def accounts(self) -> dict[int, list]:
        return {
            hz: [players[hz].account for players in self.players.values()] for hz in self.rates
        }

    def ratio(self, quantity: str, hz: int = 1000) -> float:
        return max(account.ratio(quantity) for account in self.accounts[hz])

    @property
    def beyond(self) -> float:
        return max(account.beyond for account in self.accounts[self.rates[0]])

    @property
    def not_finite(self) -> int:
        found = sum(account.not_finite for account in self.accounts[self.rates[0]])
        if self.is_base:
            found += sum(players[self.rates[0]].refused for players in self.players.values())
        return found

    @property
    def moved_ns(self) -> int:
        """When a set-point last moved, by the controllers' clock."""
        last = max(account.moved_s for account in self.accounts[self.rates[0]])
        return -1 if last == -np.inf else round(last * S)

    @property
    def setpoint(self) -> tuple[Floats, Floats]:
        """Position and speed: of the joints, or pose and twist of a base."""
        if self.is_base:
            base = next(iter(self.players.values()))[self.rates[0]]
            return base.pose, base.setpoint
        position, speed = np.zeros(len(self.names)), np.zeros(len(self.names))
        for topic, players in self.players.items():
            player = players[self.rates[0]]
            position[self._places[topic]] = player.setpoint
            speed[self._places[topic]] = player.speed
        return position, speed

    @property
    def level(self) -> str:
        return self.gate.latch.level.name

    @property
    def cause(self) -> str:
        return self.gate.latch.cause.name

    # the loop ----------------------------------------------------------------------------------

    def advance(self, true_ns: int) -> None:
        """Let the controllers play up to a time, and show where that leads."""
        if self.watch is not None:
            first_ns = (self._true_ns // LOOK_NS + 1) * LOOK_NS
            for ns in range(first_ns, true_ns + 1, LOOK_NS):
                self._play(ns)
                self.watch(self.names, self.setpoint[0])
        self._play(true_ns)

    def _play(self, true_ns: int) -> None:
        for players in self.players.values():
            for player in players.values():
                player.play(true_ns)
        self._true_ns = true_ns

    def tick(self, *, late_ns: int = 0, deliver_ns: int = 0, gate: bool = True) -> None:
        """Go on to the next tick of the gate, which comes `late_ns` (ns; negative: early).

        A gate is asked eight times a period whether a new slot of its grid has begun; here the
        answer is found an eighth of a period after it has, and never before.
        """
        self.ticks += 1
        slot_ns = BEGIN_NS + self.ticks * self.period_ns
        found_ns = slot_ns + max(0, self.period_ns // 8 + late_ns)
        self.advance(max(self._true_ns, found_ns))
        self.sense()
        if not gate:
            return
        for output, command in self.gate.tick(self.now_ns, self.steady_ns):
            _, backend = self._outputs[output.topic]
            raw = backend.write(_plain, command, output)
            if not self.drops_commands:
                self.deliver(output.topic, raw, self._true_ns + deliver_ns)

    def deliver(self, topic: str, raw: Any, received_ns: int) -> None:
        """Bring a message to its controller; one never overtakes another."""
        received_ns = self._received_ns = max(received_ns, self._received_ns)
        for player in self.players[topic].values():
            if self.is_base:
                twist = raw.twist if hasattr(raw, "twist") else raw
                stamp = raw.header.stamp if hasattr(raw, "header") else None
                stamp_ns = 0 if stamp is None else stamp.sec * S + stamp.nanosec
                # ROS time may be wrong, but gate and controller read the same clock.
                heard_ns = stamp_ns - self.ros_offset_ns if stamp_ns else 0
                player.hear(received_ns, heard_ns, [twist.linear.x, twist.angular.z])
            elif hasattr(raw, "points"):
                player.hear_trajectory(received_ns, raw, -self.ros_offset_ns)
            else:
                player.hear_positions(received_ns, raw.data)
        if self.keeps:
            self.sent.append(Message(received_ns, topic, raw, self.period_ns))

    def sense(self) -> None:
        """Tell the gate what the drivers would."""
        if not self.reports:
            return
        mechanism = self.gate.mechanism
        position, speed = self.sensed(*self.setpoint)
        if isinstance(mechanism, BaseLimb):
            sample = Sample([], position.tolist(), speed.tolist(), self.now_ns)
            for said in self.distort(sample):
                mechanism.observe(
                    np.array(said.positions),
                    np.array(said.velocities),
                    said.stamp_ns,
                    self.now_ns,
                    self.steady_ns,
                )
            return
        assert isinstance(mechanism, Arms)
        sample = Sample(list(self.names), position.tolist(), speed.tolist(), self.now_ns)
        for said in self.distort(sample):
            for monitor in mechanism.monitors:
                monitor.observe(
                    said.names,
                    said.positions,
                    said.velocities,
                    said.stamp_ns,
                    self.now_ns,
                    self.steady_ns,
                )

    def arm(self, seconds: float = 1.1) -> str:
        """Let the gate see for a while that all is well, then arm it."""
        for _ in range(round(seconds * self.hz)):
            self.tick()
        return self.gate.arm(self.steady_ns)

    def give(self, chunk: ActionChunk | None) -> Any:
        return self.gate.on_chunk(chunk, self.now_ns, self.steady_ns)


class Swing:
    """A policy that swings every axis within a share of what it may do."""

    def __init__(self, rig: Rig, rng: np.random.Generator, share: float = 0.4) -> None:
        self.rig = rig
        ours = rig.embodiment
        self._dt = ours.dt
        self._rows = ours.file.prompt.action_horizon
        self._sequence = 0
        self.episode = f"episode-{rng.integers(10**9)}"
        self._rng = rng
        self._share = share
        self._begin_ns: int | None = None
        limits = rig.limits
        if not rig.is_base:
            self._middle = rig.home
            room = np.minimum(limits.upper - rig.home, rig.home - limits.lower)
            # Speed A w and acceleration A w^2 both stay below their share.
            self._w = 2 * np.pi * rng.uniform(0.2, 0.6, len(room))
            room = np.minimum(0.45 * room, SWINGS.get(rig.name, np.inf))
            self._a = np.minimum(
                np.minimum(share * limits.velocity / self._w, room),
                share * limits.acceleration / self._w**2,
            ) * rng.choice([-1, 1], len(room))
            return
        self._v = share * limits.velocity[0]
        self._turn = share * limits.velocity[1] * rng.uniform(-1, 1)

    def restart(self) -> None:
        """Begin the swing anew, where the robot is."""
        self._begin_ns = None
        if not self.rig.is_base:
            self._middle = self.rig.setpoint[0].copy()
            limits = self.rig.limits
            room = np.where(self._a > 0, limits.upper - self._middle, self._middle - limits.lower)
            self._a = np.sign(self._a) * np.minimum(np.abs(self._a), 0.45 * np.maximum(room, 0))

    def wanted(self, ns: int) -> Floats:
        """Return the joints (J,) at a time by ROS's clock."""
        t = max(0.0, (ns - self._begin_ns) / S)
        # It begins at rest: (1 - cos) / 2, and its speed is half of a sine's.
        return self._middle + self._a * (1 - np.cos(self._w * t))

    def rows(self, stamp_ns: int) -> Floats:
        """Return the rows (H, c) of the chunk that answers an observation."""
        if self._begin_ns is not None and not self.rig.setpoint[1].any():
            self.restart()  # whoever looks sees that the robot did not follow
        if self._begin_ns is None:
            self._begin_ns = self.rig.now_ns
        if self.rig.is_base:
            row = [self._v * self._dt, 0.0, self._turn * self._dt]
            return np.tile(row, (self._rows, 1))
        dt_ns = round(self._dt * S)
        joints = np.array([self.wanted(stamp_ns + k * dt_ns) for k in range(self._rows)])
        return self.rig.embodiment.channels_from_joints(joints)

    def chunk(self, age_s: float = 0.08, **changes: Any) -> ActionChunk:
        """Return the next chunk, `age_s` (s) after its observation."""
        ours = self.rig.embodiment
        stamp_ns = self.rig.now_ns - round(age_s * S)
        self._sequence += 1
        chunk = ActionChunk(
            stamp_ns=stamp_ns,
            dt=self._dt,
            channels=ours.channels,
            actions=self.rows(stamp_ns),
            sequence=self._sequence,
            episode=self.episode,
            embodiment=ours.name,
            embodiment_hash=ours.hash,
        )
        return replace(chunk, **changes) if changes else chunk


def run(
    rig: Rig,
    policy: Swing | None,
    seconds: float,
    *,
    every_s: float = 0.14,
    before: Callable[[int], None] | None = None,
) -> None:
    """Let a robot run; its policy answers every so often. `before` is called before each tick."""
    every = max(1, round(every_s * rig.hz))
    for k in range(round(seconds * rig.hz)):
        if before is not None:
            before(k)
        if policy is not None and k % every == 0:
            rig.give(policy.chunk())
        rig.tick()


def _speed_at(message: Any, received_ns: int, after_ns: int) -> Floats:
    stamp = message.header.stamp
    start_ns = (stamp.sec * S + stamp.nanosec) or received_ns
    points = [
        Point(
            p.time_from_start.sec * S + p.time_from_start.nanosec,
            np.array(p.positions),
            np.array(p.velocities) if len(p.velocities) else None,
            np.array(p.accelerations) if len(p.accelerations) else None,
        )
        for p in message.points
    ]
    at_ns = start_ns + after_ns
    if len(points) < 2 or at_ns <= start_ns + points[0].ns:
        first = points[0].velocity
        return np.zeros(len(points[0].position)) if first is None else first
    return Curve(points, start_ns).at(at_ns, 1)


def _plain(_: str, **fields: Any) -> Any:
    return SimpleNamespace(**fields)
