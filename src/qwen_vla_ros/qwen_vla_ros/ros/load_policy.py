"""Which policy answers: the model, or a scripted expert that proves the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.ros.parameters import parameter
from qwen_vla_ros.types import Policy


@dataclass(frozen=True, kw_only=True)
class PolicyParameters:
    """Parameters that choose and set up a policy."""

    policy: str = parameter("Which policy answers.", choices=("qwen_vla", "expert"))
    checkpoint: str = parameter("Checkpoint directory of the qwen_vla policy.", default="")
    device: str = parameter("Where the model runs: cpu, cuda, cuda:1 ...", default="cpu")
    steps: int = parameter(
        "Euler steps of the flow from noise to actions.", default=4, minimum=1, maximum=100
    )
    seed: int = parameter(
        "Seed of the model's noise; a negative one draws anew at every start.",
        default=-1,
        minimum=-1,
        maximum=2**31 - 1,
    )
    threads: int = parameter(
        "CPU threads of the model. On few cores one is steadiest.",
        default=1,
        minimum=1,
        maximum=256,
    )


def load_policy(parameters: PolicyParameters, embodiment: Embodiment) -> Policy:
    """Load the policy that the parameters name.

    Raises:
        QwenVlaError: There is no such checkpoint, it is not for this robot, or there is no expert
            for this robot's world.
    """
    if parameters.policy == "expert":
        from qwen_vla_ros.sim.experts import load_expert

        return load_expert(embodiment)
    if not parameters.checkpoint:
        raise CheckpointError(
            "parameter 'checkpoint' is required with policy 'qwen_vla'. "
            "Make one with: qwen-vla init --preset nano --out DIR"
        )
    # Torch takes a second to import, and only this policy needs it.
    from qwen_vla_ros.policy.compute import use_threads
    from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy

    use_threads(parameters.threads)
    return QwenVlaPolicy.load(
        Path(parameters.checkpoint),
        embodiment,
        device=parameters.device,
        steps=parameters.steps,
        seed=None if parameters.seed < 0 else parameters.seed,
    )
