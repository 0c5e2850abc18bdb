"""Camera messages to RGB arrays and back, checked before a byte is believed."""

from __future__ import annotations

import array
import io

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from cv_bridge import CvBridge
from PIL import Image as Pillow
from sensor_msgs.msg import CompressedImage, Image

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.types import ImageArray

MAX_PIXELS = 4_000_000
"""Larger pictures are refused from their header (B9); no policy input comes near it."""

_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
_TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}
_BRIDGE = CvBridge()
_COMPRESSED = ("JPEG", "PNG")
# Pillow loads its formats when it first needs one, and all 40 when it knows none that fits: the
# first picture would be late, and the first garbage very.
Pillow.preinit()


class ImageError(QwenVlaError):
    """A camera message is not the picture that it says it is."""


def image_to_message(image: ImageArray, stamp: Time, frame_id: str) -> Image:
    """Wrap an RGB image (H, W, 3) as an rgb8 message."""
    message = Image()
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.height, message.width = image.shape[:2]
    message.encoding = "rgb8"
    message.step = image.shape[1] * 3
    message.data = _bytes(image)
    return message


def image_to_compressed(image: ImageArray, stamp: Time, frame_id: str) -> CompressedImage:
    """Wrap an RGB image (H, W, 3) as a JPEG message."""
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    message = CompressedImage()
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.format = "jpeg"
    message.data = _bytes(jpeg)
    return message


def image_from_message(message: Image | CompressedImage) -> ImageArray:
    """Return the picture as RGB (H, W, 3).

    Raises:
        ImageError: The header and the data disagree, the encoding is unknown, the picture is
            larger than `MAX_PIXELS`, or the compressed data cannot be decoded.
    """
    if isinstance(message, CompressedImage):
        return _from_compressed(message)
    height, width, encoding = message.height, message.width, message.encoding
    if height == 0 or width == 0 or height * width > MAX_PIXELS:
        raise ImageError(f"an image of {width}x{height}; 1 to {MAX_PIXELS} pixels are allowed.")
    channels = _CHANNELS.get(encoding)
    if channels is None:
        return _from_unusual(message)
    if message.step < width * channels or len(message.data) < height * message.step:
        raise ImageError(
            f"an image of {width}x{height} {encoding} with step {message.step} and "
            f"{len(message.data)} bytes; {width * channels} bytes a row are needed."
        )
    rows = np.frombuffer(message.data, np.uint8, count=height * message.step)
    pixels = rows.reshape(height, message.step)[:, : width * channels]
    pixels = pixels.reshape(height, width, channels)
    if encoding == "rgb8":
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.cvtColor(pixels, _TO_RGB[encoding]), np.uint8)


def _from_unusual(message: Image) -> ImageArray:
    """Leave Bayer patterns, 16-bit and packed formats to cv_bridge: slow, but it knows them."""
    try:
        return np.asarray(_BRIDGE.imgmsg_to_cv2(message, desired_encoding="rgb8"), np.uint8)
    except Exception as error:
        raise ImageError(
            f"encoding '{message.encoding}' cannot be shown as rgb8. "
            f"Allowed: {', '.join(_CHANNELS)}, or what cv_bridge makes rgb8 of."
        ) from error


def _from_compressed(message: CompressedImage) -> ImageArray:
    data = bytes(message.data)
    try:
        width, height = Pillow.open(io.BytesIO(data), formats=_COMPRESSED).size
    except Exception as error:
        raise ImageError("compressed data that is neither JPEG nor PNG.") from error
    if width * height > MAX_PIXELS:
        raise ImageError(f"a compressed image of {width}x{height}; {MAX_PIXELS} pixels at most.")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise ImageError("compressed data that ends early or is damaged.")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _bytes(pixels: ImageArray) -> array.array[int]:
    # Assigning an ndarray makes rclpy look at every element: 100 ms a frame instead of 0.1 ms.
    return array.array("B", pixels.tobytes())
