"""Every event in every state of a whole robot's gate, as the reference page's table says."""

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.embodiment.schema import StopSpec
from qwen_vla_ros.safety.latch import Cause, Level
from qwen_vla_ros.safety.robot_gate import RobotGate
from qwen_vla_ros.types import ActionChunk

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "safety-states.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if re.match(r"\| [a-zA-Z]", line)
]
STATES, *EVENT_ROWS = ROWS
TABLE = {row[0]: dict(zip(STATES[1:], row[1:], strict=True)) for row in EVENT_ROWS}
PERIOD_NS = 20_000_000
MS = 1_000_000
HOME = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.04] * 2)
ESTOP = StopSpec(
    name="estop",
    topic="estop",
    type="std_msgs/msg/Bool",
    field="data",
    runs_when=False,
    rate_hz=50.0,
    max_age_s=0.2,
)


def robot():
    loaded = load_embodiment("aloha_sim")
    safety = loaded.file.safety.model_copy(update={"stop_heartbeat_s": 0.2, "stops": (ESTOP,)})
    return replace(loaded, file=loaded.file.model_copy(update={"safety": safety}))


ROBOT = robot()


class Spy:
    """A gate that notes which of its methods were called."""

    called: ClassVar[set[str]] = set()

    def __init__(self, gate):
        self._gate = gate

    def __getattr__(self, name):
        self.called.add(name)
        return getattr(self._gate, name)


class World:
    """A robot whose every part works, until an event breaks one."""

    def __init__(self):
        self.gate = Spy(RobotGate(ROBOT))
        self.now_ns, self.steady_ns = 10**15, 10**12
        self.sequence = 0
        self.ticks_done = 0
        self.position, self.velocity = HOME.copy(), np.zeros(len(HOME))
        self.reports, self.speaks = True, False
        self.asks_for = HOME.copy()
        self.pressed = {"": False, "estop": False}
        self.live = {"": True, "estop": True}
        self.names = ROBOT.joints
        self.is_paused = False

    @property
    def state(self):
        latch = self.gate.latch
        if latch.level is Level.STOP:
            return "disarmed" if latch.cause.name == "not_armed" else "stopped"
        return "holding" if latch.level is Level.HOLD else "armed"

    def tick(self, periods=1.0, jump_ns=0):
        self.steady_ns += round(periods * PERIOD_NS)
        self.now_ns += 0 if self.is_paused else round(periods * PERIOD_NS) + jump_ns
        for name in self.pressed:
            if self.live[name]:
                self.say(name, is_pressed=self.pressed[name])
        if self.reports:
            self.report()
        self.ticks_done += 1
        if self.speaks and self.ticks_done % 5 == 0:
            self.chunk()
        self.gate.tick(self.now_ns, self.steady_ns)

    def run(self, seconds, **what):
        for _ in range(round(seconds * 1e9 / PERIOD_NS)):
            self.tick(**what)

    def say(self, name, *, is_pressed, source="a"):
        self.pressed[name] = is_pressed
        self.gate.on_stop_input(
            is_asserted=is_pressed, steady_ns=self.steady_ns, source=source, name=name
        )

    def report(self):
        for monitor in self.gate.mechanism.monitors:
            monitor.observe(
                self.names,
                self.position[: len(self.names)],
                self.velocity[: len(self.names)],
                self.now_ns,
                self.now_ns,
                self.steady_ns,
            )

    def chunk(self, source="policy", actions=None):
        self.sequence += 1
        joints = np.tile(self.asks_for, (16, 1))
        # Not quite the same each time: a policy that is frozen is another matter.
        joints[:, 0] += 1e-3 * (self.sequence % 7)
        chunk = ActionChunk(
            stamp_ns=self.now_ns - 50 * MS,
            dt=ROBOT.dt,
            channels=ROBOT.channels,
            actions=ROBOT.channels_from_joints(joints) if actions is None else actions,
            sequence=self.sequence,
            episode=source,
            embodiment=ROBOT.name,
            embodiment_hash=ROBOT.hash,
        )
        return self.gate.on_chunk(
            chunk, self.now_ns, self.steady_ns, source=source, name=f"/{source}"
        )

    def arm(self):
        return self.gate.arm(self.steady_ns)

    # What can happen -------------------------------------------------------------------------

    def arms_after(self, seconds):
        self.run(seconds)
        self.arm()

    def arms_soon(self):
        if not self.gate.latch.is_armed:
            self.gate.stop(Cause("again", "something was wrong again"))
        self.arms_after(0.5)

    def arms_pressed(self):
        self.run(1.1)
        self.pressed["estop"] = True
        self.tick()
        self.arm()

    def arms_moving(self):
        self.run(1.1)
        self.velocity[0] = 0.5
        self.position[0] += 0.5 * PERIOD_NS / 1e9
        self.tick()
        self.arm()

    def arms_at_other_time(self):
        self.run(1.1)
        self.gate.clock.hear("arm/controller_state", self.now_ns - 90 * MS, self.now_ns)
        self.arm()

    def falls_silent(self, name):
        self.live[name] = False
        self.run(0.3)

    def is_pressed_and_leaves(self):
        self.gate.on_stop_publishers({"a"}, "estop")
        self.say("estop", is_pressed=True)
        self.live["estop"] = False
        self.gate.on_stop_publishers(set(), "estop")
        self.run(1.1)
        self.arm()

    def rejects(self, times):
        for _ in range(times):
            self.chunk(actions=np.full((16, len(ROBOT.channels)), np.nan))
        self.tick()

    def another_speaks(self):
        self.speaks = True
        self.gate.on_chunk_publishers({"policy", "other"})
        self.chunk()
        self.chunk("other")
        self.tick()

    def policy_leaves(self):
        self.gate.on_chunk_publishers(set())
        self.tick()

    def policy_is_silent(self, seconds):
        self.speaks = True
        self.run(0.3)
        self.speaks = False
        self.run(seconds)

    def policy_begins_far(self):
        self.speaks = True
        self.asks_for = HOME + 0.4
        self.chunk()
        self.run(0.1)

    def policy_asks_for_speed(self):
        self.gate.latch.note_limited(self.steady_ns, Cause("limited", "too fast"))

    def policy_speaks(self, seconds):
        self.speaks = True
        self.run(seconds)

    def joints_change(self, **what):
        for name, value in what.items():
            setattr(self, name, value)
        self.run(0.4)

    def does_not_follow(self, seconds):
        """Be led away from, while the joints stay where they are but for noise."""
        self.speaks = True
        for k in range(round(seconds / 0.02)):
            self.asks_for[1] = HOME[1] + min(0.18, 0.02 * k)
            self.position[1] = HOME[1] + 1e-3 * (-1) ** k
            self.tick()

    def moves_on(self):
        self.gate.stop(Cause("stop_request", "somebody asked for a stop"))
        for _ in range(30):
            self.velocity[0] = 0.3
            self.position[0] += 0.3 * PERIOD_NS / 1e9
            self.tick()

    def intruder(self):
        self.gate.on_outside([Cause("intruder", "/evil publishes")])
        self.tick()

    def pauses(self):
        self.is_paused = True
        self.run(0.16)

    def late(self, periods):
        assert self.gate.is_due(self.now_ns + PERIOD_NS, self.steady_ns)
        self.tick(periods=periods)


EVENTS = {
    "arm, all well for 1 s": lambda w: w.arms_after(1.1),
    "arm, well for less than 1 s": World.arms_soon,
    "arm while a reason to stop stands": World.arms_pressed,
    "arm while the robot moves": World.arms_moving,
    "arm while the controller goes by another clock": World.arms_at_other_time,
    "stop is asked for": lambda w: w.gate.stop(Cause("stop_request", "somebody asked")),
    "a callback fails": lambda w: w.gate.stop(Cause("internal", "a callback failed")),
    "the stop input is asserted": lambda w: w.say("", is_pressed=True),
    "the stop input is released": lambda w: w.say("", is_pressed=False),
    "the stop input falls silent": lambda w: w.falls_silent(""),
    "a named stop is asserted": lambda w: w.say("estop", is_pressed=True),
    "a named stop is released": lambda w: w.say("estop", is_pressed=False),
    "a named stop falls silent": lambda w: w.falls_silent("estop"),
    "its publisher leaves while it asserts": World.is_pressed_and_leaves,
    "a chunk is accepted": lambda w: w.chunk(),
    "a chunk is rejected": lambda w: w.rejects(1),
    "three chunks in a row are rejected": lambda w: w.rejects(3),
    "another policy speaks": World.another_speaks,
    "the policy leaves": World.policy_leaves,
    "the policy falls silent": lambda w: w.policy_is_silent(1.0),
    "the policy is silent for 10 s": lambda w: w.policy_is_silent(11.0),
    "the policy begins far away": World.policy_begins_far,
    "the policy asks for too much speed": World.policy_asks_for_speed,
    "the policy speaks again for 0.5 s": lambda w: w.policy_speaks(0.5),
    "the policy speaks again for 2 s": lambda w: w.policy_speaks(2.0),
    "nobody asks for anything for 2 s": lambda w: w.run(2.0),
    "joint states fall silent": lambda w: w.joints_change(reports=False),
    "joint states lack a joint": lambda w: w.joints_change(names=ROBOT.joints[:-1]),
    "joint states are not finite": lambda w: w.joints_change(position=HOME * np.nan),
    "a joint jumps": lambda w: w.joints_change(position=HOME + 0.4),
    "the robot does not follow for 0.6 s": lambda w: w.does_not_follow(0.6),
    "the robot does not follow for 3 s": lambda w: w.does_not_follow(3.0),
    "the robot moves on although it is held": World.moves_on,
    "somebody else commands the controller": World.intruder,
    "ROS time jumps": lambda w: w.tick(jump_ns=10**9),
    "ROS time stands still": World.pauses,
    "a tick is late by a period": lambda w: w.late(2.0),
    "a tick is late by six periods": lambda w: w.late(7.0),
}


def disarmed():
    world = World()
    world.run(1.1)
    return world


def armed():
    world = disarmed()
    assert world.arm() == ""
    world.run(0.2)
    return world


def holding():
    world = armed()
    world.policy_is_silent(0.8)
    return world


def stopped():
    world = armed()
    world.gate.stop(Cause("cable", "the cable is out"))
    world.tick()
    return world


WAYS = {"disarmed": disarmed, "armed": armed, "holding": holding, "stopped": stopped}


def test_the_table_has_every_state_and_every_event():
    assert STATES[1:] == list(WAYS)
    assert list(TABLE) == list(EVENTS)


@pytest.mark.parametrize("state", WAYS)
def test_each_state_can_be_reached(state):
    assert WAYS[state]().state == state


@pytest.mark.slow
@pytest.mark.parametrize(("event", "state"), list(itertools.product(EVENTS, WAYS)))
def test_an_event_leads_where_the_table_says(event, state):
    world = WAYS[state]()
    EVENTS[event](world)
    expected = TABLE[event][state]
    assert world.state == (state if expected == "." else expected), world.gate.latch.cause


def test_only_an_arming_leads_out_of_a_stop():
    for event, leads in TABLE.items():
        if leads["disarmed"] != "." or leads["stopped"] == "armed":
            assert event == "arm, all well for 1 s"


@pytest.mark.slow
def test_whatever_a_gate_can_be_told_is_an_event_of_the_table():
    for event in EVENTS.values():
        event(armed())
    told = {name for name in vars(RobotGate) if not name.startswith("_")} - {"counters"}
    assert told <= Spy.called
