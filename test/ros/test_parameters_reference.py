"""The parameter reference says what the nodes declare."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

pytestmark = pytest.mark.ros

SCRIPT = Path(__file__).parents[2] / "scripts" / "parameters_reference.py"


def test_the_reference_is_what_the_script_writes():
    spec = importlib.util.spec_from_file_location("parameters_reference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run python scripts/parameters_reference.py"
