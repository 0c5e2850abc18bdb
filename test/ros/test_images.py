"""Camera messages: no process is started, but the message types are ROS's."""

import io

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from PIL import Image as Pillow
from sensor_msgs.msg import CompressedImage, Image

from qwen_vla_ros.ros.images import (
    MAX_PIXELS,
    ImageError,
    image_from_message,
    image_to_compressed,
    image_to_message,
)

pytestmark = pytest.mark.ros


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def test_an_image_survives_the_round_trip(picture):
    message = image_to_message(picture, Time(sec=1), "camera")
    np.testing.assert_array_equal(image_from_message(message), picture)


@pytest.mark.parametrize(
    ("encoding", "code"),
    [
        ("bgr8", cv2.COLOR_RGB2BGR),
        ("rgba8", cv2.COLOR_RGB2RGBA),
        ("bgra8", cv2.COLOR_RGB2BGRA),
    ],
)
def test_every_usual_encoding_is_read_as_rgb(picture, encoding, code):
    message = image_to_message(picture, Time(), "camera")
    converted = cv2.cvtColor(picture, code)
    message.encoding = encoding
    message.step = converted.shape[1] * converted.shape[2]
    message.data = converted.tobytes()
    np.testing.assert_array_equal(image_from_message(message), picture)


def test_rows_with_padding_are_read_without_it(picture):
    message = image_to_message(picture, Time(), "camera")
    padded = np.zeros((24, 32 * 3 + 16), np.uint8)
    padded[:, : 32 * 3] = picture.reshape(24, -1)
    message.step = padded.shape[1]
    message.data = padded.tobytes()
    np.testing.assert_array_equal(image_from_message(message), picture)


def test_an_unusual_encoding_is_left_to_cv_bridge():
    message = Image(height=4, width=4, encoding="bayer_rggb8", step=4, data=bytes(16))
    assert image_from_message(message).shape == (4, 4, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"width": 0},
        {"step": 10},
        {"data": bytes(100)},
        {"height": 60_000, "width": 60_000},
        {"encoding": "no_such_encoding"},
    ],
)
def test_a_message_that_contradicts_itself_is_refused(picture, change):
    message = image_to_message(picture, Time(), "camera")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageError):
        image_from_message(message)


@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1", "8UC3", "nv12"])
def test_an_encoding_that_is_no_colour_picture_is_refused_in_a_sentence(encoding):
    message = Image(height=4, width=4, encoding=encoding, step=16, data=bytes(64))
    with pytest.raises(ImageError) as caught:
        image_from_message(message)
    assert str(caught.value).startswith(f"encoding '{encoding}' cannot be shown as rgb8. ")
    assert "rgb8, bgr8, rgba8, bgra8, mono8" in str(caught.value)


def test_a_jpeg_is_read(picture):
    smooth = cv2.GaussianBlur(picture, (9, 9), 4)
    message = image_to_compressed(smooth, Time(), "camera")
    assert np.abs(image_from_message(message).astype(int) - smooth).mean() < 5


@pytest.mark.parametrize("data", [b"", b"garbage", b"\xff\xd8\xff\xe0 almost a jpeg"])
def test_garbage_is_refused(data):
    with pytest.raises(ImageError, match="neither JPEG nor PNG"):
        image_from_message(CompressedImage(format="jpeg", data=data))


def test_a_format_that_no_camera_sends_is_refused_unread(picture):
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, "TIFF")
    with pytest.raises(ImageError, match="neither JPEG nor PNG"):
        image_from_message(CompressedImage(format="tiff", data=file.getvalue()))


def test_a_decompression_bomb_is_refused_from_its_header():
    file = io.BytesIO()
    Pillow.new("1", (8000, 8000)).save(file, "PNG")
    assert len(file.getvalue()) < 100_000 < MAX_PIXELS
    with pytest.raises(ImageError, match="8000x8000"):
        image_from_message(CompressedImage(format="png", data=file.getvalue()))
