"""`qwen-vla serve`: a policy for robots elsewhere, or a stand-in to try them out with."""

from __future__ import annotations

import copy
import logging
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import QwenVlaError, suggest
from qwen_vla_ros.serving.address import read_token
from qwen_vla_ros.serving.fault import FAULTS, Fault
from qwen_vla_ros.serving.inference import InferenceThread
from qwen_vla_ros.serving.mock import MOTIONS, Latency, MockPolicy
from qwen_vla_ros.serving.recording import Recorder, read_recording
from qwen_vla_ros.serving.replay import ReplayPolicy
from qwen_vla_ros.serving.server import PolicyServer, ServerSettings, read_ports
from qwen_vla_ros.serving.session import send
from qwen_vla_ros.types import Policy

POLICIES = ("qwen_vla", "mock", "replay")


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What somebody asks for; the options of the command, by their names."""

    robot: str
    policy: str
    checkpoint: Path | None
    adapter: Path | None
    device: str
    precision: str
    continuation: str
    steps: int
    temperature: float
    threads: int
    seed: int
    host: str
    listen: str
    token_file: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    max_clients: int
    request_s: float
    instruction: str
    record: Path | None
    recording: Path | None
    motion: str
    latency_ms: float
    latency_p95_ms: float
    fault: str
    after: int
    every: int


def serve(wishes: Wishes) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        QwenVlaError: The wishes contradict each other, or cannot be had.
    """
    _check(wishes)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    embodiment = load_embodiment(wishes.robot)
    settings = ServerSettings(
        host=wishes.host,
        ports=read_ports(wishes.listen),
        token=read_token(wishes.token_file) if wishes.token_file else "",
        tls=_tls(wishes),
        max_clients=wishes.max_clients,
        request_s=wishes.request_s,
        instruction=wishes.instruction,
    )
    fault = Fault(kind=wishes.fault, after=wishes.after, every=wishes.every)
    thread = InferenceThread()
    name, open_policy = _policy(wishes, embodiment, fault if wishes.fault else None, thread)
    recorder = Recorder.create(wishes.record, embodiment, name) if wishes.record else None
    server = PolicyServer(
        embodiment,
        open_policy,
        name,
        settings,
        send=fault.send if wishes.fault else send,
        inference=thread,
        recorder=recorder,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.end())
    scheme = "ws" if settings.tls is None else "wss"
    places = ", ".join(
        f"{scheme}://{wishes.host}:{port} ({dialect})" for dialect, port in server.ports.items()
    )
    print(f"serving {embodiment.name} ({name}) on {places}; Ctrl-C ends", flush=True)
    server.serve()
    if recorder is not None:
        recorder.close()
    return 0


def _check(wishes: Wishes) -> None:
    for option, value, allowed in (
        ("policy", wishes.policy, POLICIES),
        ("motion", wishes.motion, MOTIONS),
        ("fault", wishes.fault, ("", *FAULTS)),
    ):
        if value not in allowed:
            raise QwenVlaError(
                f"{option}: unknown '{value}'." + suggest(value, filter(None, allowed))
            )
    if wishes.policy == "qwen_vla" and wishes.checkpoint is None:
        raise QwenVlaError(
            "checkpoint: the policy 'qwen_vla' needs one. Make one with: qwen-vla init --preset "
            "nano --out DIR; or try things out with --policy mock."
        )
    if (wishes.policy == "replay") != (wishes.recording is not None):
        raise QwenVlaError("recording: --policy replay and --recording FILE go together.")
    if wishes.fault and wishes.policy != "mock":
        raise QwenVlaError("fault: faults are for --policy mock; nobody wants them of a model.")
    if (wishes.tls_cert is None) != (wishes.tls_key is None):
        raise QwenVlaError("tls: a certificate and its key go together: --tls-cert, --tls-key.")


def _tls(wishes: Wishes) -> ssl.SSLContext | None:
    if wishes.tls_cert is None or wishes.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(wishes.tls_cert, wishes.tls_key)
    except OSError as error:
        raise QwenVlaError(
            f"tls: '{wishes.tls_cert}' and '{wishes.tls_key}' cannot be used: {error}."
        ) from error
    return context


def _policy(
    wishes: Wishes, embodiment: Embodiment, fault: Fault | None, thread: InferenceThread
) -> tuple[str, Callable[[], Policy]]:
    """Return what answers, in a word, and what makes the policy of one client."""
    if wishes.policy == "mock":
        latency = Latency(p50_s=wishes.latency_ms / 1e3, p95_s=wishes.latency_p95_ms / 1e3)
        return "mock", lambda: MockPolicy(
            embodiment,
            motion=wishes.motion,
            latency=latency,
            fault=fault,
            seed=max(0, wishes.seed),
        )
    if wishes.policy == "replay":
        assert wishes.recording is not None
        episodes = read_recording(wishes.recording, embodiment)
        return "replay", lambda: ReplayPolicy(embodiment, episodes)
    return _model(wishes, embodiment, thread)


def _model(
    wishes: Wishes, embodiment: Embodiment, thread: InferenceThread
) -> tuple[str, Callable[[], Policy]]:
    # Torch takes a second to import, and only this policy needs it.
    from qwen_vla_ros.model.compute import use_threads
    from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy

    assert wishes.checkpoint is not None
    checkpoint = wishes.checkpoint

    def load() -> QwenVlaPolicy:
        use_threads(wishes.threads)
        return QwenVlaPolicy.load(
            checkpoint,
            embodiment,
            device=wishes.device,
            precision=wishes.precision,
            continuation=wishes.continuation,
            steps=wishes.steps,
            temperature=wishes.temperature,
            seed=None if wishes.seed < 0 else wishes.seed,
            adapter=wishes.adapter,
        )

    loaded = thread.call(load)
    # A copy shares the model and everything that was prepared for it; what belongs to an episode,
    # its noise, is made anew by the reset that begins every client's first one.
    return checkpoint.name, lambda: copy.copy(loaded)
