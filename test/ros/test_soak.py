"""The soak as somebody runs it, for a few seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

TESTS = Path(__file__).parents[1]


@pytest.mark.ros
@pytest.mark.slow
def test_a_soak_of_a_few_seconds_writes_its_table_and_its_plot(tmp_path):
    command = [sys.executable, "-m", "faults.soak", "--minutes", "0.08", "--out", str(tmp_path)]
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [*command, "--robot", "diffbot_sim", "--policy", "mock"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "soak.md").read_text()
    assert text in done.stdout
    for name in ("policy", "gate", "monitor", "simulator"):
        assert f"| {name} |" in text
    assert "WRONG" not in text
    assert "0 violations" in text
    assert (tmp_path / "soak.png").stat().st_size > 10_000
