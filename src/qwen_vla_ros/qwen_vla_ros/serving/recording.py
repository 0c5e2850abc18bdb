"""What a server answered, written down and read again: a stream of msgpack maps."""

from __future__ import annotations

import itertools
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.card import Card, CardError
from qwen_vla_ros.serving.fields import Fields
from qwen_vla_ros.serving.wire import WireError, pack, unpack_stream
from qwen_vla_ros.types import FloatArray

log = logging.getLogger(__name__)

FORMAT = "qwen-vla-recording"
LONGEST_EPISODE_S = 1e6


@dataclass(frozen=True, kw_only=True)
class Record:
    """One answer.

    Attributes:
        episode: Which answers belong together.
        elapsed_s: Seconds since the episode began.
        instruction: What was asked.
        actions: Rows (H, c) in channel units.
    """

    episode: int
    elapsed_s: float
    instruction: str
    actions: FloatArray


class Recorder:
    """Appends answers to a file. A full disk ends the recording, and nothing else."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file: IO[bytes] | None = file
        self._path = path
        self._lock = threading.Lock()
        self._episodes = itertools.count(1)

    @classmethod
    def create(cls, path: Path, embodiment: Embodiment, model: str) -> Self:
        """Begin a file that does not exist yet.

        Raises:
            QwenVlaError: It exists, or cannot be written.
        """
        try:
            file = path.open("xb")
        except OSError as error:
            raise QwenVlaError(f"record: '{path}' cannot be made: {error}.") from error
        recorder = cls(file, path)
        recorder._write({"format": FORMAT, **Card.of(embodiment, model).to_wire()})
        return recorder

    def begin_episode(self) -> int:
        """Return the number of a new episode."""
        return next(self._episodes)

    def add(self, record: Record) -> None:
        """Write down one answer."""
        self._write(
            {
                "episode": record.episode,
                "elapsed": record.elapsed_s,
                "instruction": record.instruction,
                "actions": np.asarray(record.actions, np.float64),
            }
        )

    def close(self) -> None:
        """End the recording."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _write(self, entry: dict[str, object]) -> None:
        with self._lock:
            if self._file is None:
                return
            try:
                self._file.write(pack(entry))
                self._file.flush()
            except OSError:
                log.exception("recording into %s ends here", self._path)
                self._file = None


def read_recording(path: Path, embodiment: Embodiment) -> tuple[tuple[Record, ...], ...]:
    """Return the answers in a file, episode by episode in the order in which they began.

    A last answer that is cut short, as by a full disk, is left out.

    Raises:
        QwenVlaError: There is no such file, it is no recording, or one of another robot.
    """
    episodes: dict[int, list[Record]] = {}
    try:
        with path.open("rb") as file:
            entries = map(Fields, unpack_stream(file))
            head = next(entries, None)
            if head is None or head.text("format") != FORMAT:
                raise WireError(f"it does not begin with the format {FORMAT}.")
            Card.from_wire(head).require(embodiment)
            for entry in entries:
                record = _record(entry, embodiment)
                episodes.setdefault(record.episode, []).append(record)
    except OSError as error:
        raise QwenVlaError(f"recording: '{path}' cannot be read: {error}.") from error
    except (WireError, CardError) as error:
        raise QwenVlaError(f"recording: '{path}' cannot be used: {error}") from error
    if not episodes:
        raise QwenVlaError(f"recording: '{path}' holds no answer.")
    return tuple(tuple(records) for records in episodes.values())


def _record(entry: Fields, embodiment: Embodiment) -> Record:
    horizon = embodiment.file.prompt.action_horizon
    return Record(
        episode=entry.whole("episode"),
        elapsed_s=entry.number("elapsed", 0.0, LONGEST_EPISODE_S),
        instruction=entry.text("instruction", 4096),
        actions=entry.rows("actions", len(embodiment.channels), horizon),
    )
