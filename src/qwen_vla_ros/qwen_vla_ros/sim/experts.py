"""The scripted expert of a world. It knows the world's rules, but not its physics engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.sim.aloha_expert import AlohaExpert
from qwen_vla_ros.sim.room_expert import RoomExpert
from qwen_vla_ros.types import Policy

EXPERTS: Mapping[str, Callable[[Embodiment], Policy]] = {
    "aloha_cell": AlohaExpert,
    "room": RoomExpert,
}


def load_expert(embodiment: Embodiment) -> Policy:
    """Return the expert for the world in which an embodiment lives.

    Raises:
        EmbodimentError: The robot is not simulated, so that nobody knows where things are.
    """
    simulation = embodiment.file.simulation
    if simulation is None:
        raise EmbodimentError(
            f"{embodiment.name} has no scripted expert: its file has no 'simulation' section."
        )
    return EXPERTS[simulation.world](embodiment)
