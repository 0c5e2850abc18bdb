import numpy as np
import pytest
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.policy.config import NANO
from qwen_vla_ros.policy.image_processing import ImageProcessor, load_image_processor, resize

VISION = NANO.backbone.vision


@pytest.fixture
def ours():
    return ImageProcessor(VISION)


@pytest.fixture
def theirs():
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


def test_values_and_order_are_those_of_the_family(ours, theirs):
    images = [noise(224, 224), noise(320, 192), noise(64, 32)]
    expected = theirs(images, return_tensors="np")
    patches = ours(images, [(224, 224), (320, 192), (64, 32)])
    np.testing.assert_allclose(patches.values, expected["pixel_values"], atol=1e-6)
    np.testing.assert_array_equal(patches.grids, expected["image_grid_thw"])
    assert patches.values.dtype == np.float32


def test_a_resized_image_has_the_values_of_the_family_too(ours, theirs):
    image = noise(320, 240)
    expected = theirs([resize(image, (224, 224))], return_tensors="np")
    np.testing.assert_allclose(
        ours([image], [(224, 224)]).values, expected["pixel_values"], atol=1e-6
    )


def test_other_means_are_obeyed(theirs):
    theirs.image_mean, theirs.image_std = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
    other = ImageProcessor(VISION, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
    expected = theirs([noise(64, 64)], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(other([noise(64, 64)], [(64, 64)]).values, expected, atol=1e-6)


def test_resizing_keeps_the_whole_view():
    image = np.zeros((240, 320, 3), np.uint8)
    image[:, :8] = 255
    small = resize(image, (224, 224))
    assert small.shape == (224, 224, 3)
    assert (small[:, :5] == 255).all()
    assert not small[:, 7:].any()


def test_an_image_of_the_right_size_is_not_touched():
    image = noise(224, 224)
    assert resize(image, (224, 224)) is image


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
        ("0.5", "0", "greater than 0"),
        ('"image_mean"', '"mean"', "image_mean: Field required"),
    ],
)
def test_a_processor_for_other_patches_is_refused(ours, tmp_path, old, new, sentence):
    path = tmp_path / "preprocessor_config.json"
    ours.save(path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CheckpointError, match=sentence):
        load_image_processor(path, VISION)
