"""What a gate does at every event in every state; only an arming lowers a stop (P9, P14)."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.safety.interlock import Interlock
from qwen_vla_ros.safety.latch import Cause, Level

PERIOD_S = 0.02
PERIOD_NS = 20_000_000
HEARTBEAT_S = 0.2
STOP = Cause("cable", "the cable is out")
HOLD = Cause("fog", "nothing can be seen")


class Bench:
    """An interlock with a stop button that lives, and every event that can happen to it."""

    def __init__(self) -> None:
        self.interlock = Interlock(PERIOD_S, 0.5, HEARTBEAT_S)
        self.now_ns = 10**15
        self.steady_ns = 10**12
        self.is_pressed = False

    @property
    def level(self) -> Level:
        return self.interlock.latch.level

    @property
    def cause(self) -> str:
        return self.interlock.latch.cause.name

    def tick(self, *, periods=1.0, jump_s=0.0, is_paused=False, stops=(), holds=(), alive=True):
        """Let one period pass."""
        self.steady_ns += round(periods * PERIOD_NS)
        self.now_ns += 0 if is_paused else round(periods * PERIOD_NS + jump_s * 1e9)
        if alive:
            self.interlock.on_stop_input(is_asserted=self.is_pressed, steady_ns=self.steady_ns)
        tick = self.interlock.begin(self.now_ns, self.steady_ns)
        if tick is None:
            return
        tick.stop(*stops)
        tick.hold(*holds)
        self.interlock.judge(tick, self.steady_ns)

    def ticks(self, seconds, **what):
        for _ in range(round(seconds / PERIOD_S)):
            self.tick(**what)

    def press(self, *, is_pressed):
        self.is_pressed = is_pressed
        self.interlock.on_stop_input(is_asserted=is_pressed, steady_ns=self.steady_ns)

    def outside(self, *causes):
        self.interlock.outside = causes
        self.tick()
        self.interlock.outside = ()

    def rest(self, *, is_still):
        """Be watched at rest for long enough to be believed."""
        for _ in range(20):
            cause = self.interlock.watch_rest(
                is_commanded=False, is_still=is_still, steady_ns=self.steady_ns
            )
            self.tick(stops=[cause] if cause else [])


EVENTS = {
    "good tick": lambda b: b.tick(),
    "early tick": lambda b: b.tick(periods=0.1),
    "late tick": lambda b: b.tick(periods=2.0),
    "far too late tick": lambda b: b.tick(periods=6.0),
    "clock forward": lambda b: b.tick(jump_s=1.0),
    "clock back": lambda b: b.tick(jump_s=-1.0),
    "clock paused": lambda b: b.ticks(0.14, is_paused=True),
    "chunk": lambda b: b.interlock.on_chunk(b.steady_ns),
    "reason to stop": lambda b: b.tick(stops=[STOP]),
    "reason to hold": lambda b: b.tick(holds=[HOLD]),
    "both": lambda b: b.tick(stops=[STOP], holds=[HOLD]),
    "reason outside": lambda b: b.outside(STOP),
    "stop pressed": lambda b: b.press(is_pressed=True),
    "stop released": lambda b: b.press(is_pressed=False),
    "stop silent": lambda b: b.ticks(0.3, alive=False),
    "stop asked for": lambda b: b.interlock.latch.trip(STOP),
    "limited": lambda b: b.interlock.finish(b.steady_ns, is_limited=True, is_commanded=True),
    "not limited": lambda b: b.interlock.finish(b.steady_ns, is_limited=False, is_commanded=True),
    "outside the envelope": lambda b: b.interlock.trusts(1),
    "inside the envelope": lambda b: b.interlock.trusts(0),
    "still at rest": lambda b: b.rest(is_still=True),
    "moves on at rest": lambda b: b.rest(is_still=False),
    "well for long": lambda b: b.ticks(1.5),
    "armed while still": lambda b: b.interlock.latch.arm(b.steady_ns, is_still=True),
    "armed while moving": lambda b: b.interlock.latch.arm(b.steady_ns, is_still=False),
}
STOPPING = {
    "far too late tick": "gate_late",
    "clock forward": "clock_jump",
    "clock back": "clock_jump",
    "reason to stop": "cable",
    "both": "cable",
    "reason outside": "cable",
    "stop pressed": "stop_input",
    "stop silent": "stop_input_lost",
    "stop asked for": "cable",
    "outside the envelope": "internal",
}
HOLDING = {"reason to hold": "fog", "clock paused": "clock_paused"}


def disarmed():
    bench = Bench()
    bench.ticks(1.5)
    return bench


def armed():
    bench = disarmed()
    assert bench.interlock.latch.arm(bench.steady_ns, is_still=True) == ""
    return bench


def limited():
    bench = armed()
    EVENTS["limited"](bench)
    return bench


def holding():
    bench = armed()
    bench.tick(holds=[HOLD])
    return bench


def stopped():
    bench = armed()
    bench.tick(stops=[STOP])
    return bench


STATES = {
    "disarmed": disarmed,
    "armed": armed,
    "limited": limited,
    "holding": holding,
    "stopped": stopped,
}


def expected(state, event):
    """What a person would say who knows the rules and not the code: level and cause afterwards."""
    if event == "moves on at rest" and state not in ("armed", "limited"):
        return "STOP", "still_moving"  # stopping was not enough: that is worse than its cause
    if state == "disarmed":
        return ("OK", "") if event == "armed while still" else ("STOP", "not_armed")
    if state == "stopped":
        return "STOP", "cable"  # nothing was well for a second yet
    if event in STOPPING:
        return "STOP", STOPPING[event]
    if event in HOLDING:
        return "HOLD", HOLDING[event]
    if state == "holding":
        return ("OK", "") if event == "well for long" else ("HOLD", "fog")
    if event == "limited":
        return "LIMITED", "limited"
    over = event in ("well for long",)
    return ("LIMITED", "limited") if state == "limited" and not over else ("OK", "")


@pytest.mark.parametrize(("state", "event"), list(itertools.product(STATES, EVENTS)))
def test_every_event_in_every_state_leads_where_the_rules_say(state, event):
    bench = STATES[state]()
    EVENTS[event](bench)
    assert (bench.level.name, bench.cause) == expected(state, event)


@pytest.mark.slow
@given(st.lists(st.sampled_from(sorted(EVENTS)), min_size=1, max_size=60))
@settings(max_examples=300, deadline=None)
def test_nothing_but_an_arming_lowers_a_stop_and_nothing_but_time_lowers_a_hold(events):
    bench = armed()
    for event in events:
        before, since = bench.level, bench.steady_ns
        EVENTS[event](bench)
        after, waited_s = bench.level, (bench.steady_ns - since) / 1e9
        if before is Level.STOP and after is not Level.STOP:
            assert event == "armed while still"
            assert not bench.is_pressed
        if event in STOPPING or bench.is_pressed:
            assert after is Level.STOP
        if event in HOLDING:
            assert after >= Level.HOLD
        if before is Level.HOLD and after < Level.HOLD:
            assert waited_s > 0


LATCHED = sorted(set(EVENTS) - {"armed while still", "moves on at rest"})


@pytest.mark.slow
@given(st.lists(st.sampled_from(LATCHED), max_size=60))
@settings(max_examples=300, deadline=None)
def test_without_an_arming_no_sequence_of_events_leaves_a_stop_nor_changes_its_cause(events):
    bench = stopped()
    for event in events:
        EVENTS[event](bench)
        assert (bench.level, bench.cause) == (Level.STOP, "cable")


@given(st.lists(st.sampled_from(sorted(STOPPING)), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_after_any_faults_a_second_of_good_ticks_and_an_arming_let_it_move_again(events):
    bench = armed()
    for event in events:
        EVENTS[event](bench)
    bench.press(is_pressed=False)
    bench.ticks(1.1)
    assert bench.interlock.latch.arm(bench.steady_ns, is_still=True) == ""
    assert bench.level is Level.OK


def test_any_of_several_stop_inputs_stops_and_each_says_which():
    interlock = Interlock(PERIOD_S, 0.5, None, {"estop": 0.2, "deadman": 0.2})
    now_ns = 10**15

    def tick(**said: bool) -> list[str]:
        nonlocal now_ns
        now_ns += round(PERIOD_S * 1e9)
        for name, is_asserted in said.items():
            interlock.on_stop_input(is_asserted=is_asserted, steady_ns=now_ns, name=name)
        tick = interlock.begin(now_ns, now_ns)
        interlock.judge(tick, now_ns)
        return [cause.name for cause in tick.stops]

    assert tick() == ["stop_input_lost:estop", "stop_input_lost:deadman"]
    assert tick(estop=False) == ["stop_input_lost:deadman"]
    assert tick(deadman=True) == ["stop_input:deadman"]
    assert tick(deadman=False) == []
    for _ in range(60):
        tick(estop=False, deadman=False)
    assert interlock.latch.arm(now_ns, is_still=True) == ""
    assert tick(deadman=True) == ["stop_input:deadman"]
    assert interlock.latch.cause.name == "stop_input:deadman"
    assert tick(deadman=False, estop=True) == ["stop_input:estop"]
    # A latched stop keeps its first cause, and tells the others.
    assert interlock.latch.cause.name == "stop_input:deadman"
    assert "'estop' is asserted" in interlock.latch.detail


def test_a_stop_input_on_its_own_topic_is_not_heard_for_another():
    interlock = Interlock(PERIOD_S, 0.5, 0.2, {"estop": 0.2})
    interlock.on_stop_input(is_asserted=True, steady_ns=0, source="a", name="estop")
    interlock.on_stop_input(is_asserted=False, steady_ns=0, source="a")
    interlock.on_stop_publishers({"a"})
    interlock.on_stop_publishers({"a"}, "estop")
    tick = interlock.begin(10**15, 1)
    assert [cause.name for cause in tick.stops] == ["stop_input:estop"]
