"""The parameter reference says what the nodes declare."""

import dataclasses
import importlib.util
import inspect
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


def test_whatever_sets_up_a_policy_can_be_said_at_bringup():
    from qwen_vla_ros.arguments import ARGUMENTS
    from qwen_vla_ros.cli import main
    from qwen_vla_ros.ros.load_policy import PolicyParameters

    parameters = {field.name for field in dataclasses.fields(PolicyParameters)}
    arguments = {argument.name for argument in ARGUMENTS}
    assert len(parameters) > 10
    assert parameters <= arguments
    assert arguments == set(inspect.signature(main.up).parameters)


def test_whatever_sets_up_the_model_can_be_said_to_a_server():
    from qwen_vla_ros.cli import main
    from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy

    settings = set(inspect.signature(QwenVlaPolicy.load).parameters)
    settings -= {"checkpoint_dir", "embodiment"}
    assert len(settings) > 5
    assert settings <= set(inspect.signature(main.serve).parameters)
