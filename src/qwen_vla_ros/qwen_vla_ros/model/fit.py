"""Brings a camera's image to the size that the model sees, the way its embodiment file says.

The interpolation is the family's: bicubic with anti-aliasing, across and then down, each time
rounded to whole levels. It is the kernel that the family's processor for tensors calls. The one
for Pillow images differs by one level of 255 in fewer than one value of a hundred; and where a new
Pillow goes down first, by what is clipped beside hard edges. It is also the fastest at hand.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from qwen_vla_ros.embodiment.schema import Fit
from qwen_vla_ros.types import ImageArray

Size = tuple[int, int]
"""Width and height in pixels."""


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
        across, down = inscribed(size, (width, height))
        left, top = (width - across) // 2, (height - down) // 2
        return _resize(image[top : top + down, left : left + across], size)
    across, down = inscribed((width, height), size)
    left, top = (size[0] - across) // 2, (size[1] - down) // 2
    framed = np.zeros((size[1], size[0], 3), np.uint8)
    framed[top : top + down, left : left + across] = _resize(image, (across, down))
    return framed


def inscribed(shape: Size, frame: Size) -> Size:
    """Return the largest size inside `frame` that has the shape of `shape`, in whole pixels."""
    across, down = shape
    width, height = frame
    # Compared and divided as integers: 640 / (640 / 224) can be just below 224.
    if across * height >= down * width:
        return width, max(1, down * width // across)
    return max(1, across * height // down), height


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
