"""What the robot measures of itself, as text: numbers that the model has read all its life."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.types import FloatArray

BINS = 256
STATE = "state: "


def state_text(embodiment: Embodiment, state: FloatArray) -> str:
    """Return `state: [34, 128, ...]`, a number from 0 to 255 per action channel.

    The range that is cut into 256 equal parts is what the safety envelope allows the channel's
    joint, in channel units: it is known before there is any data, and it does not change with
    them. What lies beyond it is counted as its end.

    Args:
        embodiment: A robot whose channels all have joints.
        state: In channel order and units; (c,).

    Raises:
        ValueError: When it has another shape or holds what is no number.
    """
    channels = len(embodiment.channels)
    if state.shape != (channels,) or not np.isfinite(state).all():
        raise ValueError(f"the state must be {channels} finite numbers, not {state}")
    limits = [embodiment.file.safety.joints[joint] for joint in embodiment.joints]
    one = embodiment.channels_from_joints(np.array([limit.lower for limit in limits]))
    other = embodiment.channels_from_joints(np.array([limit.upper for limit in limits]))
    # A channel with a negative scale has its ends the other way round.
    low, high = np.minimum(one, other), np.maximum(one, other)
    bins = np.floor((state - low) / (high - low) * BINS).clip(0, BINS - 1)
    return f"{STATE}[{', '.join(str(int(number)) for number in bins)}]"
