"""Which policy answers: the model here, one on a server, or an expert that proves the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qwen_vla_ros.arguments import CONTINUATIONS, POLICIES, PRECISIONS
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.ros.parameters import parameter
from qwen_vla_ros.serving.address import (
    LONGEST_DEADLINE_S,
    PROTOCOLS,
    SHORTEST_DEADLINE_S,
    ServerAddress,
)
from qwen_vla_ros.types import Policy


@dataclass(frozen=True, kw_only=True)
class PolicyParameters:
    """Parameters that choose and set up a policy."""

    policy: str = parameter("Which policy answers.", choices=POLICIES)
    checkpoint: str = parameter("Checkpoint directory of the qwen_vla policy.", default="")
    device: str = parameter("Where the model runs: cpu, cuda, cuda:1 ...", default="cpu")
    precision: str = parameter(
        "Numbers the model computes in; auto is bf16 on a GPU and fp32 on a CPU.",
        default="auto",
        choices=PRECISIONS,
    )
    adapter: str = parameter("Folder of a LoRA adapter for the checkpoint.", default="")
    continuation: str = parameter(
        "How a chunk continues what is being played; auto is what the checkpoint was trained for.",
        default="auto",
        choices=CONTINUATIONS,
    )
    steps: int = parameter(
        "Euler steps of the flow from noise to actions.", default=4, minimum=1, maximum=100
    )
    temperature: float = parameter(
        "Spread of the model's noise; the paper evaluates with 0.6.",
        default=1.0,
        minimum=0.0,
        maximum=2.0,
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
    server: str = parameter(
        "Policy server of the remote policy: ws://HOST:PORT, or wss://... with TLS.", default=""
    )
    server_protocol: str = parameter(
        "What the policy server speaks: this project's messages, or openpi's.",
        default="qwen_vla",
        choices=PROTOCOLS,
    )
    server_token_file: str = parameter(
        "File with the policy server's token; without one, $QWEN_VLA_TOKEN has it.", default=""
    )
    server_ca_file: str = parameter(
        "Certificates that a wss server's must lead to; empty is the system's.", default=""
    )
    deadline_s: float = parameter(
        "How long an answer of the policy server may take, everything included.",
        default=0.3,
        unit="s",
        minimum=SHORTEST_DEADLINE_S,
        maximum=LONGEST_DEADLINE_S,
    )


def load_policy(parameters: PolicyParameters, embodiment: Embodiment) -> Policy:
    """Load the policy that the parameters name.

    Raises:
        QwenVlaError: There is no such checkpoint or server, it is not for this robot, or there is
            no expert for this robot's world.
    """
    if parameters.policy == "remote":
        return _load_remote(parameters, embodiment)
    if parameters.policy == "expert":
        from qwen_vla_ros.sim.expert import load_expert

        return load_expert(embodiment)
    if not parameters.checkpoint:
        raise CheckpointError(
            "parameter 'checkpoint' is required with policy 'qwen_vla'. "
            "Make one with: qwen-vla init --preset nano --out DIR"
        )
    # Torch takes a second to import, and only this policy needs it.
    from qwen_vla_ros.model.compute import use_threads
    from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy

    use_threads(parameters.threads)
    return QwenVlaPolicy.load(
        Path(parameters.checkpoint),
        embodiment,
        device=parameters.device,
        precision=parameters.precision,
        continuation=parameters.continuation,
        adapter=Path(parameters.adapter) if parameters.adapter else None,
        steps=parameters.steps,
        temperature=parameters.temperature,
        seed=None if parameters.seed < 0 else parameters.seed,
    )


def _load_remote(parameters: PolicyParameters, embodiment: Embodiment) -> Policy:
    from qwen_vla_ros.serving.remote_policy import RemotePolicy

    address = ServerAddress.from_words(
        parameters.server,
        token_file=parameters.server_token_file,
        ca_file=parameters.server_ca_file,
    )
    return RemotePolicy.load(
        address,
        embodiment,
        protocol=parameters.server_protocol,
        deadline_s=parameters.deadline_s,
    )
