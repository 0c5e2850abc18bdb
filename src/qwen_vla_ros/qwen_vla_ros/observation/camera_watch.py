"""Does a camera still look at the world? It sends fresh stamps as well when it does not."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.types import FloatArray, ImageArray

FROZEN_S = 0.5
FROZEN_REPEATS = 3
"""A picture that came again so often and for so long, while the robot moved, is frozen (B2)."""
BLIND_S = 1.0
"""A camera that has seen nothing for so long is covered, blinded or broken (B10)."""
DARK = 16
BRIGHT = 240
SPREAD = 8
"""Of 255: all but the brightest fiftieth of a black picture is below the first, all but the
darkest of a white one above the second, and between the two fiftieths of one colour is less than
the third. Whoever sees something is far from all three: a lit scene spreads over 80 and more."""
ROWS = 60
"""A picture is judged by so many of its rows, and by columns as far apart as they are."""
TRIM = 50


class CameraWatch:
    """Judges the pictures of one camera, one after the other.

    A real camera has noise and never sends the same picture twice, but a simulated one does
    whenever nothing moves. So a repeated picture is only a fault when the robot has moved more
    than a little since it was first seen.
    """

    def __init__(self, name: str, little: FloatArray) -> None:
        """Watch the camera `name` of a robot.

        Args:
            name: What it is called in a sentence.
            little: For each number of a pose, how far it may move without the camera seeing it.
        """
        self._name = name
        self._little = little
        self.forget()

    def forget(self) -> None:
        """Begin anew: the clock has jumped."""
        self._image: ImageArray | None = None
        self._sample: ImageArray = np.empty(0, np.uint8)
        self._stamp_ns = 0
        self._first_ns = 0
        self._repeats = 0
        self._low = self._high = np.full(len(self._little), np.nan)
        self._nothing = ""
        self._nothing_ns = 0

    def see(self, image: ImageArray, stamp_ns: int, pose: FloatArray | None) -> None:
        """Take in the next picture.

        Args:
            image: RGB (H, W, 3).
            stamp_ns: When it was taken, by ROS time.
            pose: Where the robot was then, in the numbers of `little`; None when nobody knows.
        """
        if stamp_ns < self._stamp_ns:
            self.forget()
        sample = _sample(image)
        self._judge_levels(sample, stamp_ns)
        if not self._is_same(image, sample):
            self._first_ns, self._repeats = stamp_ns, 0
            self._low = self._high = np.full(len(self._little), np.nan)
        else:
            self._repeats += 1
        if pose is not None:
            self._low, self._high = np.fmin(self._low, pose), np.fmax(self._high, pose)
        self._image, self._sample, self._stamp_ns = image, sample, stamp_ns

    def fault(self) -> str:
        """Return why the newest picture is none of the world, or an empty string."""
        blind_s = (self._stamp_ns - self._nothing_ns) / NS_PER_S
        if self._nothing and blind_s > BLIND_S:
            return f"'{self._name}' has seen nothing but {self._nothing} for {blind_s:.1f} s"
        same_s = (self._stamp_ns - self._first_ns) / NS_PER_S
        if self._repeats < FROZEN_REPEATS or same_s < FROZEN_S:
            return ""
        if not (self._high - self._low > self._little).any():
            return ""
        return (
            f"'{self._name}' is frozen: it has sent the same picture for {same_s:.1f} s, "
            "and the robot has moved"
        )

    def _is_same(self, image: ImageArray, sample: ImageArray) -> bool:
        if self._image is None or not np.array_equal(sample, self._sample):
            return False
        # The rows between those of the sample, whole: what moves more than a little is on some.
        step = _step(image)
        return np.array_equal(image[step // 2 :: step], self._image[step // 2 :: step])

    def _judge_levels(self, sample: ImageArray, stamp_ns: int) -> None:
        nothing = _nothing_in(sample)
        if nothing and not self._nothing:
            self._nothing_ns = stamp_ns
        self._nothing = nothing


def _sample(image: ImageArray) -> ImageArray:
    """Return so much of a picture's green as tells how bright the picture is."""
    step = _step(image)
    return image[::step, ::step, 1].ravel()


def _step(image: ImageArray) -> int:
    return max(1, image.shape[0] // ROWS)


def _nothing_in(sample: ImageArray) -> str:
    """Say what a picture shows in which nothing is to be seen, or an empty string."""
    levels = np.bincount(sample, minlength=256).cumsum()
    low, high = np.searchsorted(levels, [levels[-1] / TRIM, levels[-1] * (1 - 1 / TRIM)])
    if high < DARK:
        return "black"
    if low > BRIGHT:
        return "white"
    return "one colour" if high - low < SPREAD else ""
