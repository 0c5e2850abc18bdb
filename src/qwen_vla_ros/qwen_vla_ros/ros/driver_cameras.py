"""The camera topics of a simulated robot, and one more for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CompressedImage, Image

from qwen_vla_ros.embodiment.schema import CameraSpec
from qwen_vla_ros.ros.conversions import stamp_from_ns
from qwen_vla_ros.ros.images import image_to_compressed, image_to_message
from qwen_vla_ros.ros.priority import lower_priority
from qwen_vla_ros.ros.qos import SENSOR
from qwen_vla_ros.sim.camera_thread import CameraThread, View
from qwen_vla_ros.sim.pacing import Pace
from qwen_vla_ros.sim.world import World
from qwen_vla_ros.types import ImageArray

OVERVIEW_TOPIC = "overview/image_raw"
OVERVIEW_HZ = 10.0
OVERVIEW_PX = (640, 480)


@dataclass(frozen=True)
class _Stream:
    pace: Pace
    view: View
    frame_id: str
    publisher: Publisher
    to_message: Callable[..., Image | CompressedImage]
    is_wanted: Callable[[], bool]


class DriverCameras:
    """Draws and publishes in a thread of its own; `take` only says what is due."""

    def __init__(self, node: Node, world: World, cameras: tuple[CameraSpec, ...]) -> None:
        """Advertise the cameras of the embodiment file, and the overview.

        Raises:
            QwenVlaError: This machine cannot draw without a screen.
        """
        self._world = world
        self._streams = [self._open(node, camera) for camera in cameras]
        self._streams.append(self._open_overview(node, world.overview))
        self._by_view = {stream.view: stream for stream in self._streams}
        # The robot must not wait for its pictures, whatever priority its process has.
        self._thread = CameraThread(world.model, self._deliver, prepare=lower_priority)

    def take(self, now_ns: int) -> None:
        """Take the pictures that are due at this moment; returns before they are drawn."""
        views = [
            stream.view
            for stream in self._streams
            if stream.pace.is_due(now_ns) and stream.is_wanted()
        ]
        if views:
            self._thread.offer(self._world.snapshot(), now_ns, views)

    def close(self) -> None:
        """End the thread."""
        self._thread.close()

    def _open(self, node: Node, camera: CameraSpec) -> _Stream:
        is_raw = camera.type == "sensor_msgs/msg/Image"
        kind = Image if is_raw else CompressedImage
        return _Stream(
            pace=Pace(camera.rate_hz),
            view=View(camera.name, camera.width_px, camera.height_px),
            frame_id=camera.frame_id or f"{camera.name}_optical_frame",
            publisher=node.create_publisher(kind, camera.topic, SENSOR),
            to_message=image_to_message if is_raw else image_to_compressed,
            is_wanted=lambda: True,
        )

    def _open_overview(self, node: Node, name: str) -> _Stream:
        publisher = node.create_publisher(Image, OVERVIEW_TOPIC, SENSOR)
        return _Stream(
            pace=Pace(OVERVIEW_HZ),
            view=View(name, *OVERVIEW_PX),
            frame_id=f"{name}_optical_frame",
            publisher=publisher,
            to_message=image_to_message,
            is_wanted=lambda: publisher.get_subscription_count() > 0,
        )

    def _deliver(self, view: View, image: ImageArray, stamp_ns: int) -> None:
        stream = self._by_view[view]
        stamp = stamp_from_ns(stamp_ns)
        stream.publisher.publish(stream.to_message(image, stamp, stream.frame_id))
