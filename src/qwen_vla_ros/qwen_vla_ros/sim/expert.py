"""The scripted expert of a world. It knows the world's rules, but not its physics engine."""

from __future__ import annotations

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.plugins import load_plugin
from qwen_vla_ros.types import Policy


def load_expert(embodiment: Embodiment) -> Policy:
    """Return the expert for the world in which an embodiment lives; it has the world's name.

    Raises:
        EmbodimentError: The robot is not simulated, so that nobody knows where things are.
        QwenVlaError: Nobody wrote an expert for this world.
    """
    simulation = embodiment.file.simulation
    if simulation is None:
        raise EmbodimentError(
            f"{embodiment.name} has no scripted expert: its file has no 'simulation' section."
        )
    expert: Policy = load_plugin("qwen_vla_ros.sim.experts", simulation.world).Expert(embodiment)
    return expert
