import pytest

from qwen_vla_ros.execution.replan import ReplanSchedule

MS = 1_000_000


@pytest.fixture
def schedule():
    """Of 16 rows of 20 ms, 8 are to be executed: 160 ms."""
    return ReplanSchedule(0.02, 8, playable_s=0.32)


def answer(schedule, *, stamp_ms=0, age_ms=60, thought_ms=40, times=1):
    for _ in range(times):
        schedule.on_chunk(stamp_ms * MS, (stamp_ms + age_ms) * MS, thought_ms * 1e-3)


def test_the_first_question_is_due_at_once(schedule):
    assert schedule.is_due(0)


def test_the_next_question_leaves_time_for_its_answer(schedule):
    answer(schedule)
    assert not schedule.is_due(119 * MS)
    assert schedule.is_due(120 * MS)


def test_latency_counts_from_the_observation_to_its_chunk(schedule):
    assert schedule.latency_s == 0.0
    answer(schedule)
    assert schedule.latency_s == pytest.approx(0.06)


def test_a_slow_policy_is_asked_again_as_soon_as_it_has_answered(schedule):
    answer(schedule, age_ms=150, thought_ms=90)
    assert schedule.is_due(150 * MS)


def test_the_slow_answers_rule_the_schedule_and_not_the_mean(schedule):
    answer(schedule, times=50)
    answer(schedule, age_ms=120, thought_ms=100, times=5)
    assert schedule.latency_s == pytest.approx(0.12)
    assert schedule.is_due(60 * MS)


def test_one_answer_in_a_hundred_does_not_rule_it(schedule):
    answer(schedule, times=50)
    answer(schedule, age_ms=500, thought_ms=480)
    assert schedule.latency_s == pytest.approx(0.06)


def test_what_took_long_is_forgotten_after_a_while(schedule):
    answer(schedule, age_ms=120, times=64)
    answer(schedule, age_ms=60, times=64)
    assert schedule.latency_s == pytest.approx(0.06)


def test_a_chunk_that_is_executed_whole_keeps_one_row_in_reserve():
    schedule = ReplanSchedule(0.02, 16, playable_s=0.32)
    answer(schedule)
    assert not schedule.is_due(259 * MS)
    assert schedule.is_due(260 * MS)


def test_a_restart_makes_a_question_due(schedule):
    answer(schedule)
    assert not schedule.is_due(20 * MS)
    schedule.restart()
    assert schedule.is_due(20 * MS)
