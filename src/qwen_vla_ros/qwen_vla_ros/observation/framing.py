"""Which part of a picture is seen, where the model sees another shape than the camera's."""

from __future__ import annotations

from qwen_vla_ros.types import ImageArray

Size = tuple[int, int]
"""Width and height in pixels."""


def inscribed(shape: Size, frame: Size) -> Size:
    """Return the largest size inside `frame` that has the shape of `shape`, in whole pixels."""
    across, down = shape
    width, height = frame
    # Compared and divided as integers: 640 / (640 / 224) can be just below 224.
    if across * height >= down * width:
        return width, max(1, down * width // across)
    return max(1, across * height // down), height


def middle(image: ImageArray, shape: Size) -> ImageArray:
    """Return the largest part in the middle of an image (H, W, 3) that has a shape; a view."""
    height, width, _ = image.shape
    across, down = inscribed(shape, (width, height))
    left, top = (width - across) // 2, (height - down) // 2
    return image[top : top + down, left : left + across]
