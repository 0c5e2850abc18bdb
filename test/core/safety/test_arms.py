"""The arms of a whole robot: what they lack, when they rest, and that they do not touch."""

from __future__ import annotations

import numpy as np
import pytest

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.safety.arms import Arms
from qwen_vla_ros.safety.robot_gate import RobotGate
from qwen_vla_ros.types import ActionChunk

PERIOD_NS = 20_000_000
NOW_NS = 10**15
HOME = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.04] * 2)
ROBOT = load_embodiment("aloha_sim")


class Rig:
    """Arms that are where they are commanded to be, and a policy that wants them elsewhere."""

    def __init__(self) -> None:
        self.gate = RobotGate(ROBOT)
        self.now_ns = NOW_NS
        self.position = HOME.copy()
        self.velocity = np.zeros(len(HOME))
        self.sequence = 0

    @property
    def arms(self) -> Arms:
        return self.gate.mechanism

    def report(self) -> None:
        for monitor in self.arms.monitors:
            monitor.observe(
                ROBOT.joints, self.position, self.velocity, self.now_ns, self.now_ns, self.now_ns
            )

    def tick(self) -> None:
        self.now_ns += PERIOD_NS
        self.report()
        for _, command in self.gate.tick(self.now_ns, self.now_ns):
            where = dict(zip(command.joints, command.points[1].positions, strict=True))
            after = np.array(
                [
                    where.get(joint, now)
                    for joint, now in zip(ROBOT.joints, self.position, strict=True)
                ]
            )
            self.velocity = (after - self.position) / (PERIOD_NS * 1e-9)
            self.position = after

    def want(self, slope: np.ndarray) -> None:
        """Ask to go on from here by a slope (J,), in rad per row."""
        self.sequence += 1
        joints = self.position + np.outer(np.arange(16), slope)
        verdict = self.gate.on_chunk(
            ActionChunk(
                stamp_ns=self.now_ns,
                dt=ROBOT.dt,
                channels=ROBOT.channels,
                actions=ROBOT.channels_from_joints(joints),
                sequence=self.sequence,
                episode="one",
                embodiment=ROBOT.name,
                embodiment_hash=ROBOT.hash,
            ),
            self.now_ns,
            self.now_ns,
        )
        assert verdict.cause == ""


@pytest.fixture
def rig():
    return Rig()


@pytest.fixture
def armed(rig):
    for _ in range(60):
        rig.tick()
    assert rig.gate.arm(rig.now_ns) == ""
    return rig


def test_what_is_missing_is_told_until_all_joints_are_known_and_still(rig):
    assert "joint_states" in rig.arms.missing(rig.now_ns)
    rig.velocity[3] = 0.5
    rig.report()
    assert rig.arms.missing(rig.now_ns) == "the arm moves; the gate activates only at rest"
    rig.now_ns += PERIOD_NS
    rig.velocity[3] = 0.0
    rig.report()
    assert rig.arms.missing(rig.now_ns) == ""


def test_a_second_tick_of_a_period_commands_nothing(armed):
    armed.now_ns += PERIOD_NS
    armed.report()
    assert armed.gate.tick(armed.now_ns, armed.now_ns)
    assert armed.gate.tick(armed.now_ns + 1, armed.now_ns + 1) == []


@pytest.mark.slow
def test_arms_that_are_led_into_the_table_stop_above_it_and_say_so(armed):
    slope = np.zeros(len(HOME))
    slope[1] = 0.01  # the left shoulder, forward and down
    assert armed.arms.is_at_rest
    assert armed.arms.is_resting
    causes = set()
    for tick in range(250):
        if tick % 5 == 0:
            armed.want(slope)
        armed.tick()
        causes.add(armed.gate.latch.cause.name)
    assert causes & {"collision", "workspace"}
    assert armed.gate.counters.violations == 0
    assert not armed.velocity.any()
