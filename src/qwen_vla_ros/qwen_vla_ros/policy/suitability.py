"""Whether a checkpoint suits a robot, told before the robot is asked to move."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from qwen_vla_ros.checkpoint.checkpoint import NORMALIZATION, Checkpoint
from qwen_vla_ros.checkpoint.normalization import Normalization, check_horizon
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import CheckpointError, suggest
from qwen_vla_ros.options import CONTINUATIONS

log = logging.getLogger(__name__)


def statistics_for(known: Mapping[str, Normalization], embodiment: Embodiment) -> Normalization:
    """Return the statistics that an embodiment names.

    Raises:
        CheckpointError: When they are missing, have other channels or another order of them, or
            are those of chunks of another length.
    """
    name = embodiment.file.normalization
    if name not in known:
        raise CheckpointError(
            f"the checkpoint has no {NORMALIZATION}/{name}.json, which {embodiment.name} names."
            f"{suggest(name, known)}"
        )
    theirs, ours = known[name].channels, embodiment.file.action
    if [(x.name, x.unit) for x in theirs] != [(x.name, x.unit) for x in ours]:
        raise CheckpointError(
            f"{NORMALIZATION}/{name}.json has the channels "
            f"{', '.join(f'{x.name} [{x.unit}]' for x in theirs)}; {embodiment.name} has "
            f"{', '.join(f'{x.name} [{x.unit}]' for x in ours)}."
        )
    check_horizon(known[name], embodiment)
    return known[name]


def check_image_sizes(checkpoint: Checkpoint, embodiment: Embodiment) -> None:
    """Check that every camera's image is a whole number of the model's tokens.

    Raises:
        CheckpointError: When one is not.
    """
    for camera in embodiment.file.cameras:
        try:
            checkpoint.images.grid((camera.input_width_px, camera.input_height_px))
        except ValueError as error:
            raise CheckpointError(
                f"camera {camera.name} of {embodiment.name}: {error}."
            ) from error


def continuation_of(wanted: str, *, frozen_prefix: bool) -> Literal["prefix", "guidance"] | None:
    """Return how committed rows are continued; `None`: not at all.

    Args:
        wanted: One of `CONTINUATIONS`.
        frozen_prefix: Whether the decoder was trained with frozen prefixes.

    Raises:
        CheckpointError: When it is another word, or a frozen prefix is wanted of a decoder that
            never saw one.
    """
    if wanted not in CONTINUATIONS:
        raise CheckpointError(f"continuation '{wanted}':{suggest(wanted, CONTINUATIONS)}")
    if wanted == "prefix" and not frozen_prefix:
        raise CheckpointError(
            "continuation 'prefix': the decoder of this checkpoint was not trained with frozen "
            "prefixes (decoder.frozen_prefix in config.json); use 'auto', 'guidance' or 'none'."
        )
    if wanted == "none":
        return None
    return "prefix" if wanted != "guidance" and frozen_prefix else "guidance"


def warn_of_changes(directory: Path, checkpoint: Checkpoint, embodiment: Embodiment) -> None:
    """Say in the log when the robot is not as it was when the checkpoint was made."""
    for record in checkpoint.manifest.provenance.embodiments:
        if record.name == embodiment.name and record.hash != embodiment.hash:
            log.warning(
                "%s: was made for %s as of %s, which is %s now: its file or URDF has changed.",
                directory,
                embodiment.name,
                record.hash,
                embodiment.hash,
            )
