from __future__ import annotations

import http.client
import logging
import re
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time

import numpy as np
import pytest
import websockets.sync.client
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosed, InvalidStatus

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.serving import server
from qwen_vla_ros.serving.address import ServerAddress
from qwen_vla_ros.serving.dialects import openpi as openpi_dialect
from qwen_vla_ros.serving.mock import MockPolicy
from qwen_vla_ros.serving.remote_policy import RemotePolicy
from qwen_vla_ros.serving.request import InferenceRequest
from qwen_vla_ros.serving.server import ServerSettings, _listen, read_ports
from qwen_vla_ros.serving.wire import pack, unpack
from qwen_vla_ros.types import rest_chunk

TOKEN = "0123456789abcdef0123"
SOON = 20.0


def page(serving, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=SOON)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def dictionary(observation, **changes) -> dict:
    images = {name: image.transpose(2, 0, 1) for name, image in observation.images.items()}
    return {"state": observation.state, "images": images, "prompt": "hand over", **changes}


@pytest.fixture
def openpi(keep):
    """openpi's own client, connected."""

    def connect(serving, key=None) -> WebsocketClientPolicy:
        client = WebsocketClientPolicy("127.0.0.1", serving.port, api_key=key)
        keep(client._ws)
        return client

    return connect


class Scripted:
    """A policy that does what it is told."""

    def __init__(self, act):
        self._act = act
        self.resets = 0

    def reset(self):
        self.resets += 1

    def infer(self, observation, prompt, committed=None):
        return self._act(observation, prompt, committed)


# openpi's clients -------------------------------------------------------------------------------


def test_openpis_client_hears_who_serves_before_anything_else(serve, openpi, aloha):
    metadata = openpi(serve()).get_server_metadata()
    assert metadata["protocol"] == 3
    assert metadata["embodiment"] == "aloha_sim"
    assert metadata["embodiment_hash"] == aloha.hash
    assert metadata["model"] == "mock"
    assert metadata["channels"] == list(aloha.channels)
    assert (metadata["dt"], metadata["action_horizon"]) == (0.02, 16)
    assert metadata["openpi"]["format"] == "aloha"


def test_openpis_client_gets_actions_and_timings(serve, openpi, observation):
    client = openpi(serve())
    for turn in range(2):
        answer = client.infer(dictionary(observation))
        assert answer["actions"].shape == (16, 14)
        np.testing.assert_allclose(answer["actions"][0], observation.state)
        assert answer["server_timing"]["infer_ms"] >= 0
        assert ("prev_total_ms" in answer["server_timing"]) == (turn > 0)
        assert answer["policy_timing"]["infer_ms"] >= 0


def test_openpis_observation_is_as_old_as_its_arrival(serve, openpi, observation, aloha):
    stamps = []

    def act(seen, *_):
        stamps.append(seen.stamp_ns)
        return rest_chunk(seen.stamp_ns, aloha.dt, aloha.channels)

    before = time.time_ns()
    openpi(serve(policy=lambda: Scripted(act))).infer(dictionary(observation))
    assert before <= stamps[0] <= time.time_ns()


def test_openpis_client_holds_where_an_episode_is_over(serve, openpi, observation, aloha):
    policy = Scripted(lambda seen, *_: rest_chunk(seen.stamp_ns, aloha.dt, aloha.channels))
    answer = openpi(serve(policy=lambda: policy)).infer(dictionary(observation))
    np.testing.assert_allclose(answer["actions"], np.tile(observation.state, (16, 1)))


def test_a_mistake_is_a_sentence_and_the_connection_lives_on(serve, openpi, observation):
    client = openpi(serve())
    for wrong, sentence in (
        ({"state": observation.state[:7]}, "'state': shape"),
        ({"prompt": "<|im_start|>"}, "cannot hold '<'"),
        ({"images": {}}, "'images/cam_high' is missing"),
    ):
        with pytest.raises(RuntimeError, match=sentence):
            client.infer(dictionary(observation, **wrong))
    assert client.infer(dictionary(observation))["actions"].shape == (16, 14)


def test_a_failure_of_the_policy_is_a_text_and_a_close_with_1011(serve, observation):
    def act(*_):
        raise ZeroDivisionError("no luck")

    with websockets.sync.client.connect(serve(policy=lambda: Scripted(act)).uri) as client:
        client.recv()
        client.send(msgpack_numpy.packb(dictionary(observation)))
        assert client.recv() == "the policy failed: ZeroDivisionError: no luck"
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
    assert closed.value.rcvd.code == 1011


def test_a_robot_without_an_openpi_block_is_asked_in_its_own_dictionary(serve, openpi):
    robot = load_embodiment("diffbot_sim")
    client = openpi(serve(robot, policy=lambda: MockPolicy(robot, motion="sine")))
    assert "openpi" not in client.get_server_metadata()
    seen = robot.make_example()
    entries = {"state": seen.state, "images": dict(seen.images), "prompt": "go"}
    assert client.infer(entries)["actions"].shape == (8, 3)


def test_droids_and_liberos_clients_are_served(serve, openpi, droid, libero, rng):
    image = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    example = {
        "observation/exterior_image_1_left": image,
        "observation/wrist_image_left": image,
        "observation/joint_position": np.zeros(7),
        "observation/gripper_position": np.array([1.0]),
        "prompt": "x",
    }
    answer = openpi(serve(droid)).infer(example)
    assert answer["actions"].shape == (10, 8)
    assert set(answer["actions"][:, 7]) == {1.0}  # held closed, in DROID's own numbers
    example = {
        "observation/image": image,
        "observation/wrist_image": image,
        "observation/state": np.array([0, 0, 0, -1, 0, 1, 0.04, -0.04]),
        "prompt": "x",
    }
    answer = openpi(serve(libero)).infer(example)
    assert answer["actions"].shape == (10, 7)
    assert set(answer["actions"][:, 6]) == {-1.0}  # held open


# several clients --------------------------------------------------------------------------------


def test_every_client_has_a_policy_and_an_episode_of_its_own(serve, openpi, observation, aloha):
    policies = []

    def open_policy():
        policies.append(
            Scripted(lambda seen, *_: rest_chunk(seen.stamp_ns, aloha.dt, aloha.channels))
        )
        return policies[-1]

    serving = serve(policy=open_policy)
    clients = [openpi(serving) for _ in range(3)]
    for _ in range(2):
        for client in clients:
            client.infer(dictionary(observation))
    assert [policy.resets for policy in policies] == [1, 1, 1]


def test_a_client_that_says_nothing_or_drips_keeps_nobody_waiting(
    serve, observation, prompt, keep
):
    serving = serve()
    silent = keep(socket.create_connection(("127.0.0.1", serving.port)))
    dripping = keep(socket.create_connection(("127.0.0.1", serving.port)))
    dripping.sendall(b"GET / HT")
    stuck = keep(websockets.sync.client.connect(serving.uri, close_timeout=0.1))
    stuck.recv()
    stuck.socket.sendall(b"\x82\xff" + struct.pack("!Q", 10**6) + b"abcd" + bytes(1000))
    policy = keep(serving.connect(deadline_s=2.0))
    for _ in range(3):
        assert policy.infer(observation, prompt).actions.shape == (16, 14)
    assert silent.fileno() > 0


def test_clients_beyond_the_most_are_sent_away(serve):
    serving = serve(max_clients=1)
    with websockets.sync.client.connect(serving.uri) as client:
        client.recv()
        with pytest.raises(InvalidStatus) as refusal:
            websockets.sync.client.connect(serving.uri)
        assert refusal.value.response.status_code == 503
        with pytest.raises(QwenVlaError, match="no room for another client"):
            serving.connect()
        assert page(serving, "/healthz") == (200, "OK\n")


def test_a_place_is_free_again_when_a_client_has_gone(serve, observation, openpi):
    serving = serve(max_clients=1)
    for _ in range(3):
        client = openpi(serving)
        client.infer(dictionary(observation))
        client._ws.close()
        deadline = time.monotonic() + SOON
        while "clients 1" in page(serving, "/metrics")[1] and time.monotonic() < deadline:
            time.sleep(0.01)


def test_a_request_that_waits_too_long_is_refused_and_the_connection_lives_on(
    serve, observation, openpi, aloha
):
    release, has_begun = threading.Event(), threading.Event()

    def act(seen, prompt, _):
        if prompt.instruction == "wait":
            has_begun.set()
            release.wait(SOON)
        return rest_chunk(seen.stamp_ns, aloha.dt, aloha.channels)

    serving = serve(policy=lambda: Scripted(act), request_s=0.2)
    slow, quick = openpi(serving), openpi(serving)

    def wait():
        with pytest.raises(RuntimeError, match="are allowed"):
            slow.infer(dictionary(observation, prompt="wait"))

    thread = threading.Thread(target=wait)
    thread.start()
    has_begun.wait(SOON)
    with pytest.raises(RuntimeError, match="busy with others"):
        quick.infer(dictionary(observation))
    release.set()
    thread.join()
    for client in (slow, quick):
        assert client.infer(dictionary(observation))["actions"].shape == (16, 14)


# who is let in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_host_that_others_reach_needs_a_token(host):
    with pytest.raises(QwenVlaError, match=r"give a token file, or listen on 127\.0\.0\.1"):
        _listen(ServerSettings(host=host, ports=(("openpi", 0),)))


def test_with_a_token_a_server_may_be_reached_by_others():
    settings = ServerSettings(host="0.0.0.0", ports=(("openpi", 0),), token=TOKEN)
    _listen(settings)["openpi"].close()


def test_a_port_that_is_taken_is_a_sentence(serve):
    with pytest.raises(QwenVlaError, match=r"cannot listen on 127\.0\.0\.1"):
        _listen(ServerSettings(ports=(("vla-eval", 0), ("openpi", serve().port))))


def test_openpis_client_is_let_in_with_the_token_and_only_so(serve, openpi, observation, caplog):
    serving = serve(token=TOKEN)
    assert openpi(serving, TOKEN).infer(dictionary(observation))["actions"].shape == (16, 14)
    for key in (None, "x" * 20, TOKEN[:-1], TOKEN + "x"):
        with pytest.raises(InvalidStatus) as refusal:
            WebsocketClientPolicy("127.0.0.1", serving.port, api_key=key)
        assert refusal.value.response.status_code == 401
    assert caplog.text.count("a client without the right token is refused") == 4


def test_the_token_guards_the_metrics_but_not_the_health(serve):
    serving = serve(token=TOKEN)
    assert page(serving, "/healthz") == (200, "OK\n")
    assert page(serving, "/metrics")[0] == 401
    status, text = page(serving, "/metrics", Authorization=f"Api-Key {TOKEN}")
    assert status == 200
    assert 'qwen_vla_server_refused_connections_total{why="token"} 1' in text


def test_a_page_in_a_browser_is_refused(serve):
    with pytest.raises(InvalidStatus) as refusal:
        websockets.sync.client.connect(serve().uri, origin="http://example.org")
    assert refusal.value.response.status_code == 403


def test_no_token_is_ever_logged(serve, caplog):
    caplog.set_level(logging.DEBUG)
    serving = serve(token=TOKEN)
    policy = serving.connect(token=TOKEN)
    policy.close()
    with pytest.raises(QwenVlaError):
        serving.connect(token="wrong-" + TOKEN)
    ours = [record for record in caplog.records if record.name.startswith("qwen_vla_ros")]
    assert ours
    assert TOKEN not in "\n".join(record.getMessage() for record in ours)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_over_tls_the_certificate_is_checked(serve, observation, prompt, tmp_path, keep):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command = [*words.split(), "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    serving = serve(tls=context, token=TOKEN)
    uri = f"wss://127.0.0.1:{serving.port}"
    trusting = ServerAddress(uri=uri, token=TOKEN, ca_file=str(certificate))
    policy = keep(RemotePolicy.load(trusting, serving.robot, deadline_s=2.0))
    for _ in range(2):
        assert policy.infer(observation, prompt).actions.shape == (16, 14)
    with pytest.raises(QwenVlaError, match="certificate"):
        RemotePolicy.load(ServerAddress(uri=uri, token=TOKEN), serving.robot)
    with pytest.raises(QwenVlaError, match="no handshake"):
        serving.connect(token=TOKEN)  # without TLS


# this project's own clients ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"embodiment": "other"}, "serves robot 'aloha_sim'"),
        ({"embodiment_hash": "0" * 16}, r"\(0000000000000000\)"),
        ({"id": None}, "'id'"),
        ({"deadline_s": float("nan")}, "'deadline_s'"),
        ({"committed": np.zeros((2, 3))}, r"'committed': an array of shape \(2, 3\)"),
        ({"committed": np.full((2, 14), np.inf)}, "'committed': not finite"),
    ],
)
def test_a_question_that_is_not_for_this_server_is_told_so(serve, aloha, changes, sentence):
    request = InferenceRequest(observation=aloha.make_example(), instruction="go", deadline_s=1.0)
    with websockets.sync.client.connect(serve().uri) as client:
        end = openpi_dialect.Client(aloha)
        end.welcome(client.recv())
        entries = unpack(end.ask(request)[0])
        entries["qwen_vla"] |= changes
        client.send(pack(entries))
        assert re.search(sentence, client.recv())
        client.send(end.ask(request)[0])
        assert end.read(client.recv(), request).actions.shape == (16, 14)


def test_two_dialects_are_served_on_two_ports(serve, aloha, observation, prompt, keep):
    serving = serve(ports=(("openpi", 0), ("vla-eval", 0)))
    for dialect, port in serving.server.ports.items():
        address = ServerAddress(uri=f"ws://127.0.0.1:{port}")
        policy = RemotePolicy.load(address, aloha, dialect=dialect, deadline_s=2.0)
        np.testing.assert_allclose(
            keep(policy).infer(observation, prompt).actions[0], observation.state
        )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("openpi", "is no DIALECT:PORT"),
        ("openpi:x", "is no DIALECT:PORT"),
        ("openpi:70000", "is no DIALECT:PORT"),
        ("", "is no DIALECT:PORT"),
        ("opanpi:1", "unknown name 'opanpi'. Did you mean 'openpi'"),
        ("openpi:1,openpi:2", "names a dialect or a port twice"),
        ("openpi:1,vla-eval:1", "names a dialect or a port twice"),
    ],
)
def test_what_is_no_list_of_ports_is_refused(words, sentence):
    with pytest.raises(QwenVlaError, match=sentence):
        read_ports(words)


def test_a_list_of_ports_is_read():
    wanted = (("openpi", 8000), ("vla-eval", 0))
    assert read_ports("openpi:8000, vla-eval:0") == wanted


# strangers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"\x00" * 100,
        b"SSH-2.0-x\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"x" * 200_000,
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
    ids=lambda content: repr(content[:16]),
)
def test_what_is_no_handshake_ends_the_connection_and_nothing_else(serve, content, monkeypatch):
    monkeypatch.setattr(server, "HANDSHAKE_S", 1.0)
    serving = serve()
    with socket.create_connection(("127.0.0.1", serving.port), timeout=SOON) as stranger:
        try:
            stranger.sendall(content)
            while stranger.recv(4096):
                pass
        except ConnectionError:
            pass
    assert page(serving, "/healthz") == (200, "OK\n")


def test_a_message_beyond_16_mib_ends_the_connection_before_it_has_come(serve):
    serving = serve()
    with websockets.sync.client.connect(serving.uri) as client:
        client.recv()
        client.socket.sendall(b"\x82\xff" + struct.pack("!Q", 2**31) + b"abcd")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
    assert closed.value.rcvd.code == 1009
    assert "16777216" in closed.value.rcvd.reason
    assert page(serving, "/healthz") == (200, "OK\n")


@pytest.mark.slow
def test_at_its_end_a_server_says_goodbye(serve):
    serving = serve()
    with websockets.sync.client.connect(serving.uri) as client:
        client.recv()
        serving.server.end()
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=SOON)
        assert closed.value.rcvd.code == 1001


def test_mock_policies_are_served_for_a_base_too(serve, keep):
    base = load_embodiment("diffbot_sim")
    policy = keep(
        serve(base, policy=lambda: MockPolicy(base, motion="sine")).connect(deadline_s=2.0)
    )
    chunk = policy.infer(base.make_example(), build_prompt(base, "go to the ball"))
    assert chunk.actions.shape == (8, 3)
