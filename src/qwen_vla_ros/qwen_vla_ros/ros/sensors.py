"""Feeds an observation buffer from the topics that the embodiment file names."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState
from visualization_msgs.msg import MarkerArray

from qwen_vla_ros.clock import NS_PER_S, ns_from_stamp
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.observation.buffer import Gap, ObservationBuffer
from qwen_vla_ros.ros.conversions import message_class, planar_pose, scene_from_markers
from qwen_vla_ros.ros.graph import require_publisher
from qwen_vla_ros.ros.images import ImageError, image_from_message
from qwen_vla_ros.ros.qos import SENSOR
from qwen_vla_ros.types import Observation


class Sensors:
    """Subscribes to every camera and state source of a robot."""

    def __init__(
        self,
        node: Node,
        embodiment: Embodiment,
        *,
        needs_scene: bool,
        on_image: Callable[[], None] = lambda: None,
    ) -> None:
        """Subscribe; `needs_scene` listens to a simulator's `~/input/scene` too.

        `on_image` is called after every picture that was taken in.
        """
        self._on_new_image = on_image
        self._arrivals: dict[str, tuple[float, float]] = {}
        self._node = node
        self._embodiment = embodiment
        self._buffer = ObservationBuffer(embodiment, needs_scene=needs_scene)
        for camera in embodiment.file.cameras:
            callback = partial(self._on_image, camera.name)
            node.create_subscription(message_class(camera.type), camera.topic, callback, SENSOR)
        for source in embodiment.file.state:
            read = self._on_odometry if embodiment.has_base else self._on_joints
            node.create_subscription(
                message_class(source.type), source.topic, partial(read, source.topic), SENSOR
            )
        if needs_scene:
            node.create_subscription(MarkerArray, "~/input/scene", self._on_scene, SENSOR)

    def require_publishers(self) -> None:
        """Refuse while a topic has no publisher of the right type.

        Raises:
            NotReadyError: Names the topic and what is expected on it.
        """
        for camera in self._embodiment.file.cameras:
            require_publisher(self._node, camera.topic, camera.type)
        for source in self._embodiment.file.state:
            require_publisher(self._node, source.topic, source.type)

    def sample(self) -> Observation | Gap:
        """Return what all sensors saw at one moment, or why that cannot be said."""
        return self._buffer.sample(**self._clocks())

    def begin_episode(self) -> None:
        """Let the histories of the cameras begin now."""
        self._buffer.begin_episode()

    def timings(self) -> dict[str, float]:
        """Return what the newest pictures cost, in seconds.

        Returns:
            `capture`, the longest time from the stamp of a picture until it was here, and
            `convert`, the time it took to make arrays of all of them; empty before the first.
        """
        if not self._arrivals:
            return {}
        captures, conversions = zip(*self._arrivals.values(), strict=True)
        return {"capture": max(captures), "convert": sum(conversions)}

    def dropped(self) -> dict[str, int]:
        """Return how many samples were refused, by stream and reason."""
        return self._buffer.dropped()

    def _clocks(self) -> dict[str, int]:
        return {
            "now_ns": int(self._node.get_clock().now().nanoseconds),
            "steady_ns": time.monotonic_ns(),
        }

    def _on_image(self, camera: str, message: Image | CompressedImage) -> None:
        stamp_ns = ns_from_stamp(message.header.stamp)
        clocks, begin = self._clocks(), time.perf_counter()
        if not self._buffer.is_placed(camera, message.header.frame_id):
            return
        try:
            image = image_from_message(message)
        except ImageError as error:
            self._buffer.drop(camera, str(error))
            return
        capture = max(0.0, (clocks["now_ns"] - stamp_ns) / NS_PER_S)
        self._arrivals[camera] = (capture, time.perf_counter() - begin)
        self._buffer.put_image(camera, image, stamp_ns, **clocks)
        self._on_new_image()

    def _on_joints(self, topic: str, message: JointState) -> None:
        stamp_ns = ns_from_stamp(message.header.stamp)
        self._buffer.put_joints(topic, message.name, message.position, stamp_ns, **self._clocks())

    def _on_odometry(self, topic: str, message: Odometry) -> None:
        stamp_ns = ns_from_stamp(message.header.stamp)
        self._buffer.put_pose(topic, planar_pose(message), stamp_ns, **self._clocks())

    def _on_scene(self, message: MarkerArray) -> None:
        if message.markers:
            stamp_ns = ns_from_stamp(message.markers[0].header.stamp)
            self._buffer.put_scene(scene_from_markers(message), stamp_ns, **self._clocks())
