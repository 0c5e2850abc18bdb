"""The scripted expert of a world. It knows the world's rules, but not its physics engine."""

from __future__ import annotations

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.plugins import load_plugin
from qwen_vla_ros.types import Policy


def load_expert(embodiment: Embodiment) -> Policy:
    """Return the expert for the world in which an embodiment lives; it has the world's name.

    Raises:
        QwenVlaError: The robot is not simulated, or its world has no expert.
    """
    expert: Policy = load_plugin("qwen_vla_ros.sim.experts", embodiment.world).Expert(embodiment)
    return expert
