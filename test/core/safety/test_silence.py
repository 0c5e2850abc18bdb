"""Who stands by for a gate, and when it steps in."""

import pytest

from qwen_vla_ros.safety.silence import SilenceWatch, silence_s

MS = 10**6
BEGIN_NS = 5 * 10**12


class Watch:
    """A watch that is looked at every 10 ms, and a gate that may speak every 20 ms."""

    def __init__(self):
        self.watch = SilenceWatch(silence_s(0.02))
        self.now_ns = BEGIN_NS

    def run(self, ms, moves=None):
        """Let time pass; returns after how many milliseconds rest was first commanded."""
        first = None
        for passed in range(0, ms, 10):
            self.now_ns += 10 * MS
            if moves is not None and passed % 20 == 0:
                self.watch.hear(moves=moves, steady_ns=self.now_ns)
            if self.watch.look(self.now_ns) and first is None:
                first = passed + 10
        return first


@pytest.fixture
def watch():
    return Watch()


def test_a_gate_that_speaks_is_left_alone(watch):
    assert watch.run(3000, moves=True) is None
    assert watch.watch.is_needed


def test_a_gate_that_falls_silent_in_motion_is_replaced_for_a_second(watch):
    watch.run(500, moves=True)
    assert watch.run(990) == 100
    assert watch.watch.steps_in
    assert watch.run(110) == 10
    assert not watch.watch.is_needed
    assert watch.run(5000) is None


def test_a_gate_that_falls_silent_at_rest_is_left_alone(watch):
    watch.run(500, moves=True)
    watch.run(100, moves=False)
    assert watch.run(3000) is None
    assert not watch.watch.is_needed


def test_nothing_is_said_before_anything_was_heard(watch):
    assert watch.run(3000) is None


def test_a_gate_that_moves_and_falls_silent_again_is_replaced_again(watch):
    watch.run(500, moves=True)
    watch.run(1500)
    watch.run(100, moves=True)
    assert watch.run(500) == 100


def test_a_watch_that_slept_reads_first_what_came_meanwhile(watch):
    watch.run(500, moves=True)
    watch.now_ns += 5000 * MS
    assert not watch.watch.look(watch.now_ns)
    watch.watch.hear(moves=True, steady_ns=watch.now_ns)
    assert watch.run(100) is None
    assert watch.run(20) is not None


def test_a_watch_that_slept_steps_in_when_nothing_came(watch):
    watch.run(500, moves=True)
    watch.now_ns += 5000 * MS
    assert not watch.watch.look(watch.now_ns)
    assert watch.run(100) == 10


@pytest.mark.parametrize(("rate_hz", "seconds"), [(100, 0.1), (50, 0.1), (20, 0.125), (10, 0.25)])
def test_a_slow_gate_may_be_silent_for_longer(rate_hz, seconds):
    assert silence_s(1 / rate_hz) == pytest.approx(seconds)
