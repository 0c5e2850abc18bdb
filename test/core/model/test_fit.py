"""How an image gets to the size that the model sees."""

import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpi_client.image_tools import resize_with_pad
from PIL import Image

from qwen_vla_ros.model.image_processing import fit_image
from qwen_vla_ros.observation.framing import inscribed

WHITE, RED = (255, 255, 255), (255, 0, 0)
FITS = ("stretch", "crop", "pad")


def noise(width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(width)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def pillow(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pillow's bicubic, across and then down; asked for both at once it chooses the order."""
    across = Image.fromarray(image).resize((size[0], image.shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(across.resize(size, Image.Resampling.BICUBIC))


def far_apart(one: np.ndarray, other: np.ndarray) -> tuple[int, float]:
    """The greatest difference in levels, and the share of values that differ at all."""
    difference = np.abs(one.astype(int) - other)
    return int(difference.max()), float((difference > 0).mean())


@pytest.fixture
def target() -> np.ndarray:
    """A white disc of 200 px in the middle of 640x480, and red edges left and right of 40 px."""
    image = np.zeros((480, 640, 3), np.uint8)
    cv2.circle(image, (320, 240), 100, WHITE, -1)
    image[:, :40] = image[:, -40:] = RED
    return image


def disc(image: np.ndarray) -> tuple[int, int]:
    """Width and height of what is white."""
    white = image.min(axis=2) > 128
    return int(white.any(axis=0).sum()), int(white.any(axis=1).sum())


def reds(image: np.ndarray) -> int:
    """Columns whose middle is red."""
    row = image[image.shape[0] // 2].astype(int)
    return int(((row[:, 0] > 128) & (row[:, 1] < 128)).sum())


def test_stretch_shows_the_whole_view_and_bends_it(target):
    seen = fit_image(target, (224, 224), "stretch")
    assert seen.shape == (224, 224, 3)
    assert disc(seen) == pytest.approx((200 * 224 / 640, 200 * 224 / 480), abs=2)
    assert reds(seen) == pytest.approx(2 * 40 * 224 / 640, abs=2)


def test_crop_keeps_the_shape_and_loses_the_edges(target):
    seen = fit_image(target, (224, 224), "crop")
    assert seen.shape == (224, 224, 3)
    assert disc(seen) == pytest.approx((200 * 224 / 480,) * 2, abs=2)
    assert reds(seen) == 0


def test_pad_keeps_the_shape_and_the_view_between_black_borders(target):
    seen = fit_image(target, (224, 224), "pad")
    assert seen.shape == (224, 224, 3)
    assert disc(seen) == pytest.approx((200 * 224 / 640,) * 2, abs=2)
    assert reds(seen) == pytest.approx(2 * 40 * 224 / 640, abs=2)
    assert not seen[:28].any()
    assert not seen[-28:].any()
    assert seen[28].any()
    assert seen[-29].any()


def test_a_tall_view_is_cropped_and_padded_the_other_way(target):
    tall = np.ascontiguousarray(target.transpose(1, 0, 2))
    for fit in ("crop", "pad"):
        turned = fit_image(tall, (224, 224), fit).transpose(1, 0, 2)
        # Across and then down is not down and then across: hard edges differ a little.
        greatest, share = far_apart(turned, fit_image(target, (224, 224), fit))
        assert greatest < 16
        assert share < 0.01


@pytest.mark.parametrize("fit", FITS)
def test_an_image_of_the_right_size_is_not_touched(fit):
    image = noise(224, 160)
    assert fit_image(image, (224, 160), fit) is image


def test_the_three_ways_are_one_where_the_shape_is_the_same():
    image = noise(448, 320)
    first, second, third = (fit_image(image, (224, 160), fit) for fit in FITS)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)


@pytest.mark.parametrize(
    ("camera", "size"),
    [
        ((640, 480), (224, 224)),
        ((320, 240), (224, 224)),
        ((1280, 720), (256, 160)),
        ((333, 251), (224, 160)),
        ((97, 613), (160, 224)),
        ((160, 120), (224, 224)),
        ((224, 480), (224, 224)),
    ],
)
def test_the_interpolation_is_pillows_to_one_level(camera, size):
    image = noise(*camera)
    greatest, share = far_apart(fit_image(image, size), pillow(image, size))
    assert greatest <= 1
    assert share < 0.01


@pytest.mark.parametrize("camera", [(240, 320), (480, 640), (101, 177)])
def test_on_a_tall_picture_without_hard_edges_pillows_order_makes_two_levels(camera):
    image = cv2.GaussianBlur(noise(*camera), (0, 0), 2)
    at_once = Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)
    assert far_apart(fit_image(image, (224, 224)), np.asarray(at_once))[0] <= 2


@pytest.mark.parametrize("camera", [(640, 480), (480, 640), (333, 251), (1280, 720), (100, 100)])
def test_pad_is_the_letterbox_that_openpi_has(camera):
    image = noise(*camera)
    theirs = resize_with_pad(image, 224, 224, method=Image.Resampling.BICUBIC)
    assert far_apart(fit_image(image, (224, 224), "pad"), theirs)[0] <= 1


@pytest.mark.slow
@given(*[st.integers(1, 4096)] * 4)
@settings(max_examples=300, deadline=None)
def test_an_inscribed_size_touches_the_frame_and_keeps_the_shape(across, down, width, height):
    w, h = inscribed((across, down), (width, height))
    assert 1 <= w <= width
    assert 1 <= h <= height
    assert w == width or h == height
    scale = min(width / across, height / down)
    assert abs(w - across * scale) < 1 + 1e-6 or w == 1
    assert abs(h - down * scale) < 1 + 1e-6 or h == 1


@pytest.mark.parametrize("fit", FITS)
def test_memory_that_may_not_be_written_to_is_read_without_a_warning(fit):
    image = np.frombuffer(noise(64, 48).tobytes(), np.uint8).reshape(48, 64, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = fit_image(image, (32, 32), fit)
    np.testing.assert_array_equal(seen, fit_image(image.copy(), (32, 32), fit))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((3, 48, 64), np.uint8),
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 3), np.uint16),
    ],
)
def test_what_is_no_image_of_bytes_is_refused(image):
    with pytest.raises(ValueError, match=r"an image is \(H, W, 3\) of uint8, not"):
        fit_image(image, (32, 32))
