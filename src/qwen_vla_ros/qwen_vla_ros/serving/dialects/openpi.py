"""openpi's messages, and the keys that this project adds to them.

The server speaks first, and says what it serves. The client sends a dictionary; the answer is
`{"actions": (H, c)}`, or a text that says why there is none. Where both ends are this project's,
the dictionary is the robot's own, and the key `qwen_vla` holds what openpi has no word for; its
own peers never look at it.
"""

from __future__ import annotations

import itertools
import time

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.serving.added_keys import KEY, RequestKeys, ResponseKeys, read_timings
from qwen_vla_ros.serving.dialect import Message, RefusalError
from qwen_vla_ros.serving.dictionary import RobotDictionary, read_rows
from qwen_vla_ros.serving.metadata import ServerMetadata
from qwen_vla_ros.serving.request import InferenceRequest, ServerTiming
from qwen_vla_ros.serving.wire import WireError, pack, unpack
from qwen_vla_ros.types import ActionChunk, FloatArray, rest_chunk

KEEPALIVE_S = 20.0
MOST_ROWS = 1024


class Server:
    """The server's end: dictionaries in, actions out.

    openpi has no word for a new episode: every connection of one of its clients is one.
    """

    def __init__(self, embodiment: Embodiment, metadata: ServerMetadata, instruction: str) -> None:
        self._embodiment = embodiment
        self._metadata = metadata
        self._instruction = instruction
        self._own = RobotDictionary.own(embodiment)
        self._theirs = RobotDictionary.openpi(embodiment)
        self._state: FloatArray = np.zeros(len(embodiment.channels))
        self._asked: RequestKeys | None = None
        self._previous_s: float | None = None

    def greeting(self) -> bytes:
        """Return what is served, with what an openpi client must send for this robot."""
        spec = self._embodiment.file.openpi
        about = {} if spec is None else {"format": spec.format, "images": dict(spec.images)}
        return pack({**self._metadata.to_wire(), **({"openpi": about} if about else {})})

    def read(self, message: Message) -> InferenceRequest:
        """Understand a dictionary; see `ServerEnd`."""
        value = unpack(message)
        added = value.pop(KEY, None) if isinstance(value, dict) else None
        if added is None:
            self._asked = None
            # Its sender has no clock that we know of: it is as old as its arrival.
            seen, words = self._theirs.observation(value, time.time_ns(), self._instruction)
            self._state = seen.state
            return InferenceRequest(observation=seen, instruction=words)
        asked = self._asked = RequestKeys.from_wire(added)
        asked.require(self._embodiment)
        seen, words = self._own.observation(value, asked.stamp_ns)
        committed = asked.committed
        if committed is not None:
            most = self._embodiment.file.prompt.action_horizon
            committed = read_rows("committed", committed, len(self._state), most)
        return InferenceRequest(
            observation=seen,
            instruction=words,
            committed=committed,
            is_new_episode=asked.is_new_episode,
            deadline_s=asked.deadline_s,
        )

    def answer(self, chunk: ActionChunk, timing: ServerTiming) -> bytes:
        """Return the actions; see `ServerEnd`."""
        server = {"infer_ms": timing.infer_s * 1e3, "queue_ms": timing.queue_s * 1e3}
        if self._previous_s is not None:
            server["prev_total_ms"] = self._previous_s * 1e3
        self._previous_s = timing.total_s
        stages = {f"{name}_ms": seconds * 1e3 for name, seconds in chunk.timings.items()}
        answer = {
            "actions": self._actions(chunk),
            "server_timing": server,
            "policy_timing": {"infer_ms": timing.infer_s * 1e3, **stages},
        }
        if self._asked is not None:
            answer[KEY] = ResponseKeys.of(chunk, self._asked.id, self._embodiment).model_dump()
        return pack(answer)

    def refuse(self, sentence: str) -> str:
        """Return the sentence as a text; see `ServerEnd`."""
        return sentence[:2000]

    def _actions(self, chunk: ActionChunk) -> FloatArray:
        if self._asked is not None:
            return chunk.actions
        if chunk.rest:
            # Its clients know no end of an episode: stay where you are.
            actions = np.tile(self._state, (self._embodiment.file.prompt.action_horizon, 1))
            return self._theirs.actions_to_wire(actions)
        return self._theirs.actions_to_wire(chunk.actions)


class Client:
    """The client's end, of openpi's servers and of this project's; trusts no answer."""

    def __init__(self, embodiment: Embodiment) -> None:
        self._embodiment = embodiment
        self._own = RobotDictionary.own(embodiment)
        self._theirs = RobotDictionary.openpi(embodiment)
        self._ids = itertools.count(1)
        self._id = 0
        self.knows_robot = False

    def hello(self) -> None:
        """Say nothing: the server speaks first."""

    def welcome(self, message: Message) -> None:
        """Read what is served; see `ClientEnd`."""
        about = unpack(message)
        if not isinstance(about, dict):
            raise WireError(f"a server's metadata is a map, not {type(about).__name__}.")
        if "embodiment_hash" in about:
            ServerMetadata.from_wire(about).require(self._embodiment)
            self.knows_robot = True

    def ask(self, request: InferenceRequest) -> list[bytes]:
        """Return the dictionary; see `ClientEnd`."""
        seen, words = request.observation, request.instruction
        if not self.knows_robot:
            return [pack(self._theirs.dictionary(seen, words))]
        self._id = next(self._ids)
        added = RequestKeys.of(request, self._id, self._embodiment).model_dump()
        return [pack({**self._own.dictionary(seen, words), KEY: added})]

    def read(self, message: Message, request: InferenceRequest) -> ActionChunk:
        """Return the chunk; see `ClientEnd`."""
        if isinstance(message, str):
            raise RefusalError(f"the server answers: {_last_line(message)}")
        answer = unpack(message)
        if not isinstance(answer, dict):
            raise WireError(f"an answer is a map, not {type(answer).__name__}.")
        ours, seen = self._embodiment, request.observation
        if self.knows_robot:
            answered = ResponseKeys.from_wire(answer.get(KEY))
            answered.require(self._id, ours)
            if answered.rest:
                return rest_chunk(seen.stamp_ns, ours.dt, ours.channels)
        if "actions" not in answer:
            raise WireError("'actions' is missing.")
        actions = read_rows("actions", answer["actions"], len(ours.channels), MOST_ROWS)
        if not len(actions):
            raise WireError("'actions': no rows.")
        if not self.knows_robot:
            actions = self._theirs.actions_from_wire(actions)
        return ActionChunk(
            stamp_ns=seen.stamp_ns,
            dt=ours.dt,
            channels=ours.channels,
            actions=np.asarray(actions[: ours.file.prompt.action_horizon]),
            embodiment=ours.name,
            embodiment_hash=ours.hash,
            timings=read_timings(answer),
        )


def _last_line(text: str) -> str:
    """Return the last line of what is usually a traceback."""
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "nothing"
