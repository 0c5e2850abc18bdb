"""`qwen-vla serve` as a process, driven by openpi's client and by our own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.serving.address import ServerAddress
from qwen_vla_ros.serving.connection import RemoteError
from qwen_vla_ros.serving.remote_policy import RemotePolicy

SOON = 30.0
COMMAND = (sys.executable, "-m", "qwen_vla_ros.cli.main", "serve", "--policy", "mock")


class Served:
    """One server process."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--robot", "aloha_sim", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        line = self.process.stdout.readline()
        found = re.fullmatch(
            r"serving aloha_sim \(mock\) on ws://127.0.0.1:(\d+) \(openpi\); .*\n", line
        )
        assert found, line
        self.port = int(found[1])

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=SOON)


@pytest.fixture
def robot():
    return load_embodiment("aloha_sim")


@pytest.mark.slow
def test_openpis_client_drives_a_server_in_another_process(robot, keep):
    served = keep(Served("--listen", "openpi:0", "--motion", "sine"))
    client = WebsocketClientPolicy("127.0.0.1", served.port)
    assert client.get_server_metadata()["embodiment_hash"] == robot.hash
    seen = robot.make_example()
    images = {name: image.transpose(2, 0, 1) for name, image in seen.images.items()}
    for _ in range(3):
        answer = client.infer({"state": seen.state, "images": images, "prompt": "go"})
        assert answer["actions"].shape == (16, 14)
        assert np.isfinite(answer["actions"]).all()
    client._ws.close()
    served.process.send_signal(signal.SIGTERM)
    output, _ = served.process.communicate(timeout=SOON)
    assert served.process.returncode == 0, output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_is_found_again(robot, keep):
    served = keep(Served("--listen", "openpi:0"))
    address = ServerAddress(uri=f"ws://127.0.0.1:{served.port}")
    policy = keep(RemotePolicy.load(address, robot, deadline_s=2.0))
    seen, asked = robot.make_example(), build_prompt(robot, "go")
    assert policy.infer(seen, asked).actions.shape == (16, 14)
    served.process.kill()
    served.process.wait(SOON)
    with pytest.raises((RemoteError, NotReadyError)):
        policy.infer(seen, asked)
    keep(Served("--listen", f"openpi:{served.port}"))
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline and not policy.is_connected:
        time.sleep(0.02)
    np.testing.assert_array_equal(policy.infer(seen, asked).actions[0], seen.state)
