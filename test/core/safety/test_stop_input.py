"""Several stop buttons on one topic: G1 to G4, and what becomes of those that go away."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.safety.stop_input import StopInput

MS = 1_000_000


@pytest.fixture
def stop():
    return StopInput(None)


def said(stop, *words):
    """Have publishers say true or false, as ("a", True)."""
    for source, is_asserted in words:
        stop.hear(source, is_asserted=is_asserted, steady_ns=0)
    cause = stop.cause(0)
    return cause.name if cause else ""


def test_a_button_that_is_held_stops_whatever_another_one_says(stop):
    assert said(stop, ("b", False), ("a", True), *[("b", False)] * 100) == "stop_input"
    assert said(stop, ("a", False)) == ""


def test_two_buttons_that_are_held_must_both_be_released(stop):
    assert said(stop, ("a", True), ("b", True), ("a", False)) == "stop_input"
    assert said(stop, ("b", False)) == ""


def test_one_publisher_that_bounces_is_where_it_said_last(stop):
    assert said(stop, ("a", True), ("a", False), ("a", True)) == "stop_input"
    assert said(stop, ("a", False)) == ""


def test_a_button_that_goes_away_while_it_is_held_stays_held(stop):
    said(stop, ("b", False), ("a", True))
    stop.see({"b"})
    assert said(stop, ("b", False)) == "stop_input"
    assert "gone" in stop.cause(0).detail


def test_a_button_that_was_restarted_takes_its_own_place(stop):
    said(stop, ("b", False), ("a", True))
    stop.see({"b"})
    stop.see({"b", "a again"})
    assert said(stop, ("a again", False)) == ""


def test_a_restarted_button_takes_its_place_once_the_old_one_is_known_to_be_gone(stop):
    said(stop, ("a", True), ("a again", False))
    stop.see({"a", "a again"})  # the one that was killed is not forgotten yet
    assert said(stop) == "stop_input"
    stop.see({"a again"})
    assert said(stop) == ""


def test_whoever_says_false_and_leaves_has_released_nothing_that_is_still_held(stop):
    stop.see({"a", "person"})
    assert said(stop, ("a", True), ("person", False)) == "stop_input"
    stop.see({"a"})
    assert said(stop) == "stop_input"


def test_one_word_from_a_person_stops_and_one_from_the_same_desk_releases(stop):
    stop.see({"first call"})
    assert said(stop, ("first call", True)) == "stop_input"
    stop.see(set())
    assert said(stop) == "stop_input"
    stop.see({"second call"})
    assert said(stop, ("second call", False)) == ""


def test_a_button_that_hangs_is_no_proof_of_life_though_another_one_lives():
    stop = StopInput(0.2)
    for k in range(30):
        if k < 10:
            stop.hear("a", is_asserted=False, steady_ns=20 * k * MS)
        stop.hear("b", is_asserted=False, steady_ns=20 * k * MS)
        is_lost = stop.cause(20 * k * MS) is not None
        assert is_lost == (20 * k - 180 > 200), k
    stop.see({"b"})  # it was taken away in order: the other one is enough
    assert stop.cause(580 * MS) is None


def test_a_stop_input_that_must_live_and_was_never_heard_is_lost():
    stop = StopInput(0.2)
    assert stop.cause(0).name == "stop_input_lost"
    stop.see({"b"})
    assert stop.cause(0).name == "stop_input_lost"


def test_thousands_of_callers_leave_nothing_behind(stop):
    for k in range(5000):
        stop.see({k})
        stop.hear(k, is_asserted=False, steady_ns=0)
    stop.see(set())
    assert vars(stop)["_speakers"] == {}


WORDS = st.tuples(st.sampled_from("abc"), st.sampled_from(["true", "false", "comes", "goes"]))


@pytest.mark.slow
@given(st.lists(WORDS, max_size=40))
@settings(max_examples=500, deadline=None)
def test_nothing_but_the_owner_or_somebody_who_came_later_takes_a_stop_back(words):
    stop, clock = StopInput(None), itertools.count()
    came, calm, held = {}, set(), {}
    generation = dict.fromkeys("abc", 0)
    for letter, word in words:
        who = (letter, generation[letter])
        if word == "comes":
            came.setdefault(who, next(clock))
        elif word == "goes":
            came.pop(who, None)
            calm.discard(who)
            generation[letter] += 1
        elif who in came:
            stop.hear(who, is_asserted=word == "true", steady_ns=0)
            if word == "true":
                held[who] = next(clock)
                calm.discard(who)
            else:
                held.pop(who, None)
                calm.add(who)
        stop.see(set(came))
        for gone in [each for each in held if each not in came]:
            if any(came[each] > held[gone] for each in calm):
                del held[gone]
        assert (stop.cause(0) is not None) == bool(held)


def test_a_named_stop_input_says_its_name():
    stop = StopInput(0.1, "deadman")
    assert stop.cause(0).name == "stop_input_lost:deadman"
    assert stop.cause(0).detail == "the stop input 'deadman' is silent"
    stop.hear("a", is_asserted=True, steady_ns=0)
    assert stop.cause(0).name == stop.asserted.name == "stop_input:deadman"
    assert stop.cause(0).detail == "the stop input 'deadman' is asserted"
    stop.see(set())
    assert "stop input 'deadman' was asserted by a publisher that is gone" in stop.cause(0).detail
