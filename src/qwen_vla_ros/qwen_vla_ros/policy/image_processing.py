"""Camera images become the patches that the vision encoder reads.

The values and their order are those of the family's own image processor. This one is NumPy and
OpenCV only: it takes the image at its camera's size, does all reordering on bytes, and converts to
float once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.policy.config import VisionConfig
from qwen_vla_ros.policy.json_file import read_json, write_json
from qwen_vla_ros.types import ImageArray

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Patches:
    """The patches of some images, one after the other.

    Attributes:
        values: Normalised pixels; (P, 3 * temporal * patch * patch), float32.
        grids: Frames (1), rows and columns of patches, per image; (I, 3), int64.
    """

    values: npt.NDArray[np.float32]
    grids: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageProcessor:
    """Resizes, normalises and cuts images.

    Attributes:
        vision: Sizes of a patch and of the square of patches that becomes one token.
        mean: What counts as zero, of the range 0 to 1, per colour channel.
        std: What counts as one unit, of the range 0 to 1, per colour channel.
    """

    vision: VisionConfig
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def grid(self, size: Size) -> tuple[int, int, int]:
        """Return frames, rows and columns of patches for an image of `size`.

        Raises:
            ValueError: When the size is not a whole number of tokens.
        """
        width, height = size
        token = self.vision.token_size_px
        if width % token or height % token:
            raise ValueError(f"{width}x{height} px is not a multiple of {token} px both ways")
        return 1, height // self.vision.patch_size, width // self.vision.patch_size

    def __call__(self, images: Sequence[ImageArray], sizes: Sequence[Size]) -> Patches:
        """Return the patches of `images`, each brought to its size in `sizes` first."""
        grids = [self.grid(size) for size in sizes]
        cut = [
            self._cut(resize(image, size), rows, columns)
            for image, size, (_, rows, columns) in zip(images, sizes, grids, strict=True)
        ]
        patches = np.concatenate(cut)  # (P, 3, 1, patch, patch), uint8
        # (x / 255 - mean) / std, as one multiplication and one addition per value.
        gain = 1 / (255 * np.asarray(self.std))
        offset = -np.asarray(self.mean) / np.asarray(self.std)
        shape = (1, 3, 1, 1, 1)
        values = np.multiply(patches, gain.reshape(shape), dtype=np.float32, casting="unsafe")
        values += offset.reshape(shape).astype(np.float32)
        # A video has several frames in a patch; an image is the same frame repeated.
        values = np.repeat(values, self.vision.temporal_patch_size, axis=2)
        return Patches(values.reshape(len(patches), -1), np.asarray(grids, np.int64))

    def save(self, path: Path) -> None:
        """Write the family's `preprocessor_config.json`."""
        vision = self.vision
        settings = {
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "image_mean": self.mean,
            "image_std": self.std,
            "patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "merge_size": vision.merge_size,
        }
        write_json(path, settings)

    def _cut(self, image: ImageArray, rows: int, columns: int) -> ImageArray:
        patch, merge = self.vision.patch_size, self.vision.merge_size
        # (rows/m, m, p, columns/m, m, p, 3): the patches of one token must be neighbours.
        blocks = image.reshape(rows // merge, merge, patch, columns // merge, merge, patch, 3)
        ordered = blocks.transpose(0, 3, 1, 4, 6, 2, 5)  # (rows/m, columns/m, m, m, 3, p, p)
        return ordered.reshape(rows * columns, 3, 1, patch, patch)


def resize(image: ImageArray, size: Size) -> ImageArray:
    """Return `image` (H, W, 3) stretched to `size`; itself when it has it already.

    The whole view is kept and its shape is not (our choice; the paper does not say): a crop could
    lose the object, and a border would spend tokens on nothing.
    """
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = width * height < image.shape[0] * image.shape[1]
    # Averaging areas is the one cheap filter that does not alias when an image shrinks.
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


Colour = tuple[
    Annotated[float, Field(gt=0, le=1)],
    Annotated[float, Field(gt=0, le=1)],
    Annotated[float, Field(gt=0, le=1)],
]


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """The part of the family's `preprocessor_config.json` that is read; the rest is resizing."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    image_mean: Colour
    image_std: Colour
    patch_size: int
    temporal_patch_size: int
    merge_size: int


def load_image_processor(path: Path, vision: VisionConfig) -> ImageProcessor:
    """Read a `preprocessor_config.json` and hold it against the model's dimensions.

    Raises:
        CheckpointError: When it is missing, malformed, or made for other patches.
    """
    settings = read_json(path, _Settings)
    for key in ("patch_size", "temporal_patch_size", "merge_size"):
        theirs, ours = getattr(settings, key), getattr(vision, key)
        if theirs != ours:
            raise CheckpointError(f"{path}: {key} is {theirs}; the model's is {ours}.")
    return ImageProcessor(vision, settings.image_mean, settings.image_std)
