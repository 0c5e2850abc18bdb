"""Records camera topics side by side into an MP4."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import TracebackType

import cv2
import imageio.v2 as imageio
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from qwen_vla_ros.ros.images import image_from_message
from qwen_vla_ros.ros.qos import SENSOR
from qwen_vla_ros.types import ImageArray

FRAME_PX = (480, 640)
THUMBNAIL_PX = (160, 213)
FPS = 10


class Film:
    """A film of what a robot's cameras see: the first topic large, the others as a column."""

    def __init__(self, node: Node, path: Path, topics: tuple[str, ...]) -> None:
        """Subscribe to raw image `topics`; nothing is kept before `caption` is called."""
        self._node = node
        self._frames: dict[str, ImageArray] = {}
        self._topics = topics
        self._caption = ""
        self._writer = imageio.get_writer(str(path), fps=FPS, macro_block_size=1)
        self._subscriptions = [
            node.create_subscription(Image, topic, partial(self._on_image, topic), SENSOR)
            for topic in topics
        ]
        self._timer = node.create_timer(1 / FPS, self._write)

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._writer.close()

    def caption(self, text: str) -> None:
        """Begin to record, or go on, with this line below the picture."""
        self._caption = text

    def _on_image(self, topic: str, message: Image) -> None:
        self._frames[topic] = image_from_message(message)

    def _write(self) -> None:
        if self._caption and self._topics[0] in self._frames:
            self._writer.append_data(self._compose())

    def _compose(self) -> ImageArray:
        height, width = FRAME_PX
        small_height, small_width = THUMBNAIL_PX
        picture = np.full((height + 28, width + small_width + 1, 3), 24, np.uint8)
        picture[:height, :width] = cv2.resize(self._frames[self._topics[0]], (width, height))
        for row, topic in enumerate(self._topics[1:4]):
            frame = self._frames.get(topic)
            if frame is not None:
                top = row * small_height
                small = cv2.resize(frame, (small_width, small_height))
                picture[top : top + small_height, width : width + small_width] = small
        cv2.putText(
            picture,
            self._caption,
            (10, height + 19),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.5,
            (235, 235, 235),
            1,
            cv2.LINE_AA,
        )
        return picture
