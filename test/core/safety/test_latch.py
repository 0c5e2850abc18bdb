"""The state machine of a gate, walked through completely."""

import copy

import pytest

from qwen_vla_ros.safety.latch import Cause, Latch, Level

STEP_NS = 100_000_000
STOP = Cause("cable", "the cable is out")
HOLD = Cause("fog", "nothing can be seen")
SHORT_HOLD = Cause("stall", "a joint does not follow", patience_s=0.5)


def well(latch, begin, seconds):
    """Let good ticks pass; returns the time after them."""
    for k in range(round(seconds * 10)):
        latch.update(begin + k * STEP_NS, [], [])
    return begin + round(seconds * 10) * STEP_NS


def armed():
    latch = Latch()
    now = well(latch, 0, 1.2)
    assert latch.arm(now, is_still=True) == ""
    return latch, now


class Explorer:
    """A latch with an observer beside it that remembers what a person would."""

    def __init__(self):
        self.latch = Latch()
        self.now = 0
        self.since_stop = 0  # ticks since a stop was last found; clipped
        self.since_hold = 99
        self.since_limited = 99
        self.held_for = 0

    def key(self):
        return (
            self.latch.level,
            self.latch.cause.name,
            self.latch.detail,
            self.since_stop,
            self.since_hold,
            self.since_limited,
            self.held_for,
        )

    def act(self, action):
        """Do one thing, and check all that must hold of it."""
        before = self.latch.level
        cause_before = self.latch.cause.name
        answer = None
        if action in ("arm", "arm moving"):
            answer = self.latch.arm(self.now, is_still=action == "arm")
        elif action == "trip":
            self.latch.trip(STOP)
            self.since_stop = 0
        elif action == "limited":
            self.latch.note_limited(self.now, Cause("limited", "slower"))
            self.since_limited = 0 if before <= Level.LIMITED else self.since_limited
        else:
            self.tick(action)
        self.check(action, before, cause_before, answer)

    def tick(self, action):
        stops = [STOP] if "stop" in action else []
        holds = [SHORT_HOLD] if "stall" in action else [HOLD] if "hold" in action else []
        self.now += STEP_NS
        self.since_stop = 0 if stops else min(self.since_stop + 1, 12)
        self.since_hold = 0 if holds else min(self.since_hold + 1, 12)
        self.since_limited = min(self.since_limited + 1, 7)
        self.latch.update(self.now, stops, holds)
        is_held = self.latch.level is Level.HOLD
        self.held_for = min(self.held_for + 1, 7) if is_held else 0

    def check(self, action, before, cause_before, answer):
        after = self.latch.level
        if before is Level.STOP and after is not Level.STOP:
            assert action == "arm"
            assert answer == ""
            assert self.since_stop > 10
            assert after is Level.OK
        if before is Level.STOP and after is Level.STOP:
            assert self.latch.cause.name == cause_before
        if before is Level.HOLD and after < Level.HOLD:
            assert action == "good"
            assert after is Level.OK
            assert self.since_hold >= 10
        if before is Level.LIMITED and after is Level.OK:
            assert self.since_limited >= 5
        if "stop" in action or action == "trip":
            assert after is Level.STOP
        if action in ("hold", "stall"):
            assert after >= Level.HOLD
        if action == "limited":
            assert after == max(before, Level.LIMITED)
        if action == "arm moving" or (answer and before is Level.STOP):
            assert after is before
        assert self.latch.is_armed == (after is not Level.STOP)


@pytest.mark.slow
def test_no_sequence_of_events_breaks_the_rules():
    actions = (
        "good",
        "hold",
        "stall",
        "stop",
        "stop hold",
        "trip",
        "limited",
        "arm",
        "arm moving",
    )
    start = Explorer()
    seen = {start.key(): start}
    frontier = [start]
    while frontier:
        state = frontier.pop()
        for action in actions:
            following = copy.deepcopy(state)
            following.act(action)
            if following.key() not in seen:
                seen[following.key()] = following
                frontier.append(following)
    assert {key[0] for key in seen} == set(Level)
    assert len(seen) > 500


def test_it_begins_stopped_and_says_so():
    latch = Latch()
    assert latch.level is Level.STOP
    assert latch.cause.name == "not_armed"


def test_a_second_of_proof_of_life_is_needed_before_arming():
    latch = Latch()
    now = well(latch, 0, 0.9)
    assert "1 s" in latch.arm(now - STEP_NS, is_still=True)
    now = well(latch, now, 0.3)
    assert latch.arm(now, is_still=True) == ""


def test_arming_an_armed_gate_changes_nothing():
    latch, now = armed()
    latch.update(now, [], [HOLD])
    assert latch.arm(now, is_still=False) == ""
    assert latch.level is Level.HOLD


def test_arming_is_refused_with_the_reason_that_stands():
    latch = Latch()
    now = well(latch, 0, 2)
    latch.update(now, [STOP], [])
    assert latch.arm(now, is_still=True) == "the cable is out"


def test_a_moving_robot_is_not_armed():
    latch = Latch()
    now = well(latch, 0, 2)
    assert latch.arm(now, is_still=False) == "the robot still moves"


def test_the_first_cause_of_a_stop_stays_and_others_are_told_beside_it():
    latch, now = armed()
    latch.update(now, [STOP], [])
    latch.update(now + STEP_NS, [Cause("flood", "water everywhere"), STOP], [])
    assert latch.cause.name == "cable"
    assert latch.detail == "the cable is out; also water everywhere"


def test_a_hold_resumes_after_a_second_and_ten_good_ticks():
    latch, now = armed()
    latch.update(now, [], [HOLD])
    # Two seconds, but only nine ticks: a gate that hardly ran has not seen enough.
    for k in range(9):
        latch.update(now + (k + 1) * 250_000_000, [], [])
    assert latch.level is Level.HOLD
    latch.update(now + 10 * 250_000_000, [], [])
    assert latch.level is Level.OK


def test_a_hold_names_the_cause_that_stands_now():
    latch, now = armed()
    latch.update(now, [], [HOLD])
    latch.update(now + STEP_NS, [], [SHORT_HOLD])
    assert latch.cause.name == "stall"


def test_a_hold_that_lasts_becomes_a_stop_where_the_cause_says_so():
    latch, now = armed()
    for k in range(7):
        latch.update(now + k * STEP_NS, [], [SHORT_HOLD])
    assert latch.level is Level.STOP
    assert latch.cause.name == "stall"


def test_limited_fades_after_half_a_second():
    latch, now = armed()
    latch.note_limited(now, Cause("limited", "slower"))
    latch.update(now + 4 * STEP_NS, [], [])
    assert latch.level is Level.LIMITED
    latch.update(now + 5 * STEP_NS, [], [])
    assert latch.level is Level.OK


@pytest.mark.parametrize("cycles", [1000])
def test_a_thousand_stops_and_clearings_let_nothing_move(cycles):
    latch, now = armed()
    latch.update(now, [STOP], [])
    for k in range(cycles):
        now = well(latch, now, 0.3)
        assert not latch.is_armed
        if k % 3 == 0:
            latch.update(now, [STOP], [HOLD])
    assert latch.level is Level.STOP


def test_what_becomes_known_of_a_cause_later_is_told_while_it_stands():
    latch, now = armed()
    latch.update(now, [Cause("intruder", "an unknown node publishes")], [])
    latch.update(now + STEP_NS, [Cause("intruder", "/evil publishes"), STOP], [])
    assert latch.detail == "/evil publishes; also the cable is out"
    latch.update(now + 2 * STEP_NS, [], [])
    assert latch.detail == "/evil publishes"


GRAVE = Cause("runaway", "it moves although it is held", is_grave=True)


def test_a_grave_cause_takes_the_place_of_the_first_one_which_is_still_told():
    latch, now = armed()
    latch.update(now, [STOP], [])
    latch.update(now + STEP_NS, [STOP, GRAVE], [])
    assert latch.cause.name == "runaway"
    assert latch.detail == "it moves although it is held; also the cable is out"
    latch.update(now + 2 * STEP_NS, [STOP], [])
    assert latch.cause.name == "runaway"
    now = well(latch, now + 3 * STEP_NS, 1.1)
    assert latch.detail == "it moves although it is held; also the cable is out"
    assert latch.arm(now, is_still=True) == ""
    assert latch.detail == ""


def test_the_first_grave_cause_stays():
    latch, now = armed()
    latch.update(now, [GRAVE], [])
    latch.update(now + STEP_NS, [Cause("fire", "it burns", is_grave=True)], [])
    assert latch.cause.name == "runaway"
    assert latch.detail == "it moves although it is held; also it burns"
