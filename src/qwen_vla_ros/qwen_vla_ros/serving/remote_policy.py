"""A policy that runs somewhere else: asks a server, within a deadline, and trusts nothing it says.

Whatever a server does, `infer` returns or raises in time, and the memory of this process does not
grow. A lost connection is made again in the background, with the same checks as the first one; the
gate has long brought the robot to rest by then, and nothing here can make it move again by itself.
"""

from __future__ import annotations

import logging
import weakref
from typing import Self

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.serving.address import ServerAddress
from qwen_vla_ros.serving.connection import PersistentConnection
from qwen_vla_ros.serving.request import InferenceRequest
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Prompt

log = logging.getLogger(__name__)

LOAD_S = 5.0
"""How long the first connection may take."""
FIRST_ANSWER_S = 120.0
"""How long a server that is not ours may take for its first answer, for which it may compile."""
WARM_UP_INSTRUCTION = "stay where you are"


class RemotePolicy:
    """One robot's policy on a server. One thread asks; another keeps the connection."""

    def __init__(
        self, connection: PersistentConnection, embodiment: Embodiment, *, deadline_s: float
    ) -> None:
        self._connection = connection
        self._embodiment = embodiment
        self._deadline_s = deadline_s
        self._is_new_episode = True
        # Who lets go of a policy without closing it shall not be left with its thread.
        weakref.finalize(self, connection.close)

    @classmethod
    def load(
        cls,
        address: ServerAddress,
        embodiment: Embodiment,
        *,
        dialect: str = "openpi",
        deadline_s: float = 0.3,
    ) -> Self:
        """Connect to a server that serves this very robot.

        Args:
            address: Where the server is.
            embodiment: The robot that is asked for.
            dialect: What the server speaks: a file of `serving.dialects`.
            deadline_s: How long an answer may take, everything included.

        Raises:
            NotReadyError: The server cannot be reached.
            QwenVlaError: The server refuses, or serves another robot; or the address or the
                dialect is wrong.
        """
        if address.leaks_token:
            log.warning("%s: the token crosses the network unencrypted; use wss.", address.uri)
        connection = PersistentConnection(address, embodiment, dialect)
        probe = InferenceRequest(
            observation=embodiment.make_example(), instruction=WARM_UP_INSTRUCTION
        )
        try:
            connection.connect(LOAD_S, probe, FIRST_ANSWER_S)
        except BaseException:
            connection.close()
            raise
        return cls(connection, embodiment, deadline_s=deadline_s)

    def infer(
        self, observation: Observation, prompt: Prompt, committed: FloatArray | None = None
    ) -> ActionChunk:
        """Ask the server.

        Raises:
            NotReadyError: There is no connection at present.
            RemoteError: The server did not answer in time, or with nothing that can be used.
            ValueError: The request is not one about this robot.
        """
        _check_request(self._embodiment, observation, committed)
        chunk = self._connection.ask(
            InferenceRequest(
                observation=observation,
                instruction=prompt.instruction,
                committed=committed,
                is_new_episode=self._is_new_episode,
                deadline_s=self._deadline_s,
            )
        )
        self._is_new_episode = False
        return chunk

    def reset(self) -> None:
        """Begin a new episode; the server hears of it with the next request."""
        self._is_new_episode = True

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as one knows."""
        return self._connection.is_open

    def close(self) -> None:
        """Let go of the server."""
        self._connection.close()
        self._connection.thread.join()


def _check_request(
    embodiment: Embodiment, observation: Observation, committed: FloatArray | None
) -> None:
    columns, horizon = len(embodiment.channels), embodiment.file.prompt.action_horizon
    for camera in embodiment.file.cameras:
        if camera.name not in observation.images:
            raise ValueError(f"the observation has no image of camera '{camera.name}'")
    if observation.state.shape != (columns,):
        raise ValueError(f"the state has shape {observation.state.shape}, expected ({columns},)")
    if committed is not None and (
        committed.ndim != 2 or committed.shape[1] != columns or len(committed) > horizon
    ):
        raise ValueError(
            f"the committed rows have shape {committed.shape}, expected "
            f"(at most {horizon}, {columns})"
        )
