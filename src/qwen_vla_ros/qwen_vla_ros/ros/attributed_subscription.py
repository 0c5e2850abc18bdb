"""A subscription that tells who published each message.

rclpy's callbacks do not tell the publisher (rclpy before 2025-06 does not even know it, and the
events executor cannot call those that want to be told), so that the messages are taken beneath it,
by the same call of rcl. Nobody is woken for them: whoever listens takes them when it acts on them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

FIRST_BYTES = 1024
"""Room for a serialized message to begin with; rcl makes more where it needs more."""


class Heard(NamedTuple):
    """A message.

    Attributes:
        message: What was said.
        source: The endpoint that published it, as the graph names it.
        is_again: Whether the same source has said it in the same bytes just before.
    """

    message: Any
    source: bytes
    is_again: bool


class _Allocator(ctypes.Structure):
    """`rcutils_allocator_t`."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("take", "free", "grow", "zero", "state")]


class _Bytes(ctypes.Structure):
    """`rcutils_uint8_array_t`."""

    _fields_ = [
        ("buffer", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
        ("allocator", _Allocator),
    ]


class _MessageInfo(ctypes.Structure):
    """`rmw_message_info_t`, as it is since Iron."""

    _fields_ = [
        ("source_timestamp", ctypes.c_int64),
        ("received_timestamp", ctypes.c_int64),
        ("publication_sequence_number", ctypes.c_uint64),
        ("reception_sequence_number", ctypes.c_uint64),
        ("implementation", ctypes.c_void_p),
        ("publisher_gid", ctypes.c_uint8 * 16),
        ("from_intra_process", ctypes.c_bool),
        ("spare", ctypes.c_uint8 * 64),  # for members that a later version appends
    ]


class AttributedSubscription:
    """Hears one topic. The subscription must be hidden from the executor, which would take too."""

    def __init__(self, node: Node, message_type: type, topic: str, qos: QoSProfile) -> None:
        self.subscription: Subscription = node.create_subscription(
            message_type, topic, _nobody_is_called, qos
        )
        self._message_type = message_type
        self._depth = int(qos.depth)
        self._bytes, self._info = _Bytes(), _MessageInfo()
        allocator = _rcutils().rcutils_get_default_allocator()
        _rcutils().rcutils_uint8_array_init(
            ctypes.byref(self._bytes), FIRST_BYTES, ctypes.byref(allocator)
        )

    def __del__(self) -> None:
        """Give the bytes back."""
        _rcutils().rcutils_uint8_array_fini(ctypes.byref(self._bytes))

    def take(self) -> Iterator[Heard]:
        """Return what has come since the last call, the oldest first; a queue at most (J4)."""
        handle, before, message, source = self.subscription.handle, b"", None, b""
        with handle:
            for _ in range(self._depth):
                failed = _rcl().rcl_take_serialized_message(
                    handle.pointer, ctypes.byref(self._bytes), ctypes.byref(self._info), None
                )
                if failed:
                    _rcutils().rcutils_reset_error()
                    return
                serialized = ctypes.string_at(self._bytes.buffer, self._bytes.length)
                is_same = serialized == before
                if not is_same:
                    message = deserialize_message(serialized, self._message_type)
                before, last_source = serialized, source
                source = bytes(self._info.publisher_gid)
                yield Heard(message, source, is_same and source == last_source)


def _nobody_is_called(message: Any) -> None:  # noqa: ARG001
    raise ValueError("an executor has taken a message that was not for it")


@cache
def _rcl() -> ctypes.CDLL:
    library = ctypes.CDLL("librcl.so")  # the one that rclpy has loaded
    library.rcl_take_serialized_message.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(_Bytes),
        ctypes.POINTER(_MessageInfo),
        ctypes.c_void_p,
    ]
    return library


@cache
def _rcutils() -> ctypes.CDLL:
    library = ctypes.CDLL("librcutils.so")
    library.rcutils_get_default_allocator.restype = _Allocator
    library.rcutils_uint8_array_init.argtypes = [
        ctypes.POINTER(_Bytes),
        ctypes.c_size_t,
        ctypes.POINTER(_Allocator),
    ]
    library.rcutils_uint8_array_fini.argtypes = [ctypes.POINTER(_Bytes)]
    return library
