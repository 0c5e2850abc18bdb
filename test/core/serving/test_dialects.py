"""Recorded conversations with other projects' clients and servers, and dialects in one file."""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.options import DIALECTS
from qwen_vla_ros.plugins import plugin_names
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.serving import dialects
from qwen_vla_ros.serving.dialect import RefusalError, open_client, open_server
from qwen_vla_ros.serving.metadata import ServerMetadata
from qwen_vla_ros.serving.mock import MockPolicy
from qwen_vla_ros.serving.request import InferenceRequest, ServerTiming
from qwen_vla_ros.serving.wire import WireError, pack, unpack

TRANSCRIPTS = Path(__file__).parent / "transcripts"
MACHINES_OWN = {"timestamp", "server_timing", "policy_timing", "embodiment_hash"}
"""Times, and the hash of a robot's file, which changes with every key of the schema."""


def transcript(name: str) -> list[tuple[str, bytes | str]]:
    """Who said what, in order."""
    lines = map(json.loads, (TRANSCRIPTS / f"{name}.jsonl").read_text().splitlines())
    return [
        (line["from"], line["text"] if "text" in line else base64.b64decode(line["binary"]))
        for line in lines
    ]


def said(message: bytes | str | None) -> object:
    """What a message says, without what belongs to the machine that it was recorded on."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key not in MACHINES_OWN}
        return value.tolist() if isinstance(value, np.ndarray) else value

    return plain(unpack(message)) if isinstance(message, bytes) else message


@pytest.mark.parametrize(
    ("dialect", "name", "messages"),
    [("openpi", "openpi_client", 4), ("vla-eval", "vla_eval_client", 14)],
)
def test_a_recorded_client_is_answered_as_it_was(droid, dialect, name, messages):
    end = open_server(dialect, droid, ServerMetadata.of(droid, "mock"), "")
    policy = MockPolicy(droid)
    replies = [end.greeting()]
    for speaker, message in transcript(name):
        if speaker == "server":
            continue
        try:
            reply = end.read(message)
            if isinstance(reply, InferenceRequest):
                prompt = build_prompt(droid, reply.instruction)
                reply = end.answer(
                    policy.infer(reply.observation, prompt), ServerTiming(0.0, 0.0, 0.0)
                )
        except QwenVlaError as error:
            reply = end.refuse(str(error))
        replies.append(reply)
    wanted = [said(message) for speaker, message in transcript(name) if speaker == "server"]
    assert len(wanted) >= messages
    assert [said(reply) for reply in replies if reply is not None] == wanted


def test_a_recorded_vla_eval_server_is_understood(droid):
    end = open_client("vla-eval", droid)
    heard = [message for speaker, message in transcript("vla_eval_server") if speaker == "server"]
    said_then = [said(m) for speaker, m in transcript("vla_eval_server") if speaker == "client"]
    sent = [said(end.hello())]
    end.welcome(heard[0])
    assert not end.knows_robot
    example = droid.make_example()
    images = {name: np.full_like(image, 77) for name, image in example.images.items()}
    example = type(example)(stamp_ns=5, images=images, state=example.state)
    words = ["stay where you are", "lift the cube", "lift the cube", "fail now", "lift it"]
    outcomes = []
    for turn, (instruction, answer) in enumerate(zip(words, heard[1:], strict=True)):
        request = InferenceRequest(
            observation=example, instruction=instruction, is_new_episode=turn in (0, 1)
        )
        sent += [said(message) for message in end.ask(request)]
        try:
            outcomes.append(end.read(answer, request).actions - example.state)
        except RefusalError as error:
            outcomes.append(str(error))
    assert "no luck" in outcomes.pop(3)
    for actions in outcomes[1:]:  # the first was asked about another observation
        np.testing.assert_allclose(actions, np.full((10, 8), 0.01), atol=1e-6)
    # The first request was about the robot's example, whose images are noise.
    assert sent[0] == said_then[0]
    assert sent[-1] == said_then[-1]


@pytest.mark.parametrize("dialect", plugin_names(DIALECTS))
def test_both_ends_of_a_dialect_understand_each_other(droid, dialect):
    server = open_server(dialect, droid, ServerMetadata.of(droid, "mock"), "")
    client = open_client(dialect, droid)
    greeting, hello = server.greeting(), client.hello()
    client.welcome(greeting if hello is None else server.read(hello))
    assert client.knows_robot
    seen = droid.make_example()
    for turn in range(3):
        request = InferenceRequest(
            observation=seen, instruction="go", is_new_episode=turn == 0, deadline_s=1.0
        )
        *others, last = client.ask(request)
        assert [server.read(message) for message in others] == [None] * len(others)
        reply = server.read(last)
        if isinstance(reply, InferenceRequest):
            assert reply.instruction == "go"
            np.testing.assert_allclose(reply.observation.state, seen.state)
            chunk = MockPolicy(droid).infer(seen, build_prompt(droid, "go"))
            reply = server.answer(chunk, ServerTiming(0.0, 0.0, 0.0))
        np.testing.assert_allclose(client.read(reply, request).actions[0], seen.state)
        with pytest.raises(RefusalError, match=r"the server answers: .*not in the mood"):
            client.read(server.refuse("not in the mood"), request)


def test_a_robot_of_another_version_is_refused_in_every_dialect(droid, aloha):
    for dialect in plugin_names(DIALECTS):
        server = open_server(dialect, droid, ServerMetadata.of(droid, "mock"), "")
        client = open_client(dialect, aloha)
        hello = client.hello()
        with pytest.raises(QwenVlaError, match="serves robot 'droid_arm', this is 'aloha_sim'"):
            client.welcome(server.greeting() if hello is None else server.read(hello))


# vla-eval ---------------------------------------------------------------------------------------


def envelope(kind: str, payload: object, seq: int = 1) -> bytes:
    message = {"type": kind, "payload": payload, "seq": seq, "timestamp": 0.0}
    return pack(message, has_text_keys=True)


@pytest.fixture
def harness(droid):
    return open_server("vla-eval", droid, ServerMetadata.of(droid, "mock"), "")


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("text", "a text, where a binary message belongs"),
        (pack([1]), "it is \\[1\\]"),
        (pack({"type": "hello", "payload": {}}), "'seq'"),
        (envelope("action", {}), "a message of type 'action' is not for a server"),
        (envelope("observation", [1]), "an observation is a map, not list"),
        (envelope("observation", {"images": {}}), "is missing"),
        (
            envelope("observation", {"images": {"outside": {"__image__": True, "data": b"GIF8"}}}),
            "'images/outside': no image",
        ),
        (envelope("observation", {"images": {"outside": {"__image__": True}}}), "no image"),
    ],
)
def test_what_is_no_message_of_the_harness_is_named(harness, message, sentence):
    with pytest.raises(WireError, match=sentence):
        harness.read(message)


@pytest.mark.parametrize(
    ("side", "sentence"),
    [(2001, "2001x2001 px are too many"), (60_000, "no image: .* exceeds limit")],
)
def test_a_small_file_that_claims_a_large_image_is_refused_before_it_is_read(
    harness, side, sentence
):
    head = b"IHDR" + side.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    data = b"\x89PNG\r\n\x1a\n\x00\x00\x00\r" + head + zlib.crc32(head).to_bytes(4, "big")
    image = {"__image__": True, "format": "png", "data": data + bytes(4) + b"IDAT" + bytes(4)}
    with pytest.raises(WireError, match=f"'images/outside': {sentence}"):
        harness.read(envelope("observation", {"images": {"outside": image}}))


def test_a_chunk_is_given_out_step_by_step_up_to_the_execution_horizon(harness, droid, rng):
    state = droid.make_example().state
    pictures = {camera.name: np.zeros((48, 64, 3), np.uint8) for camera in droid.file.cameras}
    seen = {"images": pictures, "state": state, "task_description": "go"}
    harness.read(envelope("episode_start", {}))
    asked = harness.read(envelope("observation", seen, seq=7))
    assert asked.is_new_episode
    rows = rng.standard_normal((10, 8))
    chunk = MockPolicy(droid).infer(asked.observation, build_prompt(droid, "go"))
    first = unpack(
        harness.answer(type(chunk)(**{**vars(chunk), "actions": rows}), ServerTiming(0, 0, 0))
    )
    assert (first["type"], first["seq"]) == ("action", 7)
    np.testing.assert_array_equal(first["payload"]["actions"], rows[0])
    for step in range(1, droid.file.prompt.execution_horizon):
        reply = unpack(harness.read(envelope("observation", seen, seq=7 + step)))
        np.testing.assert_array_equal(reply["payload"]["actions"], rows[step])
    again = harness.read(envelope("observation", seen))
    assert isinstance(again, InferenceRequest)
    assert not again.is_new_episode
    harness.read(envelope("episode_end", {}))
    assert harness.read(envelope("observation", seen)).is_new_episode


def test_a_base_is_not_driven_by_one_step_at_a_time():
    with pytest.raises(QwenVlaError, match="drives no base; use openpi"):
        open_client("vla-eval", load_embodiment("diffbot_sim"))


# one file ---------------------------------------------------------------------------------------


def test_a_dialect_is_short():
    for path in Path(dialects.__path__[0]).glob("*.py"):
        assert len(path.read_text().splitlines()) <= 200, path


@pytest.mark.parametrize("word", ["opanpi", "vla_evil", "__init__", "../openpi"])
def test_a_dialect_that_does_not_exist_is_refused(droid, word):
    with pytest.raises(QwenVlaError, match=r"dialects: unknown name .* Known: openpi, vla_eval"):
        open_client(word, droid)


def test_a_dialect_is_one_file_and_is_served_and_asked_by_its_name(
    monkeypatch, tmp_path, serve, observation, prompt, keep
):
    source = Path(dialects.__path__[0]) / "openpi.py"
    shutil.copy(source, tmp_path / "thrown_away.py")
    monkeypatch.setattr(dialects, "__path__", [*dialects.__path__, str(tmp_path)])
    assert "thrown_away" in plugin_names(DIALECTS)
    serving = serve(dialect="thrown-away")
    policy = keep(serving.connect(dialect="thrown-away", deadline_s=2.0))
    np.testing.assert_allclose(policy.infer(observation, prompt).actions[0], observation.state)
