"""Requests and answers of this project's own protocol, byte by byte; docs/reference/wire.md.

They have fixed places and no names: both ends have the same embodiment file, and what has a fixed
place is read in one step and checked by its length. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.serving.fields import read_seconds
from qwen_vla_ros.serving.image_block import ImageBlock
from qwen_vla_ros.serving.link import Question
from qwen_vla_ros.serving.request import Request
from qwen_vla_ros.serving.wire import Buffer, WireError, pack, unpack_small
from qwen_vla_ros.types import FloatArray, Observation

_REQUEST = struct.Struct("<QqdHHB")
_ANSWER = struct.Struct("<QddHHHB16s16s")
_FLOAT = np.dtype("<f8")
NEW_EPISODE = 1
REST, ERROR = 1, 2
MAX_TEXT_BYTES = 4096
LONGEST_S = 3600.0
CLIENT_LETTERS = 16
"""Length of a client's name and of an embodiment's hash."""


class Answer(NamedTuple):
    """What an answer says.

    Attributes:
        id: Number of the question.
        client: Who asked.
        embodiment: For which robot it is; or, of an error, what is wrong.
        embodiment_hash: Hash of that robot's file and description.
        actions: Rows (H, c) in channel units.
        flags: `REST` where the episode is over, `ERROR` where there is no answer.
        queue_s: Seconds until the question's turn came.
        total_s: Seconds between the question's last byte and this answer.
        timings: Seconds per stage of the policy.
    """

    id: int
    client: bytes
    embodiment: bytes
    embodiment_hash: bytes
    actions: FloatArray
    flags: int
    queue_s: float
    total_s: float
    timings: Mapping[str, float]


def write_request(question: Question, *, number: int, deadline_s: float) -> list[Buffer]:
    """Return the parts of a request; those of the images follow.

    Args:
        question: What is asked.
        number: Rises with every question of a client.
        deadline_s: Seconds that the client will wait.
    """
    words = question.instruction.encode()[:MAX_TEXT_BYTES]
    committed = question.committed
    fixed = _REQUEST.pack(
        number,
        question.observation.stamp_ns,
        deadline_s,
        len(words),
        0 if committed is None else len(committed),
        NEW_EPISODE if question.is_new_episode else 0,
    )
    state = np.asarray(question.observation.state, _FLOAT).tobytes()
    if committed is None:
        return [fixed, words, state]
    return [fixed, words, state, np.asarray(committed, _FLOAT).tobytes()]


def number_of(data: Buffer | str) -> int:
    """Return the number of a request, 0 where there is none."""
    if isinstance(data, str) or len(data) < _REQUEST.size:
        return 0
    return int(_REQUEST.unpack_from(data)[0])


def read_request(data: Buffer | str, block: ImageBlock, embodiment: Embodiment) -> Request:
    """Return a request.

    Args:
        data: The message.
        block: Layout of this robot's images.
        embodiment: The robot.

    Raises:
        WireError: It is no request.
    """
    if isinstance(data, str) or len(data) < _REQUEST.size:
        raise WireError("a message that is no request.")
    _, stamp_ns, deadline_s, letters, rows, flags = _REQUEST.unpack_from(data)
    begin = _REQUEST.size + letters
    columns = len(embodiment.channels)
    end = begin + (1 + rows) * columns * _FLOAT.itemsize
    is_odd = letters > MAX_TEXT_BYTES or not 0 <= deadline_s <= LONGEST_S or stamp_ns < 0
    if is_odd or end > len(data) or rows > embodiment.file.prompt.action_horizon:
        raise WireError(
            f"a request of {len(data)} bytes with {letters} of instruction, {rows} committed rows,"
            f" a deadline of {deadline_s:g} s and stamp {stamp_ns}."
        )
    view = memoryview(data)
    numbers = _numbers(view[begin:end], 1 + rows, columns)
    images, history = block.read(view[end:])
    return Request(
        observation=Observation(
            stamp_ns=stamp_ns, images=images, state=numbers[0], history=history
        ),
        instruction=_text(view[_REQUEST.size : begin]),
        committed=numbers[1:] if rows else None,
        is_new_episode=bool(flags & NEW_EPISODE),
        deadline_s=deadline_s,
    )


def write_answer(answer: Answer) -> list[Buffer]:
    """Return the parts of an answer."""
    words = answer.embodiment[:MAX_TEXT_BYTES]
    timings = pack(dict(answer.timings))
    fixed = _ANSWER.pack(
        answer.id,
        answer.queue_s,
        answer.total_s,
        len(words),
        len(timings),
        len(answer.actions),
        answer.flags,
        answer.client,
        answer.embodiment_hash,
    )
    return [fixed, words, timings, np.asarray(answer.actions, _FLOAT).tobytes()]


def read_answer(data: Buffer | str, columns: int, horizon: int) -> Answer:
    """Return an answer to a robot with `columns` channels that takes up to `horizon` rows.

    Raises:
        WireError: It is none, or holds a number that is not finite.
    """
    if isinstance(data, str) or len(data) < _ANSWER.size:
        raise WireError("a message that is no answer.")
    number, queue_s, total_s, letters, timing_bytes, rows, flags, client, version = (
        _ANSWER.unpack_from(data)
    )
    begin = _ANSWER.size + letters
    middle = begin + timing_bytes
    end = middle + rows * columns * _FLOAT.itemsize
    if rows > horizon or end != len(data) or not 0 <= queue_s <= total_s <= LONGEST_S:
        raise WireError(
            f"an answer of {len(data)} bytes with {letters} of name and {rows} rows, "
            f"after {total_s:g} s."
        )
    view = memoryview(data)
    return Answer(
        number,
        client,
        bytes(view[_ANSWER.size : begin]),
        version,
        _numbers(view[middle:end], rows, columns),
        flags,
        queue_s,
        total_s,
        read_seconds(unpack_small(view[begin:middle])),
    )


def _numbers(data: memoryview, rows: int, columns: int) -> FloatArray:
    """Return finite rows, as a copy."""
    values = np.frombuffer(data, _FLOAT).astype(np.float64).reshape(rows, columns)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0].tolist()
        raise WireError(f"row {row}, column {column} is {values[row, column]}.")
    return values


def _text(data: Buffer) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise WireError("a text that is no UTF-8.") from error
