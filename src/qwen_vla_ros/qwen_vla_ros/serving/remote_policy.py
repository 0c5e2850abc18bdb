"""A policy that runs somewhere else: asks a server, within a deadline, and trusts nothing it says.

Whatever a server does, `infer` returns or raises in time, and the memory of this process does not
grow. A lost connection is made again in the background, with the same checks as the first one; the
gate has long brought the robot to rest by then, and nothing here can make it move again by itself.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import Self

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.problems import printable
from qwen_vla_ros.errors import NotReadyError, QwenVlaError
from qwen_vla_ros.serving.address import (
    LONGEST_DEADLINE_S,
    SHORTEST_DEADLINE_S,
    ServerAddress,
)
from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.link import Link, Question, RefusalError
from qwen_vla_ros.serving.native_link import NativeLink
from qwen_vla_ros.serving.openpi_link import OpenpiLink
from qwen_vla_ros.serving.wire import WireError
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Prompt

log = logging.getLogger(__name__)

LOAD_S = 5.0
"""How long the first connection may take."""
FIRST_ANSWER_S = 120.0
"""How long one of openpi's servers may take for its first answer, for which it may compile."""
RECONNECT_S = 2.0
"""How long a later connection may take."""
PAUSE_S = 1.0
"""Between two attempts, and between two looks at an idle connection."""
_ABSENT = (NotReadyError, ConnectionError, TimeoutError)
WARM_UP_INSTRUCTION = "stay where you are"


class RemoteError(QwenVlaError):
    """A question to a server has no answer that can be used."""


class RemotePolicy:
    """One robot's policy on a server. One thread asks; another keeps the connection."""

    def __init__(
        self,
        address: ServerAddress,
        embodiment: Embodiment,
        *,
        protocol: str = "qwen_vla",
        deadline_s: float = 0.3,
    ) -> None:
        """Prepare to ask; `connect` or `load` makes the connection.

        Args:
            address: Where the server is.
            embodiment: The robot that is asked for.
            protocol: One of `address.PROTOCOLS`.
            deadline_s: How long an answer may take, everything included.

        Raises:
            QwenVlaError: The deadline is out of bounds.
        """
        if not SHORTEST_DEADLINE_S <= deadline_s <= LONGEST_DEADLINE_S:
            raise QwenVlaError(
                f"deadline_s: {deadline_s:g} s; {SHORTEST_DEADLINE_S:g} to "
                f"{LONGEST_DEADLINE_S:g} s are allowed."
            )
        self._address = address
        self._embodiment = embodiment
        self._protocol = protocol
        self._deadline_s = deadline_s
        self._link: Link | None = None
        self._why = "never connected"
        self._is_new_episode = True
        self._lock = threading.Lock()  # whoever uses the link holds it
        self._lost = threading.Event()
        self._closing = threading.Event()
        # Who lets go of a policy without closing it shall not be left with its thread.
        self._keeper = threading.Thread(
            target=_keep,
            args=(weakref.ref(self), self._lost, self._closing),
            name="reconnect",
            daemon=True,
        )

    @classmethod
    def load(
        cls,
        address: ServerAddress,
        embodiment: Embodiment,
        *,
        protocol: str = "qwen_vla",
        deadline_s: float = 0.3,
    ) -> Self:
        """Connect to a server that serves this very robot.

        Raises:
            NotReadyError: The server cannot be reached.
            QwenVlaError: The server refuses, or serves another robot; or the address or the
                deadline is wrong.
        """
        policy = cls(address, embodiment, protocol=protocol, deadline_s=deadline_s)
        if address.leaks_token:
            log.warning("%s: the token crosses the network unencrypted; use wss.", address.uri)
        try:
            policy._link = policy._connect(LOAD_S)
            if protocol == "openpi":
                # Its handshake says nothing that could be checked; an answer does.
                policy._try_out(policy._link)
        except (QwenVlaError, OSError) as error:
            policy.close()
            # Who is not there may come; who is the wrong one stays the wrong one.
            kind = NotReadyError if isinstance(error, _ABSENT) else QwenVlaError
            raise kind(policy._sentence(error)) from error
        policy._keeper.start()
        return policy

    def infer(
        self, observation: Observation, prompt: Prompt, committed: FloatArray | None = None
    ) -> ActionChunk:
        """Ask the server.

        Raises:
            NotReadyError: There is no connection at present.
            RemoteError: The server did not answer in time, or with nothing that can be used.
            ValueError: The question is not one about this robot.
        """
        _check_question(self._embodiment, observation, committed)
        deadline = Deadline(self._deadline_s)
        question = Question(
            observation=observation,
            instruction=prompt.instruction,
            committed=committed,
            is_new_episode=self._is_new_episode,
        )
        if not self._lock.acquire(timeout=self._deadline_s):
            raise NotReadyError(f"{self._address.uri}: the connection is being looked at.")
        try:
            if self._link is None:
                raise NotReadyError(f"{self._address.uri}: no connection: {self._why}.")
            chunk = self._link.ask(question, deadline)
        except RefusalError as error:
            raise RemoteError(self._sentence(error)) from error
        except (WireError, OSError) as error:
            self._lose(error)
            raise RemoteError(self._sentence(error)) from error
        finally:
            self._lock.release()
        self._is_new_episode = False
        return chunk

    def reset(self) -> None:
        """Begin a new episode; the server hears of it with the next question."""
        self._is_new_episode = True

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as one knows."""
        return self._link is not None

    def close(self) -> None:
        """Let go of the server."""
        self._closing.set()
        self._lost.set()
        with self._lock:
            if self._link is not None:
                self._link.close()
                self._link = None
                self._why = "closed"

    def _connect(self, seconds: float) -> Link:
        deadline = Deadline(seconds)
        if self._protocol == "openpi":
            return OpenpiLink.open(self._address, self._embodiment, deadline)
        return NativeLink.open(self._address, self._embodiment, deadline)

    def _try_out(self, link: Link) -> None:
        question = Question(
            observation=self._embodiment.make_example(),
            instruction=WARM_UP_INSTRUCTION,
            committed=None,
            is_new_episode=True,
        )
        link.ask(question, Deadline(FIRST_ANSWER_S))

    def look(self) -> None:
        """Notice whether an idle connection is lost, and answer a ping."""
        if not self._lock.acquire(blocking=False):
            return  # a question is under way, and will see for itself
        try:
            if self._link is not None and not self._link.is_alive():
                raise WireError("the server speaks without being asked")
        except (WireError, OSError) as error:
            self._lose(error)
        finally:
            self._lock.release()

    def reconnect(self) -> None:
        """Try once to make a lost connection again; waits a while where that fails."""
        begin_s = time.monotonic()
        try:
            link = self._connect(RECONNECT_S)
        except (QwenVlaError, OSError) as error:
            self._why = _without_stop(error)
            self._closing.wait(max(0.0, PAUSE_S - (time.monotonic() - begin_s)))
            return
        with self._lock:
            if self._closing.is_set():
                link.close()
                return
            self._link, self._is_new_episode = link, True
            self._lost.clear()
        log.info("%s: connected again", self._address.uri)

    def _lose(self, error: Exception) -> None:
        """Give a connection up; called with the lock held."""
        if self._link is not None:
            self._link.close()
            self._link = None
            self._why = _without_stop(error)
            log.warning("%s: connection lost: %s", self._address.uri, self._why)
        self._lost.set()

    def _sentence(self, error: Exception) -> str:
        return f"{self._address.uri}: {_without_stop(error)}."


def _keep(
    policy_or_none: weakref.ReferenceType[RemotePolicy],
    lost: threading.Event,
    closing: threading.Event,
) -> None:
    """Look at an idle connection now and then, and make a lost one again."""
    while not closing.is_set():
        is_lost = lost.wait(PAUSE_S)
        policy = policy_or_none()
        if policy is None:
            return
        if is_lost:
            policy.reconnect()
        else:
            policy.look()
        del policy


def _without_stop(error: Exception) -> str:
    return printable(str(error) or type(error).__name__)[:500].rstrip(".")


def _check_question(
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
