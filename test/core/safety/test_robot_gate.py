"""Who may speak to a whole robot's gate: policies and stop buttons, by who published what."""

from dataclasses import replace

import numpy as np
import pytest

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.robot_gate import RobotGate
from qwen_vla_ros.types import ActionChunk

PERIOD_NS = 20_000_000
MS = 1_000_000


class Cell:
    """A gate with joints that rest, and policies that ask them to."""

    def __init__(self) -> None:
        self.robot = load_embodiment("aloha_sim")
        self.gate = RobotGate(self.robot)
        self.now_ns = 10**15
        self.sequence = 0
        self.home = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.04] * 2)

    @property
    def level(self) -> str:
        return self.gate.latch.level.name

    @property
    def cause(self) -> str:
        return self.gate.latch.cause.name

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 1e9 / PERIOD_NS)):
            self.now_ns += PERIOD_NS
            for monitor in self.gate.mechanism.monitors:
                monitor.observe(
                    self.robot.joints,
                    self.home,
                    np.zeros(len(self.home)),
                    self.now_ns,
                    self.now_ns,
                    self.now_ns,
                )
            self.gate.tick(self.now_ns, self.now_ns)

    def say(
        self,
        source: str,
        episode: str,
        *,
        bad: bool = False,
        late_ms: int = 50,
        slope: float = 0.0,
    ) -> str:
        """Have a policy send a chunk; returns why it is not played."""
        self.sequence += 1
        joints = np.tile(self.home, (16, 1))
        joints[:, :6] += slope * np.arange(16)[:, None]
        chunk = ActionChunk(
            stamp_ns=self.now_ns - late_ms * MS,
            dt=self.robot.dt,
            channels=self.robot.channels,
            actions=self.robot.channels_from_joints(joints),
            sequence=self.sequence,
            episode=episode,
            embodiment=self.robot.name,
            embodiment_hash=self.robot.hash,
        )
        if bad:
            chunk = replace(chunk, actions=chunk.actions * np.nan)
        verdict = self.gate.on_chunk(
            chunk, self.now_ns, self.now_ns, source=source, name=f"/{source}"
        )
        return verdict.cause

    def arm(self) -> str:
        return self.gate.arm(self.now_ns)


def test_a_gate_whose_controller_goes_by_another_clock_is_not_armed():
    cell = Cell()
    cell.wait(1.2)
    cell.gate.clock.hear("arm/controller_state", cell.now_ns - 30 * MS, cell.now_ns)
    assert "0.030 s behind the gate's clock, more than 0.02 s" in cell.arm()
    assert cell.level == "STOP"
    for _ in range(25):
        cell.gate.clock.hear("arm/controller_state", cell.now_ns - 2 * MS, cell.now_ns)
    assert cell.arm() == ""


@pytest.fixture
def cell():
    cell = Cell()
    cell.wait(1.2)
    assert cell.arm() == ""
    return cell


def test_a_second_policy_is_not_played_and_stops_the_robot_by_its_name(cell):
    assert cell.say("true", "mine") == ""
    cell.wait(0.02)
    assert cell.level == "OK"
    assert cell.say("evil", "theirs") == "policy_conflict"
    assert (cell.level, cell.cause) == ("STOP", "policy_conflict")
    assert cell.gate.latch.detail == "/evil sends chunks beside /true: end one of the two"


def test_the_episode_of_the_first_policy_is_not_ended_by_the_second(cell):
    cell.say("true", "mine")
    cell.say("evil", "theirs")
    assert cell.say("true", "mine") == ""


@pytest.mark.parametrize("episode", ["mine", "theirs"])
def test_chunks_of_another_publisher_that_are_not_finite_stop_at_once(cell, episode):
    cell.say("true", "mine")
    assert cell.say("evil", episode, bad=True) == "policy_conflict"
    assert "/evil" in cell.gate.latch.detail


def test_a_stranger_uses_up_nothing_of_the_owners_patience(cell):
    cell.say("true", "mine")
    for _ in range(10):
        cell.say("evil", "theirs", bad=True)
    assert not cell.gate.admission.is_exhausted(cell.now_ns)


def test_while_two_policies_speak_arming_is_refused_with_their_names(cell):
    cell.say("true", "mine")
    for _ in range(8):
        cell.wait(0.4)
        cell.say("true", "mine")
        cell.say("evil", "theirs")
    assert cell.arm() == "/evil sends chunks beside /true: end one of the two"
    cell.wait(2.1)
    assert cell.arm() == ""
    assert cell.say("evil", "theirs") == ""  # whoever is heard first after an arming


def test_a_restarted_policy_takes_over_with_a_new_episode_once_the_old_one_is_gone(cell):
    cell.say("true", "mine")
    cell.gate.on_chunk_publishers({"true", "true again"})
    cell.gate.on_chunk_publishers({"true again"})
    assert cell.say("true again", "next") == ""
    assert cell.level == "OK"


def test_nobody_takes_over_the_running_episode_of_a_policy_that_is_gone(cell):
    cell.say("true", "mine")
    cell.gate.on_chunk_publishers({"evil"})
    assert cell.say("evil", "mine") == "policy_conflict"
    assert cell.level == "STOP"


def test_a_policy_that_lives_keeps_the_gate_though_its_episode_is_over(cell):
    cell.say("true", "mine")
    cell.gate.on_chunk_publishers({"true", "evil"})
    assert cell.say("evil", "next") == "policy_conflict"


def test_after_an_arming_a_restarted_policy_is_heard_although_the_old_one_is_not_forgotten(cell):
    cell.say("true", "mine")
    assert cell.say("true again", "next") == "policy_conflict"
    cell.wait(2.1)
    assert cell.arm() == ""
    assert cell.say("true again", "another") == ""


def test_a_chunk_that_is_refused_makes_nobody_the_owner(cell):
    assert cell.say("evil", "theirs", bad=True) == "not_finite"
    assert cell.say("true", "mine") == ""
    assert cell.say("evil", "theirs", bad=True) == "policy_conflict"


def test_callers_that_name_no_publisher_are_all_the_same_one(cell):
    for episode in ("a", "b", "c"):
        assert cell.say("", episode) == ""


def test_a_held_button_refuses_arming_whatever_another_one_says(cell):
    cell.gate.on_stop_publishers({"a", "b"})
    cell.gate.on_stop_input(is_asserted=True, steady_ns=cell.now_ns, source="a")
    assert cell.level == "STOP"
    for _ in range(100):
        cell.gate.on_stop_input(is_asserted=False, steady_ns=cell.now_ns, source="b")
        cell.wait(0.02)
    assert cell.arm() == "the stop input is asserted"
    cell.gate.on_stop_publishers({"b"})
    cell.wait(2.0)
    assert "gone" in cell.arm()
    cell.gate.on_stop_publishers({"b", "c"})
    cell.gate.on_stop_input(is_asserted=False, steady_ns=cell.now_ns, source="c")
    cell.wait(1.2)
    assert cell.arm() == ""


def test_what_is_found_outside_stops_and_stands(cell):
    cell.gate.on_outside([Cause("intruder", "/evil publishes too")])
    cell.wait(0.02)
    assert cell.cause == "intruder"
    cell.wait(2.0)
    assert cell.arm() == "/evil publishes too"
    cell.gate.on_outside([])
    cell.wait(1.2)
    assert cell.arm() == ""


def test_three_chunks_that_cannot_be_used_stop_the_robot_with_the_last_ones_fault(cell):
    for k in range(3):
        assert cell.level == "OK", k
        assert cell.say("true", "mine", bad=True) == "not_finite"
    assert (cell.level, cell.cause) == ("STOP", "chunks_rejected")
    assert "row 0" in cell.gate.latch.detail


def test_a_stop_that_was_asked_for_is_told_by_its_cause_and_commands_rest_go_on(cell):
    cell.wait(0.02)
    before = cell.gate.counters.ticks
    cell.gate.stop(Cause("stop_request", "somebody asked for a stop"))
    cell.wait(0.2)
    assert (cell.level, cell.cause) == ("STOP", "stop_request")
    assert cell.gate.counters.ticks > before


def test_arming_an_armed_gate_lets_no_other_policy_in(cell):
    cell.say("true", "mine")
    assert cell.arm() == ""
    assert cell.say("evil", "theirs") == "policy_conflict"


def test_a_chunk_that_ends_without_another_one_is_silence_and_not_a_tick_before(cell):
    assert cell.say("policy", "an episode") == ""
    ticks = 0
    while cell.level != "HOLD":
        assert cell.level == "OK"
        cell.wait(0.02)
        ticks += 1
        assert ticks <= 20
    # It begins 50 ms after the first tick, and is over 320 ms later.
    assert ticks == 20
    assert cell.cause == "policy_silent"


def test_chunks_that_follow_each_other_are_no_silence(cell):
    for _ in range(10):
        assert cell.say("policy", "an episode") == ""
        cell.wait(0.24)
        assert cell.level == "OK"


def test_a_cold_answer_moves_nothing_and_the_next_one_begins_with_its_first_row(cell):
    assert cell.say("policy", "an episode", late_ms=3000) == "stamp_old"
    cell.wait(0.5)
    assert cell.level == "OK"
    assert cell.say("policy", "an episode", late_ms=400, slope=0.01) == ""
    gate = cell.gate.mechanism._gate
    cell.wait(0.02)
    first = gate._reference.position - cell.home
    np.testing.assert_allclose(first, 0.0, atol=1e-12)
    cell.wait(0.02)
    second = gate._reference.position - cell.home
    assert 0 < np.abs(second[:6]).max() <= 0.01 + 1e-9
