"""vla-eval's messages: a harness that evaluates policies, and the servers that it evaluates.

Every message is a map of `type`, `payload`, `seq` and `timestamp`. The client says `hello`, then
`episode_start`, then one `observation` after the other, each of which is answered by an `action`
of one step, then `episode_end`. Images go by the names of the robot's cameras, as PNG or JPEG
files or as arrays; the state and the steps are in the order and units of its channels.
"""

from __future__ import annotations

import io
import itertools
import time
from typing import Any

import numpy as np
from PIL import Image

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.added_keys import KEY
from qwen_vla_ros.serving.dialect import Message, RefusalError
from qwen_vla_ros.serving.dictionary import MAX_PIXELS, PROMPT, RobotDictionary, read_rows
from qwen_vla_ros.serving.metadata import ServerMetadata, WireSection
from qwen_vla_ros.serving.request import InferenceRequest, ServerTiming
from qwen_vla_ros.serving.wire import WireError, pack, unpack
from qwen_vla_ros.types import ActionChunk, FloatArray

KEEPALIVE_S = 300.0
"""The harness makes and steps its simulator inside its event loop, and answers no ping then."""
VERSION = 1
FILES = ("PNG", "JPEG")
NO_IMAGE = (OSError, KeyError, TypeError, ValueError, SyntaxError, Image.DecompressionBombError)


class Envelope(WireSection):
    """What is around every message."""

    type: str
    payload: Any
    seq: int


class Server:
    """The server's end. A chunk is given out one row a step, up to the execution horizon."""

    def __init__(self, embodiment: Embodiment, metadata: ServerMetadata, instruction: str) -> None:
        self._embodiment = embodiment
        self._metadata = metadata
        self._instruction = instruction
        self._dictionary = RobotDictionary.own(embodiment)
        self._rows: list[FloatArray] = []
        self._state: FloatArray = np.zeros(len(embodiment.channels))
        self._is_new_episode = True
        self._seq = 0

    def greeting(self) -> None:
        """Say nothing: the client speaks first."""

    def read(self, message: Message) -> InferenceRequest | bytes | None:
        """Understand a message; see `ServerEnd`."""
        envelope = Envelope.from_wire(unpack(message))
        self._seq = envelope.seq
        if envelope.type == "hello":
            return _pack("hello", self._hello(), self._seq)
        if envelope.type in ("episode_start", "episode_end"):
            self._rows, self._is_new_episode = [], True
            return None
        if envelope.type != "observation":
            raise WireError(f"a message of type '{envelope.type[:40]}' is not for a server.")
        entries = _as_dictionary(envelope.payload)
        seen, words = self._dictionary.observation(entries, time.time_ns(), self._instruction)
        self._state = seen.state
        if self._rows:
            return self._step()
        is_new = self._is_new_episode
        return InferenceRequest(observation=seen, instruction=words, is_new_episode=is_new)

    def answer(self, chunk: ActionChunk, timing: ServerTiming) -> bytes:  # noqa: ARG002
        """Return the first step of a chunk; see `ServerEnd`."""
        self._is_new_episode = False
        rows = chunk.actions[: self._embodiment.file.prompt.execution_horizon]
        # The harness says when an episode is over; a policy that rests stays where it is.
        self._rows = [self._state] if chunk.rest else list(rows)
        return self._step()

    def refuse(self, sentence: str) -> bytes:
        """Return the sentence as an error; see `ServerEnd`."""
        return _pack("error", {"error": sentence[:2000]}, self._seq)

    def _step(self) -> bytes:
        return _pack("action", {"actions": self._rows.pop(0)}, self._seq)

    def _hello(self) -> dict[str, Any]:
        return {
            "protocol_version": VERSION,
            "harness_version": "",
            "model_server": self._metadata.model,
            "capabilities": {},
            "observation_params": {"send_state": True, "send_wrist_image": True},
            KEY: self._metadata.to_wire(),
        }


class Client:
    """The client's end, of somebody's policy server; its one step is held as a whole chunk."""

    def __init__(self, embodiment: Embodiment) -> None:
        if embodiment.has_base:
            raise QwenVlaError(
                f"{embodiment.path}: a vla-eval server answers with one step at a time, which "
                "drives no base; use openpi."
            )
        self._embodiment = embodiment
        self._dictionary = RobotDictionary.own(embodiment)
        self._seqs = itertools.count(1)
        self._seq = 0
        self.knows_robot = False

    def hello(self) -> bytes:
        """Return the client's hello; see `ClientEnd`."""
        return _pack("hello", {"protocol_version": VERSION, "harness_version": ""}, 0)

    def welcome(self, message: Message) -> None:
        """Read the server's hello; see `ClientEnd`."""
        envelope = Envelope.from_wire(unpack(message))
        if envelope.type != "hello" or not isinstance(envelope.payload, dict):
            raise WireError(f"a hello is needed, not a message of type '{envelope.type[:40]}'.")
        if KEY in envelope.payload:
            ServerMetadata.from_wire(envelope.payload[KEY]).require(self._embodiment)
            self.knows_robot = True

    def ask(self, request: InferenceRequest) -> list[bytes]:
        """Return the observation, after the start of an episode; see `ClientEnd`."""
        entries = self._dictionary.dictionary(request.observation, request.instruction)
        entries["task_description"] = entries.pop(PROMPT)
        self._seq = next(self._seqs)
        start = [_pack("episode_start", {"task": {"name": request.instruction}}, self._seq)]
        return [
            *(start if request.is_new_episode else []),
            _pack("observation", entries, self._seq),
        ]

    def read(self, message: Message, request: InferenceRequest) -> ActionChunk:
        """Return the step as a chunk; see `ClientEnd`."""
        envelope = Envelope.from_wire(unpack(message))
        payload = envelope.payload
        if envelope.type == "error":
            raise RefusalError(f"the server answers: {str(payload)[:300]}")
        if envelope.type != "action" or not isinstance(payload, dict):
            raise WireError(f"an action is needed, not a message of type '{envelope.type[:40]}'.")
        if envelope.seq != self._seq:
            raise WireError("the answer is to another request.")
        ours, step = self._embodiment, payload.get("actions")
        if isinstance(step, np.ndarray) and step.ndim == 1:
            step = step[None]
        horizon = ours.file.prompt.action_horizon
        rows = read_rows("actions", step, len(ours.channels), horizon)
        if not len(rows):
            raise WireError("'actions': no rows.")
        held = np.repeat(rows[-1:], horizon - len(rows), axis=0)
        return ActionChunk(
            stamp_ns=request.observation.stamp_ns,
            dt=ours.dt,
            channels=ours.channels,
            actions=np.concatenate([rows, held]),
            embodiment=ours.name,
            embodiment_hash=ours.hash,
        )


def _pack(kind: str, payload: dict[str, Any], seq: int) -> bytes:
    message = {"type": kind, "payload": payload, "seq": seq, "timestamp": time.time()}
    return pack(message, has_text_keys=True)


def _as_dictionary(payload: object) -> dict[str, Any]:
    """Return an observation of the harness under the names of a robot's dictionary."""
    if not isinstance(payload, dict):
        raise WireError(f"an observation is a map, not {type(payload).__name__}.")
    entries = {"state" if key == "states" else key: value for key, value in payload.items()}
    if "task_description" in entries:
        entries[PROMPT] = entries.pop("task_description")
    images = entries.get("images")
    if isinstance(images, dict):
        entries["images"] = {name: _decoded(name, image) for name, image in images.items()}
    return entries


def _decoded(name: object, image: object) -> object:
    if not isinstance(image, dict) or "__image__" not in image:
        return image
    try:
        # Opening reads the header alone: a small file can claim a large image.
        with Image.open(io.BytesIO(image["data"]), formats=FILES) as file:
            if file.width * file.height > MAX_PIXELS:
                raise WireError(f"'images/{name}': {file.width}x{file.height} px are too many.")
            return np.asarray(file.convert("RGB"))
    except NO_IMAGE as error:
        raise WireError(f"'images/{name}': no image: {error}.") from error
