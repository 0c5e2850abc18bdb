"""Servers on free ports of loopback, and robots small enough to serve quickly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.serving.address import ServerAddress
from qwen_vla_ros.serving.fault import Fault
from qwen_vla_ros.serving.mock import MockPolicy
from qwen_vla_ros.serving.remote_policy import RemotePolicy
from qwen_vla_ros.serving.server import PolicyServer, ServerSettings

ROBOTS = Path(__file__).parent / "robots"
PATIENCE_S = 20.0
"""For what must happen soon, on a machine that may be busy with something else."""


def with_cameras(robot: Embodiment, **changes: object) -> Embodiment:
    """The robot with other cameras."""
    cameras = tuple(camera.model_copy(update=changes) for camera in robot.file.cameras)
    return replace(robot, file=robot.file.model_copy(update={"cameras": cameras}))


@pytest.fixture(scope="session")
def aloha() -> Embodiment:
    return with_cameras(load_embodiment("aloha_sim"), width_px=32, height_px=24)


@pytest.fixture(scope="session")
def droid() -> Embodiment:
    return load_embodiment(ROBOTS / "droid_arm.yaml")


@pytest.fixture(scope="session")
def libero() -> Embodiment:
    return load_embodiment(ROBOTS / "libero_arm.yaml")


@pytest.fixture(scope="session")
def observation(aloha):
    return aloha.make_example()


@pytest.fixture(scope="session")
def prompt(aloha):
    return build_prompt(aloha, "hand over the red cube")


class Serving:
    """A server in a thread of the test."""

    def __init__(
        self, robot, open_policy, fault=None, model="mock", dialect="openpi", port=0, **settings
    ):
        sends = {} if fault is None else {"send": fault.send}
        recorder = {"recorder": settings.pop("recorder", None)}
        self.fault = fault
        self.robot = robot
        self.server = PolicyServer(
            robot,
            open_policy,
            model,
            ServerSettings(**{"ports": ((dialect, port),), **settings}),
            **sends,
            **recorder,
        )
        self._thread = threading.Thread(target=self.server.serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return next(iter(self.server.ports.values()))

    @property
    def uri(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def connect(self, **options) -> RemotePolicy:
        """A remote policy of the robot that is served."""
        address = ServerAddress(uri=self.uri, token=options.pop("token", ""))
        robot = options.pop("robot", self.robot)
        return RemotePolicy.load(address, robot, **options)

    def end(self) -> None:
        self.server.end()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


@pytest.fixture
def serve(aloha) -> Iterator[Callable[..., Serving]]:
    """Starts servers; ends them with the test."""
    running: list[Serving] = []

    def start(robot=aloha, policy=None, fault: str = "", **options) -> Serving:
        trouble = None
        if fault:
            trouble = Fault(
                kind=fault, after=options.pop("after", 0), every=options.pop("every", 1)
            )
        open_policy = policy or (lambda: MockPolicy(robot, fault=trouble))
        running.append(Serving(robot, open_policy, trouble, **options))
        return running[-1]

    yield start
    for serving in running:
        serving.end()


@pytest.fixture
def keep() -> Iterator[Callable]:
    """Closes what it is given with the test."""
    kept: list = []

    def take(thing):
        kept.append(thing)
        return thing

    yield take
    for thing in reversed(kept):
        thing.close()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
