"""Images find their places."""

from __future__ import annotations

import numpy as np
import pytest

from qwen_vla_ros.prompt.places import fill_places
from qwen_vla_ros.types import ImageArray, Observation, Prompt


def image(level: int) -> ImageArray:
    return np.full((2, 2, 3), level, np.uint8)


def prompt(*cameras: str) -> Prompt:
    return Prompt(instruction="go", text="", cameras=cameras)


def observation(history: dict[str, tuple[int, ...]], **images: int) -> Observation:
    return Observation(
        stamp_ns=1,
        images={name: image(level) for name, level in images.items()},
        state=np.zeros(1),
        history={
            name: tuple(image(level) for level in levels) for name, levels in history.items()
        },
    )


def filled(asked: Prompt, seen: Observation) -> list[int]:
    return [int(image[0, 0, 0]) for image in fill_places(asked, seen)]


def test_images_go_where_the_prompt_has_their_cameras():
    assert filled(prompt("wrist", "front"), observation({}, front=1, wrist=2)) == [2, 1]


def test_a_history_goes_before_its_newest_image_oldest_first():
    seen = observation({"front": (10, 20)}, front=30, wrist=2)
    assert filled(prompt("wrist", "front", "front", "front"), seen) == [2, 10, 20, 30]


@pytest.mark.parametrize("levels", [(), (10,), (10, 20, 30)])
def test_a_history_of_another_length_is_an_error(levels: tuple[int, ...]):
    seen = observation({"front": levels}, front=40)
    with pytest.raises(ValueError, match=f"'front' has {len(levels) + 1} images for 3 image pl"):
        fill_places(prompt("front", "front", "front"), seen)


def test_a_missing_image_is_an_error():
    with pytest.raises(ValueError, match="has no image of camera 'wrist'"):
        fill_places(prompt("front", "wrist"), observation({}, front=1))
