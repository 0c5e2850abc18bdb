"""The way to a policy server and back, for a policy that costs nothing: openpi's and ours.

    python benchmarks/server_round_trip.py --runs 50

Three cameras of 224 px and 14 joints, client and server in processes of their own on one host.
The baseline is openpi's client and a server like openpi's: once fed as openpi's own ALOHA example
feeds it (every image turned to (3, H, W) as a view), once with images as they come from the
camera. Ours is the remote policy of this package, from the observation to the chunk with all its
checks.

Both are asked in bursts that take turns. Asked one by one, each would find the caches full of the
other's images, and most of what is measured would be the machine's memory.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import websockets.asyncio.server
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from side_by_side import Comparison, arguments, interleave, report

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.serving.address import ServerAddress
from qwen_vla_ros.serving.remote_policy import RemotePolicy
from qwen_vla_ros.serving.server import PolicyServer, ServerSettings
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Prompt

SIDE_PX = 224
INSTRUCTION = "hand over the red cube"
START_S = 60.0
BURST = 20
GOAL = 1.0
"""A request must never take longer than with openpi's own client and server."""


class FreePolicy:
    """Answers at once, always the same."""

    def __init__(self, robot: Embodiment) -> None:
        shape = (robot.file.prompt.action_horizon, len(robot.channels))
        self._chunk = ActionChunk(
            stamp_ns=1, dt=robot.dt, channels=robot.channels, actions=np.zeros(shape)
        )

    def reset(self) -> None:
        """Nothing is kept."""

    def infer(
        self,
        observation: Observation,  # noqa: ARG002
        prompt: Prompt,  # noqa: ARG002
        committed: FloatArray | None = None,  # noqa: ARG002
    ) -> ActionChunk:
        """Return the answer."""
        return self._chunk


def robot_with_small_cameras() -> Embodiment:
    """Return ALOHA with cameras that already send what a model sees."""
    robot = load_embodiment("aloha_sim")
    size = {"width_px": SIDE_PX, "height_px": SIDE_PX}
    cameras = tuple(camera.model_copy(update=size) for camera in robot.file.cameras)
    return replace(robot, file=robot.file.model_copy(update={"cameras": cameras}))


def serve_ours(port: int) -> None:
    """Run our server, as `qwen-vla serve` does."""
    robot = robot_with_small_cameras()
    settings = ServerSettings(ports=(("openpi", port),))
    PolicyServer(robot, lambda: FreePolicy(robot), "free", settings).serve()


def serve_as_openpi(port: int) -> None:
    """Run a server that does what openpi's does for every request."""
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # `start` knocks and goes away
    actions = np.zeros((16, 14))

    async def converse(connection: websockets.asyncio.server.ServerConnection) -> None:
        packer = msgpack_numpy.Packer()
        await connection.send(packer.pack({}))
        async for message in connection:
            msgpack_numpy.unpackb(message)
            await connection.send(
                packer.pack({"actions": actions, "server_timing": {"infer_ms": 0.0}})
            )

    async def serve() -> None:
        async with websockets.asyncio.server.serve(
            converse, "127.0.0.1", port, compression=None, max_size=None
        ) as server:
            await server.serve_forever()

    asyncio.run(serve())


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def start(serve: Callable[[int], None]) -> tuple[multiprocessing.Process, int]:
    """Run a server in a process of its own, and wait until it listens."""
    port = free_port()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=serve, args=(port,), daemon=True)
    process.start()
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            return process, port  # type: ignore[return-value]


def dictionary(observation: Observation, *, is_turned: bool) -> dict[str, Any]:
    """Return the dictionary of openpi's ALOHA example, its images turned as there or not."""
    images = {
        name: image.transpose(2, 0, 1) if is_turned else image
        for name, image in observation.images.items()
    }
    return {"state": observation.state, "images": images, "prompt": INSTRUCTION}


def each(times: tuple[float, float]) -> tuple[float, float]:
    """Return the time of one request of a burst."""
    return times[0] / BURST, times[1] / BURST


def main() -> None:
    """Measure and print both rows."""
    options = arguments("round trips to a policy server", runs=50).parse_args()
    robot = robot_with_small_cameras()
    observation, prompt = robot.make_example(), build_prompt(robot, INSTRUCTION)
    theirs, their_port = start(serve_as_openpi)
    ours, our_port = start(serve_ours)
    rows = []
    try:
        client = WebsocketClientPolicy("127.0.0.1", their_port)

        def ask_theirs(*, is_turned: bool) -> None:
            for _ in range(BURST):
                client.infer(dictionary(observation, is_turned=is_turned))

        address = ServerAddress(uri=f"ws://127.0.0.1:{our_port}")
        policy = RemotePolicy.load(address, robot, deadline_s=2.0)

        def ask_ours() -> None:
            for _ in range(BURST):
                policy.infer(observation, prompt)

        for row, way, is_turned in (("1", "images turned", True), ("2", "as they come", False)):
            theirs_asked = partial(ask_theirs, is_turned=is_turned)
            baseline, measured = map(each, interleave(theirs_asked, ask_ours, options.runs))
            rows.append(
                Comparison(
                    row=row,
                    what=f"round trip, 3 x {SIDE_PX} px, {way}",
                    baseline=baseline,
                    ours=measured,
                    goal=f">= {GOAL:g}x",
                    is_met=baseline[0] >= GOAL * measured[0],
                    runs=options.runs * BURST,
                )
            )
        policy.close()
    finally:
        for process in (theirs, ours):
            process.terminate()
            process.join()
    report(rows, options.json)


if __name__ == "__main__":
    main()
