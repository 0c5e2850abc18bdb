"""The judge is strict: the left gripper, alone, off the table, for a while."""

from types import SimpleNamespace

import numpy as np
import pytest

from qwen_vla_ros.sim.transfer_judge import HOLD_S, TransferJudge

GEOMS = (
    "table",
    "red_cube",
    "blue_cube",
    "vx300s_left/7_gripper",
    "vx300s_left/10_left_gripper_finger",
    "vx300s_left/10_right_gripper_finger",
    "vx300s_right/10_left_gripper_finger",
    "vx300s_right/10_right_gripper_finger",
)
TABLE, RED, BLUE, LEFT_PALM, LEFT_A, LEFT_B, RIGHT_A, RIGHT_B = range(len(GEOMS))
PERIOD_S = 0.01


class Model:
    ngeom = len(GEOMS)

    @staticmethod
    def geom(index):
        return SimpleNamespace(name=GEOMS[index])


@pytest.fixture
def judge():
    return TransferJudge(Model(), ("red_cube", "blue_cube"))


def watch(judge, *pairs, seconds=PERIOD_S):
    data = SimpleNamespace(contact=SimpleNamespace(geom=np.array(pairs, dtype=int).reshape(-1, 2)))
    for _ in range(round(seconds / PERIOD_S)):
        judge.watch(data, PERIOD_S)
    return judge.verdict("red_cube")


IN_LEFT = ((RED, LEFT_A), (LEFT_B, RED))


def test_held_by_the_left_fingers_alone_for_long_enough_is_a_success(judge):
    assert not watch(judge, *IN_LEFT, seconds=HOLD_S - 2 * PERIOD_S).success
    verdict = watch(judge, *IN_LEFT, seconds=4 * PERIOD_S)
    assert verdict.success
    assert verdict.progress == 1.0
    assert verdict.target == "red_cube"


@pytest.mark.parametrize(
    "more",
    [(RED, TABLE), (RED, RIGHT_A), (BLUE, RED)],
    ids=["on the table", "in the other gripper too", "on another cube"],
)
def test_whatever_else_touches_the_cube_makes_it_no_success(judge, more):
    assert not watch(judge, *IN_LEFT, more, seconds=1.0).success


def test_the_palm_does_not_hold_a_cube(judge):
    assert not watch(judge, (RED, LEFT_PALM), seconds=1.0).success


def test_letting_go_ends_the_success_but_not_the_progress(judge):
    watch(judge, *IN_LEFT, seconds=1.0)
    verdict = watch(judge, (RED, TABLE))
    assert not verdict.success
    assert verdict.progress == 1.0


def test_an_interruption_starts_the_holding_anew(judge):
    watch(judge, *IN_LEFT, seconds=HOLD_S - 2 * PERIOD_S)
    watch(judge, *IN_LEFT, (RED, RIGHT_A))
    assert not watch(judge, *IN_LEFT, seconds=HOLD_S - 2 * PERIOD_S).success


def test_progress_rises_stage_by_stage(judge):
    seen = [
        watch(judge, (RED, TABLE)).progress,
        watch(judge, (RED, TABLE), (RED, RIGHT_A)).progress,
        watch(judge, (RED, RIGHT_A), (RED, RIGHT_B)).progress,
        watch(judge, (RED, RIGHT_A), (RED, LEFT_A)).progress,
        watch(judge, *IN_LEFT, seconds=1.0).progress,
    ]
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_the_other_cube_does_not_count(judge):
    watch(judge, *IN_LEFT, seconds=1.0)
    assert not judge.verdict("blue_cube").success


def test_without_a_target_there_is_no_success(judge):
    watch(judge, *IN_LEFT, seconds=1.0)
    verdict = judge.verdict("")
    assert (verdict.target, verdict.success, verdict.progress) == ("", False, 0.0)


def test_a_reset_forgets_what_was_seen(judge):
    watch(judge, *IN_LEFT, seconds=1.0)
    judge.reset()
    assert watch(judge, (RED, TABLE)).progress == 0.0
