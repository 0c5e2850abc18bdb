"""The policy that a word means: the same in the node, behind a server and on the bench."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.options import PolicyOptions
from qwen_vla_ros.types import Policy

Maker = Callable[[], Policy]


def load_policy(
    options: PolicyOptions, embodiment: Embodiment, *, sees_scene: bool = False
) -> Maker:
    """Load what the options name; returns what makes the policy of one client.

    The policies of several clients share what is costly and nothing of their episodes, which a
    reset begins.

    Args:
        options: What is wanted.
        embodiment: The robot.
        sees_scene: Whether observations tell where things are, as a simulator's do.

    Raises:
        QwenVlaError: The options contradict each other; there is no such checkpoint, file or
            server, or it is not for this robot; or there is no expert for this robot's world.
    """
    options.require_for_policy()
    if options.policy == "expert" and not sees_scene:
        raise QwenVlaError(
            "policy 'expert' reads a simulator's ground truth, which nobody tells it here; bring "
            "it up beside the simulator: qwen-vla up --robot R --policy expert"
        )
    return _LOADERS[options.policy](options, embodiment)


def _load_model(options: PolicyOptions, embodiment: Embodiment) -> Maker:
    # Torch takes a second to import, and only this policy needs it.
    from qwen_vla_ros.model.compute import use_threads
    from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy

    use_threads(options.threads)
    loaded = QwenVlaPolicy.load(
        Path(options.checkpoint),
        embodiment,
        device=options.device,
        precision=options.precision,
        continuation=options.continuation,
        adapter=Path(options.adapter) if options.adapter else None,
        steps=options.steps,
        temperature=options.temperature,
        seed=None if options.seed < 0 else options.seed,
    )
    # A copy shares the model and everything that was prepared for it.
    return lambda: copy.copy(loaded)


def _load_expert(options: PolicyOptions, embodiment: Embodiment) -> Maker:  # noqa: ARG001
    from qwen_vla_ros.sim.expert import load_expert

    return lambda: load_expert(embodiment)


def _load_mock(options: PolicyOptions, embodiment: Embodiment) -> Maker:
    from qwen_vla_ros.serving.fault import Fault
    from qwen_vla_ros.serving.mock import Latency, MockPolicy

    latency = Latency(p50_s=options.latency_ms / 1e3, p95_s=options.latency_p95_ms / 1e3)
    fault = Fault(kind=options.fault, after=options.fault_after, every=options.fault_every)
    return lambda: MockPolicy(
        embodiment,
        motion=options.motion,
        latency=latency,
        fault=fault,
        seed=max(0, options.seed),
    )


def _load_recording(options: PolicyOptions, embodiment: Embodiment) -> Maker:
    from qwen_vla_ros.serving.recording import read_recording
    from qwen_vla_ros.serving.replay import ReplayPolicy

    episodes = read_recording(Path(options.recording), embodiment)
    return lambda: ReplayPolicy(embodiment, episodes)


def _load_remote(options: PolicyOptions, embodiment: Embodiment) -> Maker:
    from qwen_vla_ros.serving.address import ServerAddress
    from qwen_vla_ros.serving.remote_policy import RemotePolicy

    address = ServerAddress.from_strings(
        options.server, token_file=options.server_token_file, ca_file=options.server_ca_file
    )
    return lambda: RemotePolicy.load(
        address, embodiment, dialect=options.server_protocol, deadline_s=options.deadline_s
    )


_LOADERS: Mapping[str, Callable[[PolicyOptions, Embodiment], Maker]] = {
    "qwen_vla": _load_model,
    "expert": _load_expert,
    "mock": _load_mock,
    "replay": _load_recording,
    "remote": _load_remote,
}
