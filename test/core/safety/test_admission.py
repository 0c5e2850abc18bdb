"""What a policy sends, judged before it can move anything: A1 to A6, A15 to A17, E10, E12, I5."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.safety.admission import Admission
from qwen_vla_ros.types import ActionChunk, rest_chunk

NOW = 10**15
STEADY = 5 * 10**12
MS = 1_000_000
CHANNELS = ("shoulder", "elbow", "gripper")


def make_admission():
    return Admission(
        embodiment="arm",
        embodiment_hash="0123456789abcdef",
        channels=CHANNELS,
        dt=0.02,
        max_rows=16,
        max_age_s=0.5,
    )


def make_chunk(**changes):
    values = {
        "stamp_ns": NOW - 100 * MS,
        "dt": 0.02,
        "channels": CHANNELS,
        "actions": np.arange(24, dtype=np.float32).reshape(8, 3) / 10,
        "sequence": 1,
        "episode": "a",
        "embodiment": "arm",
        "embodiment_hash": "0123456789abcdef",
    }
    return ActionChunk(**{**values, **changes})


def cause_of(chunk, admission=None):
    return (admission or make_admission()).judge(chunk, NOW, STEADY).cause


def with_value(value):
    actions = np.zeros((8, 3), dtype=np.float32)
    actions[5, 1] = value
    return make_chunk(actions=actions)


def test_a_good_chunk_is_accepted_with_its_values_untouched():
    verdict = make_admission().judge(make_chunk(), NOW, STEADY)
    assert verdict.cause == ""
    np.testing.assert_array_equal(verdict.chunk.actions, make_chunk().actions)
    assert verdict.chunk.actions.dtype == np.float64


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_rejects_the_whole_chunk(value):
    admission = make_admission()
    verdict = admission.judge(with_value(value), NOW, STEADY)
    assert verdict.cause == "not_finite"
    assert verdict.detail.startswith("row 5 of 'elbow'")
    assert verdict.chunk is None


@pytest.mark.parametrize("value", [3e38, -3e38, 1.1e9])
def test_a_value_that_is_finite_and_absurd_rejects_the_whole_chunk(value):
    verdict = make_admission().judge(with_value(value), NOW, STEADY)
    assert verdict.cause == "absurd"
    assert verdict.detail == f"row 5 of 'elbow' is {value:g}, allowed are -1e+09 to 1e+09"


@pytest.mark.parametrize("value", [1e9, -1e6, 1e-45, -0.0])
def test_a_finite_value_however_odd_is_left_to_the_filter(value):
    assert cause_of(with_value(value)) == ""


@pytest.mark.parametrize(
    "actions",
    [
        np.zeros((8, 2)),
        np.zeros((8, 4)),
        np.zeros(24),
        np.zeros((1, 8, 3)),
        np.zeros((0, 3)),
        np.zeros((17, 3)),
        np.zeros(()),
    ],
)
def test_a_wrong_shape_is_rejected(actions):
    assert cause_of(make_chunk(actions=actions)) == "shape"


@pytest.mark.parametrize(
    "actions",
    [
        np.zeros((8, 3), dtype=bool),
        np.full((8, 3), "0.1"),
        np.full((8, 3), None),
        np.zeros((8, 3), dtype=complex),
        [[0.0, 0.0, 0.0]],
        None,
        "",
    ],
)
def test_values_of_a_wrong_type_are_rejected(actions):
    assert cause_of(make_chunk(actions=actions)) == "malformed"


def test_a_chunk_that_cannot_be_read_is_rejected():
    assert cause_of(None) == "malformed"


@pytest.mark.parametrize(
    ("channels", "part"),
    [
        (("shoulder", "elbow", "griper"), "'griper' is unknown"),
        (("shoulder", "elbow"), "'gripper' is missing"),
        (("shoulder", "elbow", "elbow"), "named twice"),
        (("shoulder", "elbow", "gripper", "waist"), "too many"),
        ((), "is missing"),
    ],
)
def test_unknown_missing_and_doubled_channels_are_rejected(channels, part):
    verdict = make_admission().judge(make_chunk(channels=channels), NOW, STEADY)
    assert verdict.cause == "channels"
    assert part in verdict.detail


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_channels_are_found_by_name(order):
    chunk = make_chunk()
    permuted = replace(
        chunk,
        channels=tuple(CHANNELS[i] for i in order),
        actions=chunk.actions[:, list(order)],
    )
    verdict = make_admission().judge(permuted, NOW, STEADY)
    assert verdict.chunk.channels == CHANNELS
    np.testing.assert_array_equal(verdict.chunk.actions, chunk.actions)


@pytest.mark.parametrize("dt", [0.0, -0.02, 0.021, 1e9, float("nan"), float("inf")])
def test_rows_at_another_rate_are_rejected(dt):
    assert cause_of(make_chunk(dt=dt)) == "dt"


@pytest.mark.parametrize(
    ("age_ms", "cause"),
    [(501, "stamp_old"), (-51, "stamp_ahead"), (500, ""), (-50, ""), (3_600_000, "stamp_old")],
)
def test_an_observation_that_is_old_or_ahead_is_rejected(age_ms, cause):
    assert cause_of(make_chunk(stamp_ns=NOW - age_ms * MS)) == cause


@pytest.mark.parametrize("stamp", [0, -5])
def test_an_observation_without_time_is_rejected(stamp):
    assert cause_of(make_chunk(stamp_ns=stamp)) == "stamp_zero"


@pytest.mark.parametrize(
    ("last", "following", "cause"),
    [
        (1, 2, ""),
        (1, 9, ""),
        (1, 1, "sequence"),
        (9, 8, "sequence"),
        (2**32 - 1, 0, ""),
        (2**32 - 1, 5, ""),
        (0, 2**32 - 1, "sequence"),
        (5, 2**32, "sequence"),
        (5, -1, "sequence"),
    ],
)
def test_the_sequence_must_rise_and_may_roll_over(last, following, cause):
    admission = make_admission()
    assert cause_of(make_chunk(sequence=last), admission) == ""
    assert cause_of(make_chunk(sequence=following), admission) == cause


def test_an_older_observation_than_the_last_one_is_rejected():
    admission = make_admission()
    assert cause_of(make_chunk(), admission) == ""
    older = make_chunk(sequence=2, stamp_ns=NOW - 101 * MS)
    assert cause_of(older, admission) == "sequence"
    same = make_chunk(sequence=2)
    assert cause_of(same, admission) == ""


def test_a_new_episode_counts_anew_and_ends_the_old_one():
    admission = make_admission()
    assert cause_of(make_chunk(sequence=50), admission) == ""
    assert cause_of(make_chunk(sequence=1, episode="b"), admission) == ""
    assert cause_of(make_chunk(sequence=51, episode="a"), admission) == "episode"


def test_after_a_stop_a_restarted_policy_counts_anew():
    admission = make_admission()
    assert cause_of(make_chunk(sequence=50), admission) == ""
    admission.forget()
    assert cause_of(make_chunk(sequence=1), admission) == ""


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"embodiment": "other"}, "wrong_robot"),
        ({"embodiment": ""}, "wrong_robot"),
        ({"embodiment_hash": "0123456789abcdee"}, "wrong_hash"),
        ({"embodiment_hash": ""}, "wrong_hash"),
    ],
)
def test_a_chunk_for_another_robot_is_rejected(change, cause):
    assert cause_of(make_chunk(**change)) == cause


def test_rest_is_obeyed_however_late():
    chunk = replace(
        rest_chunk(NOW - 10**12, 0.02, CHANNELS),
        embodiment="arm",
        embodiment_hash="0123456789abcdef",
    )
    verdict = make_admission().judge(chunk, NOW, STEADY)
    assert verdict.chunk.rest
    assert verdict.chunk.actions.shape == (0, 3)


def test_rest_for_another_robot_is_rejected():
    assert cause_of(rest_chunk(NOW, 0.02, CHANNELS)) == "wrong_robot"


def test_three_rejects_in_a_row_exhaust_patience():
    admission = make_admission()
    for k in range(3):
        assert not admission.is_exhausted(STEADY)
        admission.judge(with_value(np.nan), NOW, STEADY + k * 10**9)
    assert admission.is_exhausted(STEADY + 2 * 10**9)
    assert admission.rejected == 3


def test_a_good_chunk_in_between_restores_patience():
    admission = make_admission()
    for k in range(8):
        bad = k % 2 == 0
        chunk = with_value(np.nan) if bad else make_chunk(sequence=k)
        admission.judge(chunk, NOW, STEADY + k * 10**9)
        assert not admission.is_exhausted(STEADY + k * 10**9)
    assert (admission.accepted, admission.rejected) == (4, 4)


def test_five_rejects_within_a_second_exhaust_patience():
    admission = make_admission()
    for k in range(9):
        chunk = with_value(np.nan) if k % 2 == 0 else make_chunk(sequence=k)
        admission.judge(chunk, NOW, STEADY + k * 100 * MS)
        assert admission.is_exhausted(STEADY + k * 100 * MS) == (k == 8)


def test_a_million_rows_are_refused_before_anything_is_copied():
    chunk = make_chunk(actions=np.zeros((1_000_000, 3), dtype=np.float32))
    admission = make_admission()
    admission.judge(make_chunk(), NOW, STEADY)  # warm
    tracemalloc.start()
    cause = admission.judge(replace(chunk, sequence=2), NOW, STEADY).cause
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cause == "shape"
    assert peak < 2**20


def test_a_strangers_words_are_quoted_and_cut():
    verdict = make_admission().judge(make_chunk(embodiment="x\n" * 10_000), NOW, STEADY)
    assert "\n" not in verdict.detail
    assert len(verdict.detail) < 200


def test_an_episode_with_an_endless_name_is_rejected():
    assert cause_of(make_chunk(episode="x" * 10_000)) == "episode"


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=3),
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from(
            ["stamp_ns", "dt", "channels", "actions", "sequence", "episode", "embodiment", "rest"]
        ),
        anything,
    )
)
def test_whatever_comes_it_answers_and_never_raises(changes):
    admission = make_admission()
    verdict = admission.judge(make_chunk(**changes), NOW, STEADY)
    assert (verdict.chunk is None) == bool(verdict.cause)
    assert admission.accepted + admission.rejected == 1
    assert admission.judge(make_chunk(sequence=9, episode="later"), NOW, STEADY).cause == ""


def test_the_robots_file_says_what_is_accepted():
    robot = load_embodiment("aloha_sim")
    admission = Admission.from_embodiment(robot)
    actions = np.zeros((16, len(robot.channels)), dtype=np.float32)
    chunk = make_chunk(
        channels=robot.channels,
        dt=robot.dt,
        embodiment=robot.name,
        embodiment_hash=robot.hash,
        actions=actions,
    )
    assert cause_of(chunk, admission) == ""
    longer = np.zeros((17, len(robot.channels)), dtype=np.float32)
    assert cause_of(replace(chunk, sequence=2, actions=longer), admission) == "shape"
