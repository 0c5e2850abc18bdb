"""What a person may say at bringup, in words: the launch arguments and the options of `up`."""

from __future__ import annotations

from dataclasses import dataclass

POLICIES = ("qwen_vla", "expert", "remote")
BACKENDS = ("mujoco", "hardware")
PRECISIONS = ("auto", "fp32", "bf16")
PROTOCOLS = ("openpi", "vla-eval")
CONTINUATIONS = ("auto", "prefix", "guidance", "none")


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One thing that a person may say at bringup, in words."""

    name: str
    description: str
    default: str | None = None
    choices: tuple[str, ...] = ()


ARGUMENTS = (
    Argument(name="robot", description="Name or path of the embodiment file."),
    Argument(
        name="policy",
        description="Which policy answers: the model, the scripted expert of a simulated task, "
        "or one on a server.",
        default="qwen_vla",
        choices=POLICIES,
    ),
    Argument(
        name="checkpoint",
        description="Checkpoint directory of the model; needed with policy qwen_vla.",
        default="",
    ),
    Argument(
        name="backend",
        description="mujoco starts a simulated robot; hardware expects the robot's own driver "
        "to run.",
        default="mujoco",
        choices=BACKENDS,
    ),
    Argument(
        name="device", description="Where the model runs: cpu, cuda, cuda:1 ...", default="cpu"
    ),
    Argument(
        name="adapter",
        description="LoRA adapter to merge into the model, a directory; empty is none.",
        default="",
    ),
    Argument(
        name="precision",
        description="What the model computes in; auto is bf16 on a GPU and fp32 elsewhere.",
        default="auto",
        choices=PRECISIONS,
    ),
    Argument(
        name="continuation",
        description="How a chunk continues what is being played; auto is as it was trained.",
        default="auto",
        choices=CONTINUATIONS,
    ),
    Argument(name="steps", description="Steps of the flow from noise to actions.", default="4"),
    Argument(
        name="temperature",
        description="Spread of the model's noise; the paper evaluates with 0.6.",
        default="1.0",
    ),
    Argument(
        name="threads",
        description="CPU threads of the model; on few cores one is steadiest.",
        default="1",
    ),
    Argument(
        name="use_sim_time",
        description="Take time from /clock, which the simulator then publishes.",
        default="false",
        choices=("true", "false"),
    ),
    Argument(
        name="namespace", description="Prefix of every relative name; empty is none.", default=""
    ),
    Argument(name="scene_seed", description="Seed of the simulated scene.", default="0"),
    Argument(
        name="seed", description="Seed of the model's noise; negative draws anew.", default="-1"
    ),
    Argument(
        name="server",
        description="Address of the policy server, ws://HOST:PORT; needed with policy remote.",
        default="",
    ),
    Argument(
        name="server_protocol",
        description="What the policy server speaks.",
        default="openpi",
        choices=PROTOCOLS,
    ),
    Argument(
        name="server_token_file",
        description="File with the policy server's token; without one, $QWEN_VLA_TOKEN has it.",
        default="",
    ),
    Argument(
        name="server_ca_file",
        description="Certificates that a wss policy server's must lead to; empty is the system's.",
        default="",
    ),
    Argument(
        name="deadline_s",
        description="Longest wait for an answer of the policy server, in seconds.",
        default="0.3",
    ),
)
"""The launch arguments of the bringup, and the options of `qwen-vla up`."""
