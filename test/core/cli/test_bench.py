import re

import numpy as np
import pytest

from qwen_vla_ros.cli.bench import bench, measure, table
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.types import ActionChunk


@pytest.mark.slow
def test_a_fresh_nano_is_measured_stage_by_stage(capsys):
    assert bench("diffbot_sim", runs=2, steps=1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("an untrained nano for diffbot_sim on cpu, auto, 1 steps")
    figures = {
        match[1].strip(): [float(figure) for figure in match[2].split()]
        for line in lines[2:]
        if (match := re.match(r"(\D+?)((?:\s+[\d.]+)+)", line))
    }
    stages = [figures[name][0] for name in ("preprocess", "backbone", "decode", "the rest")]
    assert np.isfinite(
        [*stages, figures["whole answer"][0], figures["chunks per second"][0]]
    ).all()
    assert figures["peak memory, CPU"][0] > 0.1


class Counting:
    """Answers with its own number, and remembers what was committed."""

    def __init__(self, robot) -> None:
        self.robot = robot
        self.committed = []

    def infer(self, observation, prompt, committed=None):
        assert prompt.cameras
        self.committed.append(committed)
        horizon = self.robot.file.prompt.action_horizon
        return ActionChunk(
            stamp_ns=observation.stamp_ns,
            dt=self.robot.dt,
            channels=self.robot.channels,
            actions=np.full((horizon, len(self.robot.channels)), float(len(self.committed))),
            timings={"preprocess": 1e-9, "backbone": 2e-9, "decode": 3e-9},
        )

    def reset(self):
        self.committed.clear()


def test_answers_are_measured_with_rows_that_are_played_meanwhile():
    robot = load_embodiment("aloha_sim")
    policy = Counting(robot)
    seconds = measure(policy, robot, runs=3)
    assert seconds.shape == (3, 4)
    np.testing.assert_array_equal(seconds[:, :3], [[1e-9, 2e-9, 3e-9]] * 3)
    assert (seconds[:, 3] >= 0).all()
    first, *later = policy.committed
    assert first is None
    assert [rows.shape for rows in later] == [(5, 14)] * 3  # 100 ms at 50 Hz
    assert [rows[0, 0] for rows in later] == [1, 2, 3]


def test_percentiles_are_those_of_milliseconds():
    seconds = np.zeros((101, 4))
    seconds[:, 1] = np.arange(101) * 1e-3
    backbone = next(line for line in table(seconds) if line.startswith("backbone"))
    assert backbone.split() == ["backbone", "50.00", "95.00", "ms"]


def test_a_checkpoint_that_is_missing_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such folder"):
        bench("aloha_sim", tmp_path / "nowhere")
