"""openpi's observation dictionaries: what each kind has, and whether a robot's file fits it."""

from __future__ import annotations

from dataclasses import dataclass

from qwen_vla_ros.embodiment.schema import EmbodimentFile, OpenpiSpec
from qwen_vla_ros.errors import suggest
from qwen_vla_ros.problems import Loc, Problems

UNUSED = "unused"
"""Stands in `state` for a number that no channel is read from."""


@dataclass(frozen=True, kw_only=True)
class OpenpiFormat:
    """One kind of dictionary.

    Attributes:
        image_folder: What the keys of its images begin with.
        images: The images that it may have.
        state_keys: Where the numbers of the state are; the last key of several has one number.
        channels_first: Whether its images are (3, H, W) and not (H, W, 3). Both are understood;
            this is what is sent.
    """

    image_folder: str
    images: tuple[str, ...]
    state_keys: tuple[str, ...]
    channels_first: bool


FORMATS = {
    "aloha": OpenpiFormat(
        image_folder="images",
        images=("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist"),
        state_keys=("state",),
        channels_first=True,
    ),
    "libero": OpenpiFormat(
        image_folder="observation",
        images=("image", "wrist_image"),
        state_keys=("observation/state",),
        channels_first=False,
    ),
    "droid": OpenpiFormat(
        image_folder="observation",
        images=("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left"),
        state_keys=("observation/joint_position", "observation/gripper_position"),
        channels_first=False,
    ),
}


def state_layout(spec: OpenpiSpec, channels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the channel, or `UNUSED`, of every number in the dictionary's state."""
    return spec.state or channels


def check_openpi(file: EmbodimentFile, problems: Problems) -> None:
    """Add a sentence for everything in the `openpi` block that does not fit this robot."""
    spec = file.openpi
    if spec is None:
        return
    if file.moves_base:
        problems.add(("openpi",), "no dictionary of openpi's is for a base; leave the block out.")
        return
    _check_images(file, spec, problems)
    _check_state(file, spec, problems)
    for key in ("gripper_state", "gripper_action"):
        values = getattr(spec, key)
        if values.closed == values.open:
            problems.add(("openpi", key, "open"), "is the same number as closed.")


def _check_images(file: EmbodimentFile, spec: OpenpiSpec, problems: Problems) -> None:
    known = FORMATS[spec.format].images
    cameras = {camera.name for camera in file.cameras}
    for key, camera in spec.images.items():
        loc: Loc = ("openpi", "images", key)
        if key not in known:
            problems.add(loc, f"{spec.format} has no image '{key}'.{suggest(key, known)}")
        if camera not in cameras:
            problems.add(loc, f"there is no camera '{camera}'.{suggest(camera, cameras)}")
    problems.refuse_twice(
        (("openpi", "images", key), camera) for key, camera in spec.images.items()
    )
    for name in sorted(cameras - set(spec.images.values())):
        problems.add(("openpi", "images"), f"no image feeds the camera '{name}'.")
    for i, camera_spec in enumerate(file.cameras):
        if camera_spec.history is not None:
            problems.add(
                ("cameras", i, "history"), "openpi's dictionaries have no earlier images."
            )


def _check_state(file: EmbodimentFile, spec: OpenpiSpec, problems: Problems) -> None:
    channels = [channel.name for channel in file.action]
    if not spec.state:
        return
    places: list[tuple[Loc, str]] = []
    for i, name in enumerate(spec.state):
        loc: Loc = ("openpi", "state", i)
        if name == UNUSED:
            continue
        places.append((loc, name))
        if name not in channels:
            problems.add(loc, f"there is no channel '{name}'.{suggest(name, [*channels, UNUSED])}")
    problems.refuse_twice(places)
    for name in channels:
        if name not in spec.state:
            problems.add(("openpi", "state"), f"no number is the state of channel '{name}'.")
