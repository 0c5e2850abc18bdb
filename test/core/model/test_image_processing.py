import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.config import NANO
from qwen_vla_ros.model.image_processing import ImageProcessor, fit_image, load_image_processor

VISION = NANO.backbone.vision_config
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


@pytest.fixture
def ours():
    return ImageProcessor(VISION)


@pytest.fixture
def theirs():
    return family()


def family():
    """The family's processor, told to leave sizes that fit as they are."""
    return Qwen2VLImageProcessorPil(
        patch_size=16,
        temporal_patch_size=2,
        merge_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": 1024, "longest_edge": 2**24},
    )


def noise(width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(width)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def compared(ours, theirs, images, sizes):
    """Both processors' values, and the grids held against each other."""
    expected = theirs(images, return_tensors="np")
    patches = ours(images, sizes)
    np.testing.assert_array_equal(patches.grids, expected["image_grid_thw"])
    assert patches.pixel_values.dtype == expected["pixel_values"].dtype == np.float32
    return patches.pixel_values, one_frame(expected["pixel_values"])


def one_frame(values):
    """What the family says of an image, which it repeats as if it were a film of two frames."""
    frames = values.reshape(len(values), 3, 2, -1)
    np.testing.assert_array_equal(frames[:, :, 0], frames[:, :, 1])
    return frames[:, :, 0].reshape(len(values), -1)


@pytest.mark.parametrize(
    "sizes",
    [
        [(224, 224)],
        [(224, 224)] * 3,
        [(224, 224), (320, 192), (64, 32)],
        [(32, 32)],
        [(32, 640), (640, 32)],
        [(96, 480), (480, 96), (96, 480), (256, 256)],
    ],
    ids=str,
)
def test_values_and_order_are_those_of_the_family_bit_for_bit(ours, theirs, sizes):
    images = [noise(width, height) for width, height in sizes]
    np.testing.assert_array_equal(*compared(ours, theirs, images, sizes))


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_values_are_those_of_the_family_whatever_the_sizes(tokens):
    sizes = [(32 * across, 32 * down) for across, down in tokens]
    images = [noise(width, height) for width, height in sizes]
    values, expected = compared(ImageProcessor(VISION), family(), images, sizes)
    np.testing.assert_array_equal(values, expected)


def test_every_level_of_every_colour_has_the_value_of_the_family(theirs):
    theirs.image_mean, theirs.image_std = MEAN, STD
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    image = np.tile(image, (2, 2, 1))
    values, expected = compared(ImageProcessor(VISION, MEAN, STD), theirs, [image], [(32, 32)])
    np.testing.assert_array_equal(values, expected)
    assert len(np.unique(values)) == 3 * 256


# The family rounds each side of a camera's image to whole tokens: this is what it makes of them.
@pytest.mark.parametrize(
    ("cameras", "sizes"),
    [
        ([(333, 251)], [(320, 256)]),
        ([(77, 101), (135, 100)], [(64, 96), (128, 96)]),
        ([(310, 241), (224, 224), (70, 49)], [(320, 256), (224, 224), (64, 64)]),
    ],
)
def test_resizing_inside_is_the_familys_to_one_level(ours, theirs, cameras, sizes):
    images = [noise(width, height) for width, height in cameras]
    values, expected = compared(ours, theirs, images, sizes)
    levels = np.abs(values - expected) * 255 / 2  # of the range -1 to 1
    assert levels.max() < 1.001
    assert (levels > 1e-3).mean() < 0.01


def test_an_image_that_was_brought_to_its_size_has_the_familys_values_bit_for_bit(ours, theirs):
    image = noise(320, 240)
    expected = theirs([fit_image(image, (224, 224), "pad")], return_tensors="np")
    values = ours([image], [(224, 224)], ["pad"]).pixel_values
    np.testing.assert_array_equal(values, one_frame(expected["pixel_values"]))


def test_without_a_word_about_it_images_are_stretched(ours):
    image = noise(320, 240)
    seen = [ours([image], [(64, 64)], fits).pixel_values for fits in (None, ["stretch"], ["crop"])]
    np.testing.assert_array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])


def test_a_fit_per_image_is_obeyed(ours):
    image = noise(320, 240)
    together = ours([image, image], [(64, 64)] * 2, ["crop", "pad"])
    np.testing.assert_array_equal(
        together.pixel_values[:16], ours([image], [(64, 64)], ["crop"]).pixel_values
    )
    np.testing.assert_array_equal(
        together.pixel_values[16:], ours([image], [(64, 64)], ["pad"]).pixel_values
    )


def test_patches_stay_what_they_are_when_others_are_made(ours):
    first = ours([noise(64, 64)], [(64, 64)])
    pixels, pixel_values = first.pixels.copy(), first.pixel_values.copy()
    for width in (65, 66, 67):
        other = ours([noise(width, 64)], [(64, 64)])
        assert other.pixel_values.shape == pixel_values.shape
    np.testing.assert_array_equal(first.pixels, pixels)
    np.testing.assert_array_equal(first.pixel_values, pixel_values)


def test_no_image_is_no_patch(ours):
    patches = ours([], [])
    assert patches.pixel_values.shape == (0, 3 * 16 * 16)
    assert patches.grids == ()


def test_an_image_without_a_size_is_an_error(ours):
    with pytest.raises(ValueError, match="argument"):
        ours([noise(64, 64)] * 2, [(64, 64)])


def test_other_means_are_obeyed(theirs):
    theirs.image_mean, theirs.image_std = MEAN, STD
    other = ImageProcessor(VISION, MEAN, STD)
    np.testing.assert_array_equal(*compared(other, theirs, [noise(64, 64)], [(64, 64)]))


def test_a_size_that_is_not_whole_tokens_is_an_error(ours):
    with pytest.raises(ValueError, match="230x224 px is not a multiple of 32 px"):
        ours.grid((230, 224))


def test_a_processor_survives_its_file(tmp_path):
    made = ImageProcessor(VISION, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    made.save(tmp_path / "p.json")
    assert load_image_processor(tmp_path / "p.json", VISION) == made


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"patch_size": 16', '"patch_size": 14', "patch_size is 14; the model's is 16"),
        ("0.5", "0", "must be above 0"),
        ('"image_mean"', '"mean"', "image_mean: is missing"),
    ],
)
def test_a_processor_for_other_patches_is_refused(ours, tmp_path, old, new, sentence):
    path = tmp_path / "preprocessor_config.json"
    ours.save(path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CheckpointError, match=sentence):
        load_image_processor(path, VISION)
