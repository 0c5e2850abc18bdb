"""`qwen-vla serve`: a policy for robots elsewhere, or a stand-in to try them out with."""

from __future__ import annotations

import logging
import signal
import ssl
from pathlib import Path

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.load_policy import load_policy
from qwen_vla_ros.options import ServingOptions
from qwen_vla_ros.serving.address import read_token
from qwen_vla_ros.serving.fault import Fault
from qwen_vla_ros.serving.inference import InferenceThread
from qwen_vla_ros.serving.recording import Recorder
from qwen_vla_ros.serving.server import PolicyServer, ServerSettings, read_ports


def serve(options: ServingOptions) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        QwenVlaError: The options contradict each other, or cannot be had.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    embodiment = load_embodiment(options.robot)
    settings = ServerSettings(
        host=options.host,
        ports=read_ports(options.listen),
        token=read_token(Path(options.token_file)) if options.token_file else "",
        tls=_tls(options),
        max_clients=options.max_clients,
        request_s=options.request_s,
        instruction=options.instruction,
    )
    thread = InferenceThread()
    make = thread.call(lambda: load_policy(options, embodiment))
    name = Path(options.checkpoint).name or options.policy
    record = Path(options.record)
    recorder = Recorder.create(record, embodiment, name) if options.record else None
    fault = Fault(kind=options.fault, after=options.fault_after, every=options.fault_every)
    server = PolicyServer(
        embodiment,
        make,
        name,
        settings,
        send=fault.send,
        inference=thread,
        recorder=recorder,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.end())
    scheme = "ws" if settings.tls is None else "wss"
    places = ", ".join(
        f"{scheme}://{options.host}:{port} ({dialect})" for dialect, port in server.ports.items()
    )
    print(f"serving {embodiment.name} ({name}) on {places}; Ctrl-C ends", flush=True)
    server.serve()
    if recorder is not None:
        recorder.close()
    return 0


def _tls(options: ServingOptions) -> ssl.SSLContext | None:
    if bool(options.tls_cert) != bool(options.tls_key):
        raise QwenVlaError("tls: a certificate and its key go together: --tls-cert, --tls-key.")
    if not options.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except OSError as error:
        raise QwenVlaError(
            f"tls: '{options.tls_cert}' and '{options.tls_key}' cannot be used: {error}."
        ) from error
    return context
