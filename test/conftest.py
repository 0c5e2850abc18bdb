"""The surroundings of every test, settled before NumPy, torch or rclpy look at them."""

from __future__ import annotations

import functools
import importlib.util
import os
import random
import socket
from pathlib import Path

import pytest

# Tests must never meet a robot on the network, whatever the shell says.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["OMP_NUM_THREADS"] = "1"

DOMAIN_PORTS = 22119
"""A test run owns the ROS domain d while it holds port 22119 + d, as ROS's own tests do."""


def _claim_domain() -> socket.socket:
    for domain in random.sample(range(1, 101), 100):
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", DOMAIN_PORTS + domain))
        except OSError:
            claim.close()
            continue
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        return claim
    raise RuntimeError("100 test runs hold all ROS domains")


_claim = _claim_domain()

from qwen_vla_ros.bringup import environment  # noqa: E402 - reads the variables above
from qwen_vla_ros.embodiment import load  # noqa: E402
from qwen_vla_ros.embodiment.urdf import Urdf, load_urdf  # noqa: E402

os.environ.update(environment(one_host=True))

OUR_URDF = Path(__file__).parents[1] / "urdf"


@functools.cache
def _our_urdf(path: Path) -> Urdf:
    return load_urdf(path)


def _load_urdf(path: Path) -> Urdf:
    """Expand our own robots once; hundreds of tests load them."""
    return _our_urdf(path) if path.is_relative_to(OUR_URDF) else load_urdf(path)


load.load_urdf = _load_urdf


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot do, and say why."""
    if importlib.util.find_spec("rclpy") is None:
        _skip(items, "ros", "no rclpy: run make setup, or source a ROS 2 installation")
    if any("gpu" in item.keywords for item in items):
        import torch

        if not torch.cuda.is_available():
            _skip(items, "gpu", "no CUDA device")


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if marker in item.keywords:
            item.add_marker(pytest.mark.skip(reason=reason))
