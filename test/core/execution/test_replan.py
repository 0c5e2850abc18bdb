import pytest

from qwen_vla_ros.execution.replan import ReplanSchedule

MS = 1_000_000


def test_the_first_question_is_due_at_once():
    assert ReplanSchedule(0.02, 8).is_due(0)


def test_the_next_question_leaves_time_for_its_answer():
    schedule = ReplanSchedule(0.02, 8)  # 160 ms are executed
    schedule.on_chunk(stamp_ns=0, now_ns=60 * MS)
    assert schedule.latency_s == pytest.approx(0.06)
    assert not schedule.is_due(99 * MS)
    assert schedule.is_due(100 * MS)


def test_a_slow_policy_is_asked_again_at_once():
    schedule = ReplanSchedule(0.02, 8)
    schedule.on_chunk(stamp_ns=0, now_ns=300 * MS)
    assert schedule.is_due(300 * MS)


def test_one_slow_answer_does_not_rule_the_schedule():
    schedule = ReplanSchedule(0.02, 8)
    for _ in range(50):
        schedule.on_chunk(stamp_ns=0, now_ns=50 * MS)
    schedule.on_chunk(stamp_ns=0, now_ns=150 * MS)
    assert schedule.latency_s == pytest.approx(0.07)


def test_a_restart_makes_a_question_due():
    schedule = ReplanSchedule(0.02, 8)
    schedule.on_chunk(stamp_ns=0, now_ns=10 * MS)
    assert not schedule.is_due(20 * MS)
    schedule.restart()
    assert schedule.is_due(20 * MS)
