"""Camera images become the patches that the vision encoder reads.

The values and their order are those of the family's own image processor, bit for bit where an
image has its size already. All reordering is done on bytes; what a byte is worth is looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from pydantic import ConfigDict, Field
from torch.nn import functional
from transformers.models.qwen3_5 import Qwen3_5VisionConfig

from qwen_vla_ros.data_file import read_json, write_json
from qwen_vla_ros.embodiment.schema import Fit
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.observation.framing import Size, inscribed, middle
from qwen_vla_ros.types import ImageArray

COLOURS = 3


Grid = tuple[int, int, int]
"""Frames (1), rows and columns of patches of one image."""


@dataclass(frozen=True, eq=False)
class Patches:
    """The patches of some images, one after the other.

    A patch of the family spans several video frames, and an image is the same frame repeated: the
    repetition is left out here.

    Attributes:
        pixels: As they were seen; (P, 3, patch, patch), uint8.
        grids: Of each image.
        processor: Who cut them, and knows what a byte is worth.
    """

    pixels: npt.NDArray[np.uint8]
    grids: tuple[Grid, ...]
    processor: ImageProcessor

    @cached_property
    def pixel_values(self) -> npt.NDArray[np.float32]:
        """Normalised pixels, one frame; (P, 3 * patch * patch), float32."""
        return self.processor.normalize(self.pixels)

    @property
    def token_counts(self) -> list[int]:
        """How many tokens each image takes."""
        merged = self.processor.vision.spatial_merge_size**2
        return [rows * columns // merged for _, rows, columns in self.grids]


@dataclass(frozen=True)
class ImageProcessor:
    """Fits, cuts and normalises images.

    Attributes:
        vision: Sizes of a patch and of the square of patches that becomes one token.
        mean: What counts as zero, of the range 0 to 1, per colour channel.
        std: What counts as one unit, of the range 0 to 1, per colour channel.
    """

    vision: Qwen3_5VisionConfig
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @cached_property
    def patch_px(self) -> int:
        """Side of a patch."""
        side: Any = self.vision.patch_size  # whose type has room for other shapes
        return int(side)

    @cached_property
    def token_px(self) -> int:
        """Side of the square of pixels that becomes one token."""
        return self.patch_px * self.vision.spatial_merge_size

    @cached_property
    def _run(self) -> np.dtype[np.void]:
        return np.dtype((np.void, self.patch_px))

    @cached_property
    def levels(self) -> npt.NDArray[np.float32]:
        """What each of the 256 levels of a colour is worth; (3, 256)."""
        # In the family's order of operations and precision, so that the last bit agrees too.
        shares = (np.arange(256) * (1 / 255)).astype(np.float32)
        mean, std = (np.asarray(x, np.float32)[:, None] for x in (self.mean, self.std))
        return (shares - mean) / std

    def grid(self, size: Size) -> Grid:
        """Return frames, rows and columns of patches for an image of `size`.

        Raises:
            ValueError: When the size is not a whole number of tokens.
        """
        width, height = size
        token = self.token_px
        if width % token or height % token:
            raise ValueError(f"{width}x{height} px is not a multiple of {token} px both ways")
        return 1, height // self.patch_px, width // self.patch_px

    def __call__(
        self,
        images: Sequence[ImageArray],
        sizes: Sequence[Size],
        fits: Sequence[Fit] | None = None,
    ) -> Patches:
        """Return the patches of `images`, each brought to its size first.

        Args:
            images: RGB, (H, W, 3).
            sizes: What the model sees of each.
            fits: How each gets there when it has another shape; `None` stretches all.
        """
        grids = tuple(self.grid(size) for size in sizes)
        counts = [rows * columns for _, rows, columns in grids]
        ways: Sequence[Fit] = ["stretch"] * len(images) if fits is None else fits
        patch = self.patch_px
        pixels = np.empty((sum(counts), COLOURS, patch, patch), np.uint8)
        end = 0
        for image, size, fit, count in zip(images, sizes, ways, counts, strict=True):
            begin, end = end, end + count
            self._cut(fit_image(image, size, fit), pixels[begin:end])
        return Patches(pixels, grids, self)

    def normalize(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Look up what every pixel is worth; (P, 3, patch, patch) -> (P, 3 * patch * patch)."""
        count, area = len(pixels), self.patch_px**2
        pixel_values = np.empty((count, COLOURS, area), np.float32)
        if count:
            # OpenCV writes where it is told, also into rows with gaps between them.
            colours = pixels.reshape(count, COLOURS, area)
            for colour in range(COLOURS):
                levels = self.levels[colour : colour + 1]
                cv2.LUT(colours[:, colour], levels, pixel_values[:, colour])
        return pixel_values.reshape(count, COLOURS * area)

    def save(self, path: Path) -> None:
        """Write the family's `preprocessor_config.json`."""
        vision = self.vision
        settings = {
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "image_mean": self.mean,
            "image_std": self.std,
            "patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "merge_size": vision.spatial_merge_size,
        }
        write_json(path, settings)

    def _cut(self, image: ImageArray, pixels: npt.NDArray[np.uint8]) -> None:
        """Write the patches of one image into `pixels` (P, 3, patch, patch)."""
        patch, merge = self.patch_px, self.token_px // self.patch_px
        height, width, _ = image.shape
        planes = np.empty((COLOURS, height, width), np.uint8)
        cv2.split(image, list(planes))
        # The pixels that lie side by side in one patch are moved as one item.
        rows, columns = height // (patch * merge), width // (patch * merge)
        source = planes.view(self._run).reshape(COLOURS, rows, merge, patch, columns, merge)
        target = pixels.view(self._run).reshape(rows, columns, merge, merge, COLOURS, patch)
        # The patches of one token must be neighbours.
        target[...] = source.transpose(1, 4, 2, 5, 0, 3)


def fit_image(image: ImageArray, size: Size, fit: Fit = "stretch") -> ImageArray:
    """Return `image` (H, W, 3) at `size`; itself when it has it already.

    The paper does not say how an image of another shape gets to the model's, so the file does:

    - `stretch` shows the whole view and bends its shape: no object is lost, no token is wasted.
    - `crop` shows the largest part in the middle that has the shape of `size`.
    - `pad` shows the whole view in its own shape and in the middle, with black borders.

    All three are the same where the image has the shape of `size`.

    Raises:
        ValueError: When it is no image of bytes with three colours.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image is (H, W, 3) of uint8, not {image.shape} of {image.dtype}")
    height, width, _ = image.shape
    if (width, height) == size:
        return image
    if fit == "stretch":
        return _resize(image, size)
    if fit == "crop":
        return _resize(middle(image, size), size)
    across, down = inscribed((width, height), size)
    left, top = (size[0] - across) // 2, (size[1] - down) // 2
    framed = np.zeros((size[1], size[0], 3), np.uint8)
    framed[top : top + down, left : left + across] = _resize(image, (across, down))
    return framed


def _resize(image: ImageArray, size: Size) -> ImageArray:
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    # Torch would warn of memory that it may not write to, such as a message's, though it only
    # reads; and a crop has to lie in one piece to be read fast.
    whole = np.require(image, requirements=["C", "W"])
    # In front of the colours, so that torch sees the order of the bytes for what it is.
    planes = torch.from_numpy(whole)[None].permute(0, 3, 1, 2)
    resized = functional.interpolate(planes, (height, width), mode="bicubic", antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


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


def load_image_processor(path: Path, vision: Qwen3_5VisionConfig) -> ImageProcessor:
    """Read a `preprocessor_config.json` and hold it against the model's dimensions.

    Raises:
        CheckpointError: When it is missing, malformed, or made for other patches.
    """
    settings = read_json(path, _Settings)
    for key in ("patch_size", "temporal_patch_size", "merge_size"):
        # The model's own configuration has a longer name for one of them.
        ours = getattr(vision, "spatial_merge_size" if key == "merge_size" else key)
        theirs = getattr(settings, key)
        if theirs != ours:
            raise CheckpointError(f"{path}: {key} is {theirs}; the model's is {ours}.")
    return ImageProcessor(vision, settings.image_mean, settings.image_std)
