"""E and K: a policy at a distance that does not do its part. Real connections, on loopback."""

from __future__ import annotations

import resource
import socket
import threading
import time
from dataclasses import replace
from functools import cache

import numpy as np

from faults.rig import embodiment_of
from faults.scenario import ARMS, Outcome, fault
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.serving.address import ServerAddress
from qwen_vla_ros.serving.fault import Fault
from qwen_vla_ros.serving.mock import MockPolicy
from qwen_vla_ros.serving.remote_policy import RemotePolicy
from qwen_vla_ros.serving.server import PolicyServer, ServerSettings

DEADLINE_S = 0.3
SLACK_S = 0.3
MOST_BYTES = 64 * 2**20


@cache
def small(name: str):
    """The robot with small cameras: the wire is tried, and not the pictures."""
    ours = embodiment_of(name)
    cameras = tuple(
        c.model_copy(update={"width_px": 32, "height_px": 24}) for c in ours.file.cameras
    )
    return replace(ours, file=ours.file.model_copy(update={"cameras": cameras}))


def ask_a_broken_server(name: str, kind: str) -> Outcome:
    robot = small(name)
    trouble = Fault(kind=kind, after=1, every=1000)
    server = PolicyServer(
        robot,
        lambda: MockPolicy(robot, fault=trouble),
        "mock",
        ServerSettings(ports=(("openpi", 0),)),
        send=trouble.send,
    )
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    policy = None
    try:
        port = next(iter(server.ports.values()))
        address = ServerAddress(uri=f"ws://127.0.0.1:{port}")
        policy = RemotePolicy.load(address, robot, deadline_s=DEADLINE_S)
        observation, prompt = robot.make_example(), build_prompt(robot, "move")
        policy.infer(observation, prompt)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        begin = time.monotonic()
        try:
            chunk = policy.infer(observation, prompt)
        except QwenVlaError:
            pass
        else:
            return Outcome(f"taken for an answer: {np.shape(chunk.actions)}")
        seconds = time.monotonic() - begin
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        if seconds > DEADLINE_S + SLACK_S:
            return Outcome(f"only after {seconds:.2f} s", seconds)
        if grown > MOST_BYTES:
            return Outcome(f"{grown / 2**20:.0f} MiB", seconds)
        return Outcome("", seconds)
    finally:
        if policy is not None:
            policy.close()
        server.end()
        thread.join(10)


@fault("E8", "a connection that falls silent without closing", ARMS)
def half_open(rng, name):
    return ask_a_broken_server(name, str(rng.choice(["half_open", "hang", "slow"])))


@fault("E9", "an answer that is garbage, endless, or drips", ARMS)
def garbage(rng, name):
    return ask_a_broken_server(name, str(rng.choice(["garbage", "huge", "drip", "nan"])))


@fault("E7", "a connection that is refused, or breaks", ARMS)
def broken(rng, name):
    if rng.random() < 0.5:
        return ask_a_broken_server(name, "close")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    begin = time.monotonic()
    try:
        RemotePolicy.load(ServerAddress(uri=f"ws://127.0.0.1:{port}"), small(name)).close()
    except QwenVlaError:
        return Outcome("", time.monotonic() - begin)
    return Outcome("connected to nobody")


@fault("E12", "an answer for another robot", ARMS)
def other_robot(_, name):
    return ask_a_broken_server(name, "wrong_robot")


@fault("K5", "a port that is open to all, without a token", ARMS)
def open_port(rng, name):
    robot = small(name)
    host = str(rng.choice(["0.0.0.0", "::"]))
    try:
        server = PolicyServer(
            robot,
            lambda: MockPolicy(robot),
            "mock",
            ServerSettings(host=host, ports=(("openpi", 0),)),
        )
    except QwenVlaError:
        return Outcome("")
    server.end()
    return Outcome("it listens to everybody")
