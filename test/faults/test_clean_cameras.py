"""What the simulators' own cameras show of an expert at work is never taken for a fault (B2, B10).

They have no noise: while nothing moves they repeat a picture to the last bit.
"""

from __future__ import annotations

import numpy as np
import pytest

from faults.judge import S
from faults.rig import embodiment_of
from qwen_vla_ros.observation.buffer import Gap, ObservationBuffer
from qwen_vla_ros.sim import rollout
from qwen_vla_ros.sim.expert import load_expert
from qwen_vla_ros.sim.robot import make_robot

STANDS_NS = 3 * S


class Eyes:
    """Draws what the cameras of a robot see, and keeps what an observation buffer says of it."""

    def __init__(self, embodiment, robot) -> None:
        self._embodiment = embodiment
        self._robot = robot
        self._buffer = ObservationBuffer(embodiment)
        self._next_ns = 0
        self._stuck: dict[str, np.ndarray] = {}
        self.pictures = self.repeats = 0
        self.gaps: list[tuple[int, str]] = []
        self._last: dict[str, np.ndarray] = {}

    def look(self, now_ns: int, *, freezes: str = "") -> None:
        """Draw where it is time."""
        clocks = {"now_ns": now_ns, "steady_ns": now_ns}
        file, robot = self._embodiment.file, self._robot
        for source in file.state:
            if self._embodiment.has_base:
                pose = robot.controller.odometry.pose
                self._buffer.put_pose(source.topic, pose, now_ns, **clocks)
            else:
                values = robot.measured(source.joints)
                self._buffer.put_joints(source.topic, source.joints, values, now_ns, **clocks)
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + S // 15
        for camera in file.cameras:
            image = robot.world.render(camera.name, camera.width_px, camera.height_px)
            if camera.name == freezes:
                image = self._stuck.setdefault(freezes, image)
            self.pictures += 1
            self.repeats += np.array_equal(image, self._last.get(camera.name))
            self._last[camera.name] = image
            self._buffer.put_image(camera.name, image, now_ns, **clocks)
        sample = self._buffer.sample(**clocks)
        if isinstance(sample, Gap):
            self.gaps.append((now_ns, sample.reason))


def watched(name: str, seed: int, *, freezes: str = "", frozen_s: float = 0.0) -> Eyes:
    """Watch an expert at work, and then the robot standing still."""
    embodiment = embodiment_of(name)
    robot = make_robot(embodiment, seed)
    policy = load_expert(embodiment)
    policy.reset()
    episode = rollout._Episode(embodiment, robot, policy, seed)
    eyes = Eyes(embodiment, robot)
    frozen_ns = rollout.BEGIN_NS + round(frozen_s * S)
    while not episode.is_over and not (freezes and eyes.gaps):
        episode.step(lambda _: False)
        is_frozen = bool(freezes) and episode.now_ns >= frozen_ns
        eyes.look(episode.now_ns, freezes=freezes if is_frozen else "")
    if not freezes:
        for now_ns in range(episode.now_ns, episode.now_ns + STANDS_NS, S // 50):
            eyes.look(now_ns)
    return eyes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aloha_sim", "diffbot_sim"])
def test_no_picture_of_an_expert_is_an_alarm(name):
    eyes = watched(name, 3)
    assert eyes.pictures > 100
    assert eyes.repeats > 30  # it did stand still
    assert eyes.gaps == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "camera"),
    [
        ("aloha_sim", "cam_high"),
        ("aloha_sim", "cam_left_wrist"),
        ("aloha_sim", "cam_right_wrist"),
        ("diffbot_sim", "front"),
    ],
)
def test_a_camera_that_freezes_while_an_expert_works_is_found_out(name, camera):
    eyes = watched(name, 3, freezes=camera, frozen_s=1.5)
    told_ns, reason = eyes.gaps[0]
    assert reason.startswith(f"'{camera}' is frozen")
    assert told_ns - rollout.BEGIN_NS <= 2.5 * S
