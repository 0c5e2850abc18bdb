"""All images of one observation as one block of bytes, whose layout both ends know by heart.

The layout follows from the embodiment file, and the handshake has made sure that both ends have
the same: camera by camera in the file's order, each camera's earlier images before its present
one, oldest first, every image as rows of RGB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.wire import MAX_BYTES, SMALL_BYTES, WireError
from qwen_vla_ros.types import ImageArray, Observation

Images = tuple[Mapping[str, ImageArray], Mapping[str, tuple[ImageArray, ...]]]
"""The images of an observation, and the earlier ones."""


@dataclass(frozen=True)
class _Camera:
    name: str
    shape: tuple[int, int, int]
    frames: int


class ImageBlock:
    """The layout of one robot's images."""

    def __init__(self, embodiment: Embodiment) -> None:
        """Read the layout from the embodiment file.

        Raises:
            QwenVlaError: One observation would be larger than a message may be.
        """
        self._cameras = tuple(
            _Camera(
                camera.name,
                (camera.height_px, camera.width_px, 3),
                1 if camera.history is None else 1 + camera.history.frames,
            )
            for camera in embodiment.file.cameras
        )
        self._shapes = [camera.shape for camera in self._cameras for _ in range(camera.frames)]
        self.size = sum(int(np.prod(camera.shape)) * camera.frames for camera in self._cameras)
        if self.size + SMALL_BYTES > MAX_BYTES:
            raise QwenVlaError(
                f"{embodiment.path}: cameras: one observation is {self.size / 2**20:.1f} MiB; a "
                f"policy server takes {MAX_BYTES / 2**20:g} MiB. Let the cameras send smaller "
                "images."
            )

    def parts(self, observation: Observation) -> list[ImageArray]:
        """Return the images in the order of the block; they need not lie in one piece each.

        Raises:
            WireError: The observation is not this robot's.
        """
        parts: list[ImageArray] = []
        for camera in self._cameras:
            parts += observation.history.get(camera.name, ())
            parts.append(observation.images[camera.name])
        shapes = [image.shape for image in parts]
        if shapes != self._shapes or any(image.dtype != np.uint8 for image in parts):
            raise WireError(f"images of shapes {shapes}; {self._shapes} of uint8 are needed.")
        return parts

    def read(self, block: memoryview) -> Images:
        """Return the images and the earlier images of a block, as views of it.

        Raises:
            WireError: The block has another size.
        """
        if len(block) != self.size:
            raise WireError(f"images of {len(block)} bytes; this robot's have {self.size}.")
        pixels = np.frombuffer(block, np.uint8)
        images: dict[str, ImageArray] = {}
        history: dict[str, tuple[ImageArray, ...]] = {}
        for camera in self._cameras:
            count = camera.frames * int(np.prod(camera.shape))
            frames = pixels[:count].reshape(camera.frames, *camera.shape)
            pixels = pixels[count:]
            images[camera.name] = frames[-1]
            if camera.frames > 1:
                history[camera.name] = tuple(frames[:-1])
        return images, history
