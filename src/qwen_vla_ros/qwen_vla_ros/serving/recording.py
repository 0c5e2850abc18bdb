"""What a server answered, written down and read again: a line of JSON an answer."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from pathlib import Path
from typing import IO, Annotated, Self

from pydantic import Field

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.metadata import ServerMetadata, WireSection

log = logging.getLogger(__name__)

FORMAT = "qwen-vla-recording"
Row = list[Annotated[float, Field(allow_inf_nan=False)]]


class Record(WireSection):
    """One answer.

    Attributes:
        episode: Which answers belong together.
        elapsed_s: Seconds since the episode began.
        instruction: What was asked.
        actions: Rows (H, c) in channel units.
    """

    episode: int
    elapsed_s: Annotated[float, Field(ge=0.0)]
    instruction: Annotated[str, Field(max_length=4096)]
    actions: Annotated[list[Row], Field(min_length=1)]


class Recorder:
    """Appends answers to a file. A full disk ends the recording, and nothing else."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file: IO[str] | None = file
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
            file = path.open("x", encoding="utf-8")
        except OSError as error:
            raise QwenVlaError(f"record: '{path}' cannot be made: {error}.") from error
        recorder = cls(file, path)
        head = ServerMetadata.of(embodiment, model).model_dump()
        recorder._write(json.dumps({"format": FORMAT, **head}))
        return recorder

    def begin_episode(self) -> int:
        """Return the number of a new episode."""
        return next(self._episodes)

    def add(self, record: Record) -> None:
        """Write down one answer."""
        self._write(record.model_dump_json())

    def close(self) -> None:
        """End the recording."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _write(self, line: str) -> None:
        with self._lock:
            if self._file is None:
                return
            try:
                self._file.write(line + "\n")
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
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise QwenVlaError(f"recording: '{path}' cannot be read: {error}.") from error
    _read_head(lines[0], path, embodiment)
    episodes: dict[int, list[Record]] = {}
    # What stands behind the last end of a line was cut short, or is nothing.
    for number, line in enumerate(lines[1:-1], start=2):
        try:
            record = Record.model_validate_json(line)
            if any(len(row) != len(embodiment.channels) for row in record.actions):
                raise ValueError(f"rows have {len(embodiment.channels)} numbers")
        except ValueError as error:
            raise QwenVlaError(f"recording: '{path}', line {number}: {error}.") from error
        episodes.setdefault(record.episode, []).append(record)
    if not episodes:
        raise QwenVlaError(f"recording: '{path}' holds no answer.")
    return tuple(tuple(records) for records in episodes.values())


def _read_head(line: str, path: Path, embodiment: Embodiment) -> None:
    try:
        head = json.loads(line)
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise ValueError(f"it does not begin with the format {FORMAT}")
        ServerMetadata.from_wire(head).require(embodiment)
    except (ValueError, QwenVlaError) as error:
        raise QwenVlaError(f"recording: '{path}' cannot be used: {error}.") from error
