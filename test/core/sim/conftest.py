"""Robots and worlds that are built once per session: compiling a model takes a second."""

import pytest

from qwen_vla_ros.sim.robot import make_robot


@pytest.fixture(scope="session")
def arms(aloha):
    return make_robot(aloha)


@pytest.fixture(scope="session")
def base(diffbot):
    return make_robot(diffbot)
