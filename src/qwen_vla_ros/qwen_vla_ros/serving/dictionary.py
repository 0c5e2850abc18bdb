"""Observation dictionaries and actions of the wire, to this robot's channels and back.

A robot's own dictionary is `images/<camera>`, `state` in channel order and units, and `prompt`.
To one with an `openpi` block in its file openpi's clients speak in theirs: the block says which
image feeds which camera and which number is which channel; what the kinds of dictionaries have
stands in `embodiment.openpi`.
"""

from __future__ import annotations

from typing import Any, Self

import cv2
import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.openpi import FORMATS, OpenpiFormat, state_layout
from qwen_vla_ros.embodiment.schema import CameraSpec, GripperNumbers, OpenpiSpec
from qwen_vla_ros.errors import QwenVlaError, suggest
from qwen_vla_ros.observation.framing import middle
from qwen_vla_ros.serving.wire import MAX_BYTES, MAX_TEXT_BYTES, WireError
from qwen_vla_ros.types import FloatArray, ImageArray, Observation

MAX_PIXELS = 4_000_000
SMALLEST_PX = 16
PROMPT = "prompt"
HISTORY = "history"
OWN_FORMAT = OpenpiFormat(
    image_folder="images", images=(), state_keys=("state",), channels_first=False
)
UNIT = GripperNumbers(closed=0.0, open=1.0)


class RobotDictionary:
    """One robot's view of the dictionaries."""

    def __init__(self, embodiment: Embodiment, spec: OpenpiSpec | None) -> None:
        """Read what the dictionary has.

        Args:
            embodiment: The robot.
            spec: An `openpi` block; none is the robot's own dictionary.
        """
        self._cameras = {camera.name: camera for camera in embodiment.file.cameras}
        self._is_own = spec is None
        if spec is None:
            spec = OpenpiSpec.model_construct(
                images={name: name for name in self._cameras},
                state=(),
                gripper_state=UNIT,
                gripper_action=UNIT,
            )
            self._format = OWN_FORMAT
        else:
            self._format = FORMATS[spec.format]
        self._images = {
            f"{self._format.image_folder}/{key}": camera for key, camera in spec.images.items()
        }
        self._channels = embodiment.channels
        self._layout = state_layout(spec, embodiment.channels)
        grippers = [channel.kind == "gripper" for channel in embodiment.file.action]
        self._grippers = np.flatnonzero(grippers)
        self._gripper_state = spec.gripper_state
        self._gripper_action = spec.gripper_action

    @classmethod
    def own(cls, embodiment: Embodiment) -> Self:
        """Return the robot's own dictionary, its images as the cameras send them."""
        return cls(embodiment, None)

    @classmethod
    def openpi(cls, embodiment: Embodiment) -> Self:
        """Return what openpi's clients and servers say of this robot; its own without a block."""
        return cls(embodiment, embodiment.file.openpi)

    def observation(
        self, value: object, stamp_ns: int, instruction: str = ""
    ) -> tuple[Observation, str]:
        """Return what a dictionary says: the observation and the instruction.

        Args:
            value: What the client sent.
            stamp_ns: When it arrived.
            instruction: What is asked where the dictionary says nothing.

        Raises:
            WireError: Something is missing, or is not what it must be; the sentence names it.
        """
        entries = flatten(value)
        images = {
            camera: read_image(key, self._get(entries, key), self._cameras[camera])
            for key, camera in self._images.items()
        }
        prompt = entries.get(PROMPT, instruction) or self._get(entries, PROMPT)
        if not isinstance(prompt, str):
            raise WireError(f"'{PROMPT}': a text is needed, not {type(prompt).__name__}.")
        state = self._state_from(np.concatenate([*self._numbers(entries)]))
        history = self._history(entries)
        return Observation(stamp_ns=stamp_ns, images=images, state=state, history=history), prompt

    def dictionary(self, observation: Observation, instruction: str) -> dict[str, Any]:
        """Return the dictionary that says the same.

        Images go as the cameras sent them in a robot's own dictionary, and where the model sees
        them padded, which is done where it looks; otherwise as it sees them.
        """
        numbers = np.zeros(len(self._layout))
        values = dict(zip(self._channels, self._to_numbers(observation.state), strict=True))
        for i, name in enumerate(self._layout):
            numbers[i] = values.get(name, 0.0)
        entries: dict[str, Any] = {PROMPT: instruction}
        for key, camera in self._images.items():
            image = observation.images[camera]
            spec = self._cameras[camera]
            if not self._is_own and spec.fit != "pad":
                size = spec.input_width_px, spec.input_height_px
                image = _resize(middle(image, size) if spec.fit == "crop" else image, size)
            if self._format.channels_first:
                folder, _, name = key.partition("/")
                entries.setdefault(folder, {})[name] = image.transpose(2, 0, 1)
            else:
                entries[key] = image
        for camera, earlier in observation.history.items():
            entries[f"{HISTORY}/{camera}"] = np.stack(earlier)
        keys = self._format.state_keys
        entries[keys[0]] = numbers if len(keys) == 1 else numbers[:-1]
        if len(keys) > 1:
            entries[keys[1]] = numbers[-1:]
        return entries

    def actions_to_wire(self, actions: FloatArray) -> FloatArray:
        """Return rows (H, c) with grippers as openpi's clients of this robot expect them."""
        return self._scaled(actions, (0.0, 1.0), _ends(self._gripper_action))

    def actions_from_wire(self, actions: FloatArray) -> FloatArray:
        """Return rows (H, c) in channel units."""
        return self._scaled(actions, _ends(self._gripper_action), (0.0, 1.0))

    def _get(self, entries: dict[str, Any], key: str) -> Any:
        if key not in entries:
            needed = ", ".join([*self._images, *self._format.state_keys, PROMPT])
            given = suggest(key, list(entries)[:32]).replace("Known:", "The dictionary has:")
            raise WireError(f"'{key}' is missing.{given[:600]} Needed: {needed}.")
        return entries[key]

    def _numbers(self, entries: dict[str, Any]) -> list[FloatArray]:
        keys = self._format.state_keys
        lengths = [len(self._layout)] if len(keys) == 1 else [len(self._layout) - 1, 1]
        return [
            read_numbers(key, self._get(entries, key), length)
            for key, length in zip(keys, lengths, strict=True)
        ]

    def _history(self, entries: dict[str, Any]) -> dict[str, tuple[ImageArray, ...]]:
        """Return the earlier images, which only a robot's own dictionary can have."""
        history = {}
        for name, camera in self._cameras.items():
            if not self._is_own or camera.history is None:
                continue
            key = f"{HISTORY}/{name}"
            value = self._get(entries, key)
            shape = (camera.history.frames, camera.height_px, camera.width_px, 3)
            if getattr(value, "shape", None) != shape or value.dtype != np.uint8:
                raise WireError(f"'{key}': earlier images of shape {shape} and uint8 are needed.")
            history[name] = tuple(value)
        return history

    def _state_from(self, numbers: FloatArray) -> FloatArray:
        state = np.array([numbers[self._layout.index(name)] for name in self._channels])
        return self._scaled(state, _ends(self._gripper_state), (0.0, 1.0))

    def _to_numbers(self, state: FloatArray) -> FloatArray:
        return self._scaled(state, (0.0, 1.0), _ends(self._gripper_state))

    def _scaled(
        self, values: FloatArray, source: tuple[float, float], target: tuple[float, float]
    ) -> FloatArray:
        """Return values (..., c) whose grippers count from `target` and no longer `source`."""
        values = np.array(values, np.float64)
        share = (values[..., self._grippers] - source[0]) / (source[1] - source[0])
        values[..., self._grippers] = target[0] + share * (target[1] - target[0])
        return values


def require_message_fits(embodiment: Embodiment) -> None:
    """Refuse a robot whose observations no message could hold.

    Raises:
        QwenVlaError: One would be larger than a message may be.
    """
    size = sum(
        camera.width_px
        * camera.height_px
        * 3
        * (1 + (camera.history.frames if camera.history else 0))
        for camera in embodiment.file.cameras
    )
    if size + MAX_TEXT_BYTES > MAX_BYTES:
        raise QwenVlaError(
            f"{embodiment.path}: cameras: one observation is {size / 2**20:.1f} MiB; a policy "
            f"server takes {MAX_BYTES / 2**20:g} MiB. Let the cameras send smaller images."
        )


def read_rows(key: str, value: object, columns: int, most: int) -> FloatArray:
    """Return finite numbers of shape (up to `most`, `columns`).

    Raises:
        WireError: They are not.
    """
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise WireError(f"'{key}': an array of numbers is needed, not {kind}.")
    if value.ndim != 2 or value.shape[1] != columns or len(value) > most:
        raise WireError(
            f"'{key}': an array of shape {value.shape}; (up to {most}, {columns}) is needed."
        )
    return _finite(key, value)


def flatten(value: object) -> dict[str, Any]:
    """Return `images/cam_high` for `{"images": {"cam_high": x}}` and for `images.cam_high`.

    Raises:
        WireError: It is no map, has keys that are no text, or says one thing twice.
    """
    entries: dict[str, Any] = {}

    def visit(inner: object, path: str) -> None:
        if not isinstance(inner, dict):
            if path in entries:
                raise WireError(f"'{path}' is given twice.")
            entries[path] = inner
            return
        for key, item in inner.items():
            if not isinstance(key, str):
                raise WireError(f"a key is a text, not {type(key).__name__}.")
            visit(item, "/".join(filter(None, (path, key.replace(".", "/")))))

    if not isinstance(value, dict):
        raise WireError(f"an observation is a dictionary, not {type(value).__name__}.")
    visit(value, "")
    return entries


def read_image(key: str, value: object, camera: CameraSpec) -> ImageArray:
    """Return an image as RGB (H, W, 3) of uint8, at its camera's size or the model's.

    Raises:
        WireError: It is no image.
    """
    if not isinstance(value, np.ndarray) or value.ndim != 3 or 3 not in value.shape[::2]:
        shape = f"shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise WireError(f"'{key}': {shape}; an image has the shape (H, W, 3) or (3, H, W).")
    is_first = value.shape[2] != 3
    height, width = value.shape[1:] if is_first else value.shape[:2]
    if min(height, width) < SMALLEST_PX or height * width > MAX_PIXELS:
        raise WireError(
            f"'{key}': {width}x{height} px; {SMALLEST_PX} px a side to {MAX_PIXELS} pixels are "
            "allowed."
        )
    if value.dtype != np.uint8:
        value = _levels(key, value)
    planes = np.ascontiguousarray(value)
    image = np.asarray(cv2.merge(list(planes)), np.uint8) if is_first else planes
    if (width, height) == (camera.input_width_px, camera.input_height_px):
        return image  # as the model sees it: whoever sent it has chosen how it got there
    return _resize(image, (camera.width_px, camera.height_px))


def read_numbers(key: str, value: object, length: int) -> FloatArray:
    """Return finite numbers of shape (`length`,).

    Raises:
        WireError: They are not.
    """
    is_list = isinstance(value, list) and all(isinstance(item, int | float) for item in value)
    if is_list or isinstance(value, int | float | np.generic):
        value = np.atleast_1d(np.asarray(value))
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise WireError(f"'{key}': numbers are needed, not {kind}.")
    if value.shape != (length,):
        raise WireError(f"'{key}': shape {value.shape}; ({length},) is needed.")
    return _finite(key, value)


def _finite(key: str, value: np.ndarray[Any, Any]) -> FloatArray:
    numbers: FloatArray = value.astype(np.float64)
    if not np.isfinite(numbers).all():
        place = tuple(np.argwhere(~np.isfinite(numbers))[0].tolist())
        raise WireError(f"'{key}': not finite at {place}: {numbers[place]}.")
    return numbers


def _levels(key: str, value: np.ndarray[Any, Any]) -> ImageArray:
    if value.dtype.kind != "f" or not bool(((value >= 0) & (value <= 1)).all()):
        raise WireError(f"'{key}': type {value.dtype}; an image is uint8, or floats from 0 to 1.")
    return np.asarray(np.rint(value * 255), np.uint8)


def _resize(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    shrinks = size[0] < width and size[1] < height
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)


def _ends(numbers: GripperNumbers) -> tuple[float, float]:
    return numbers.closed, numbers.open
