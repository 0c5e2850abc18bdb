"""Which image goes into which image place of a prompt."""

from __future__ import annotations

from itertools import groupby

from qwen_vla_ros.types import ImageArray, Observation, Prompt


def fill_places(prompt: Prompt, observation: Observation) -> list[ImageArray]:
    """Return an image for every image place, in the order of the text.

    A camera with a history has several places in a row; they take its earlier images, oldest
    first, and then the newest.

    Raises:
        ValueError: When a camera has more or fewer images than places, because prompt and
            observation were made for different robots.
    """
    filled: list[ImageArray] = []
    for camera, places in groupby(prompt.cameras):
        if camera not in observation.images:
            raise ValueError(f"the observation has no image of camera '{camera}'")
        images = (*observation.history.get(camera, ()), observation.images[camera])
        count = len(list(places))
        if len(images) != count:
            raise ValueError(
                f"camera '{camera}' has {len(images)} images for {count} image places"
            )
        filled += images
    return filled
