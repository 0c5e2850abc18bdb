"""What one camera showed before now, as far apart as the model wants to see it."""

from __future__ import annotations

from collections import deque

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.schema import HistorySpec
from qwen_vla_ros.types import ImageArray

PER_SPACING = 4
"""Images kept per spacing: what is found is at most an eighth of it from the time asked for, and
half a camera period."""


class History:
    """The earlier images of one camera; its memory is bounded whatever the camera's rate.

    At most `PER_SPACING * (frames + 1)` images reach back as far as is ever asked for; `lag` more
    make up for a moment that lies so many images in the past.
    """

    def __init__(self, spec: HistorySpec, *, lag: int = 0) -> None:
        """Prepare for the `frames` and the `spacing_s` of a camera's file entry."""
        self._frames = spec.frames
        self._spacing_ns = round(spec.spacing_s * NS_PER_S)
        self._kept: deque[tuple[int, ImageArray]] = deque(
            maxlen=PER_SPACING * (spec.frames + 1) + lag
        )

    def put(self, stamp_ns: int, image: ImageArray) -> None:
        """Take an image in, where the last one is long enough ago."""
        if self._kept and stamp_ns <= self._kept[-1][0]:
            self._kept.clear()  # the clock began again
        if not self._kept or stamp_ns - self._kept[-1][0] >= self._spacing_ns // PER_SPACING:
            self._kept.append((stamp_ns, image))

    def forget(self) -> None:
        """Forget everything: a new episode has no past."""
        self._kept.clear()

    def before(self, stamp_ns: int, image: ImageArray) -> tuple[ImageArray, ...]:
        """Return the images before `image`, which was seen at `stamp_ns`; oldest first.

        Each is the one nearest to `stamp_ns` minus a multiple of the spacing. Where none lies
        within half a spacing of that time, the next younger one stands in: where the episode has
        just begun its first image is repeated, and where a camera was dark the first one after.
        """
        seen = [sample for sample in self._kept if sample[0] < stamp_ns]
        seen.append((stamp_ns, image))
        times = [stamp_ns - k * self._spacing_ns for k in range(self._frames, 0, -1)]
        return tuple(self._at(time_ns, seen) for time_ns in times)

    def _at(self, time_ns: int, seen: list[tuple[int, ImageArray]]) -> ImageArray:
        nearest = min(seen, key=lambda sample: abs(sample[0] - time_ns))
        if abs(nearest[0] - time_ns) <= self._spacing_ns / 2:
            return nearest[1]
        return next(image for stamp_ns, image in seen if stamp_ns > time_ns)
