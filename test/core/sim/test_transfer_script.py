"""The script goes on by what is measured, and goes back when the cube is lost."""

import numpy as np
import pytest

from qwen_vla_ros.sim.transfer_script import MEET_M, OPEN, Phase, SensedState, TransferScript

CUBE = np.array([0.1, 0.5, 0.02])
HALF_CLOSED = 0.6


@pytest.fixture
def script():
    return TransferScript()


def put_in(script, phase):
    script.phase = phase
    return script


def sense(script, *, is_still=True, away=0.0, turned=0.0, left=OPEN, right=OPEN, cube=CUBE):
    """Return what is sensed when both grippers are at their goals, or off by a little."""
    tips = {side: pose(grip.point + away, grip.rotation) for side, grip in script.grips().items()}
    c, s = np.cos(turned), np.sin(turned)
    tips["right"][:3, :3] = tips["right"][:3, :3] @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    openness = {"left": left, "right": right}
    return SensedState(
        tips=tips,
        openness=openness,
        cube=cube,
        yaw=0.0,
        is_slow=of_both(is_still),
        is_shut=of_both(is_still),
    )


def of_both(value):
    return dict.fromkeys(("left", "right"), value)


def pose(point, rotation=None):
    result = np.eye(4)
    result[:3, 3] = point
    if rotation is not None:
        result[:3, :3] = rotation
    return result


def see(script, cube=CUBE, yaw=0.0, tips=MEET_M):
    """Let the script see a cube while both grippers are elsewhere."""
    both = {side: pose(tips) for side in ("left", "right")}
    openness = {"left": OPEN, "right": OPEN}
    script.advance(
        SensedState(
            tips=both,
            openness=openness,
            cube=cube,
            yaw=yaw,
            is_slow=of_both(True),
            is_shut=of_both(True),
        )
    )


def test_it_begins_above_the_cube(script):
    see(script)
    right = script.grips()["right"]
    assert right.point == pytest.approx(CUBE + np.array([0, 0, 0.1]))
    assert right.openness == OPEN


@pytest.mark.parametrize(
    "off", [{"away": 0.05}, {"turned": 0.3}, {"right": 0.3}], ids=["away", "turned", "closed"]
)
def test_before_the_gripper_is_where_it_shall_be_it_does_not_go_on(script, off):
    see(script)
    for _ in range(100):
        script.advance(sense(script, **off))
    assert script.phase is Phase.REACH
    script.advance(sense(script))
    assert script.phase is Phase.LOWER


def test_a_closing_gripper_does_not_run_after_the_cube(script):
    put_in(script, Phase.LOWER)
    see(script)
    script.advance(sense(script))  # above the cube at first, and then at it
    script.advance(sense(script))
    assert script.phase is Phase.GRASP
    script.advance(sense(script, cube=CUBE + 0.01, is_still=False))
    assert script.grips()["right"].point == pytest.approx(CUBE)


def test_a_cube_that_slips_away_is_reached_for_anew(script):
    see(script)
    put_in(script, Phase.GRASP)
    script.advance(sense(script, cube=CUBE + 0.05))
    assert script.phase is Phase.REACH


@pytest.mark.parametrize(("phase", "side"), [(Phase.GRASP, "right"), (Phase.TAKE, "left")])
def test_a_grip_is_closed_when_it_stands_still_around_something(script, phase, side):
    cube = CUBE if phase is Phase.GRASP else MEET_M
    see(script, cube)
    put_in(script, phase)
    script.advance(sense(script, cube=cube, is_still=False, **{side: HALF_CLOSED}))
    assert script.phase is phase
    script.advance(sense(script, cube=cube, **{side: OPEN}))
    assert script.phase is phase
    script.advance(sense(script, cube=cube, **{side: HALF_CLOSED}))
    assert script.phase is Phase(phase + 1)


def test_a_gripper_turns_with_the_cube_until_it_has_it(script):
    see(script)
    straight = script.grips()["right"].rotation
    see(script, yaw=0.2)
    turned = script.grips()["right"].rotation
    assert np.arccos((np.trace(turned @ straight.T) - 1) / 2) == pytest.approx(0.2)
    put_in(script, Phase.CARRY)
    assert script.grips()["right"].rotation == pytest.approx(straight)


@pytest.mark.parametrize("phase", [Phase.CARRY, Phase.MEET, Phase.RELEASE, Phase.SHOW])
def test_a_cube_back_on_the_table_is_picked_up_again(script, phase):
    put_in(script, phase)
    see(script)
    assert script.phase is Phase.REACH


def test_one_gripper_holds_until_the_other_does(script):
    for phase in (Phase.GRASP, Phase.CARRY, Phase.MEET, Phase.TAKE):
        assert put_in(script, phase).grips()["right"].openness == 0
    for phase in (Phase.TAKE, Phase.RELEASE, Phase.RETREAT, Phase.SHOW):
        assert put_in(script, phase).grips()["left"].openness == 0
    assert put_in(script, Phase.RELEASE).grips()["right"].openness == OPEN


def test_it_is_finished_when_the_left_gripper_shows_the_cube(script):
    put_in(script, Phase.SHOW)
    shown = script.grips()["left"].point
    assert script.is_finished(sense(script, cube=shown, left=HALF_CLOSED))
    assert not script.is_finished(sense(script, cube=shown, left=HALF_CLOSED, is_still=False))
    assert not script.is_finished(sense(script, cube=shown + 0.1, left=HALF_CLOSED))
    assert not script.is_finished(sense(script, cube=shown))


def test_a_cube_that_somebody_has_picked_up_already_is_carried_on(script):
    see(script)
    script.advance(sense(script, cube=script.grips()["right"].point, right=HALF_CLOSED))
    assert script.phase is Phase.CARRY


@pytest.mark.parametrize(
    ("phase", "side", "back"),
    [(Phase.GRASP, "right", Phase.REACH), (Phase.TAKE, "left", Phase.MEET)],
)
def test_fingers_that_close_on_nothing_open_again(script, phase, side, back):
    cube = CUBE if phase is Phase.GRASP else MEET_M
    see(script, cube)
    put_in(script, phase)
    script.advance(sense(script, cube=cube, **{side: 0.1}))
    assert script.phase is back


def test_a_gripper_beside_its_way_comes_no_nearer_until_it_is_above_the_cube(script):
    put_in(script, Phase.LOWER)
    above = script.grips()["right"].rotation
    for aside, height in ((0.0, 0.0), (0.02, 0.06)):
        tips = of_both(pose(CUBE + np.array([aside, 0.0, 0.08]), above))
        script.advance(
            SensedState(
                tips=tips,
                openness=of_both(OPEN),
                cube=CUBE,
                yaw=0.0,
                is_slow=of_both(True),
                is_shut=of_both(True),
            )
        )
        assert script.phase is Phase.LOWER
        assert script.grips()["right"].point[2] == pytest.approx(CUBE[2] + height)
