import re

import numpy as np
import pytest

from qwen_vla_ros.cli.bench import bench, measure, table
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import CheckpointError, QwenVlaError
from qwen_vla_ros.options import BenchOptions
from qwen_vla_ros.types import ActionChunk


def figures_of(output: str) -> dict[str, list[float]]:
    return {
        match[1].strip(): [float(figure) for figure in match[2].split()]
        for line in output.splitlines()[3:]
        if (match := re.match(r"(\D+?)((?:\s+[\d.]+)+)", line))
    }


@pytest.mark.slow
def test_a_fresh_nano_is_measured_stage_by_stage(capsys):
    options = BenchOptions(robot="diffbot_sim", device="cpu", runs=2, steps=1, temperature=0.6)
    assert bench(options) == 0
    output = capsys.readouterr().out
    assert output.startswith("an untrained nano for diffbot_sim, 2 answers")
    assert "device cpu, precision auto, continuation auto, steps 1, temperature 0.6" in output
    figures = figures_of(output)
    stages = [figures[name][0] for name in ("preprocess", "backbone", "decode", "the rest")]
    assert np.isfinite(
        [*stages, figures["whole answer"][0], figures["chunks per second"][0]]
    ).all()
    assert figures["peak memory, CPU"][0] > 0.1


def test_a_mock_is_measured_without_a_model(capsys):
    assert bench(BenchOptions(robot="diffbot_sim", policy="mock", latency_ms=5.0, runs=2)) == 0
    output = capsys.readouterr().out
    assert output.startswith("mock for diffbot_sim, 2 answers\nmotion hold, latency_ms 5.0")
    assert figures_of(output)["whole answer"][0] >= 5.0


def test_an_expert_sees_nothing_on_the_bench():
    with pytest.raises(QwenVlaError, match="reads a simulator's ground truth"):
        bench(BenchOptions(robot="diffbot_sim", policy="expert"))


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
    assert list(seconds) == ["preprocess", "backbone", "decode", "the rest"]
    assert [column[0] for column in list(seconds.values())[:3]] == [1e-9, 2e-9, 3e-9]
    assert all(column.shape == (3,) for column in seconds.values())
    assert (seconds["the rest"] >= 0).all()
    first, *later = policy.committed
    assert first is None
    assert [rows.shape for rows in later] == [(5, 14)] * 3  # 100 ms at 50 Hz
    assert [rows[0, 0] for rows in later] == [1, 2, 3]


def test_percentiles_are_those_of_milliseconds():
    seconds = {"preprocess": np.zeros(101), "backbone": np.arange(101) * 1e-3}
    backbone = next(line for line in table(seconds) if line.startswith("backbone"))
    assert backbone.split() == ["backbone", "50.00", "95.00", "ms"]


def test_a_checkpoint_that_is_missing_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such folder"):
        bench(BenchOptions(robot="aloha_sim", checkpoint=str(tmp_path / "nowhere")))
