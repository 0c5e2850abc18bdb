from __future__ import annotations

import struct
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpi_client import msgpack_numpy

from qwen_vla_ros.serving.wire import MAX_CONTAINERS, MAX_DEPTH, WireError, pack, unpack

VALUE = {
    "state": np.arange(14.0),
    "images": {"cam_high": np.arange(27, dtype=np.uint8).reshape(3, 3, 3)},
    "prompt": "hand over",
    "flag": np.bool_(True),
    "level": np.float32(0.5),
    "names": ["a", "b"],
    "nothing": None,
    "bytes": b"\x00\xff",
    "empty": np.empty((0, 14)),
}


def claim(**changes: object) -> bytes:
    """An array that says of itself what it is told to say."""
    entries = {"__ndarray__": True, "data": bytes(8), "dtype": "<f8", "shape": [1]} | changes
    return msgpack.packb({key.encode(): value for key, value in entries.items()})


def assert_equal(first: object, second: object) -> None:
    if isinstance(first, dict):
        assert isinstance(second, dict)
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert_equal(value, second[key])
    elif isinstance(first, np.ndarray):
        assert isinstance(second, np.ndarray)
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    else:
        assert first == second


def test_what_is_packed_is_unpacked():
    assert_equal(VALUE, unpack(pack(VALUE)))


def test_arrays_with_keys_of_text_are_read_too():
    value = {**VALUE, "level": 0.5, "flag": True}
    packed = pack(VALUE, has_text_keys=True)
    assert b"\xa4data" in packed  # a text of four letters
    assert_equal(value, unpack(packed))


def test_openpi_reads_what_we_write_and_we_read_what_openpi_writes():
    assert_equal(VALUE, msgpack_numpy.unpackb(pack(VALUE)))
    assert_equal(VALUE, unpack(msgpack_numpy.packb(VALUE)))


def test_numbers_of_either_byte_order_are_read():
    assert unpack(pack(np.arange(3, dtype=">i4"))).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([1 + 2j]),
        np.array(["text"]),
        np.zeros(2, dtype=[("a", "f8")]),
        np.array(["2026-01-01"], dtype="datetime64[s]"),
        object(),
    ],
    ids=["objects", "complex", "texts", "records", "times", "no array"],
)
def test_what_nobody_would_read_is_not_written(value):
    with pytest.raises(ValueError, match="cannot be sent"):
        pack({"x": value})


@pytest.mark.parametrize(
    "dtype", ["|O", "O", "|V8", "<c16", "<U4", "|S4", "<M8[s]", "<f16", "f", ""]
)
def test_arrays_of_anything_but_numbers_are_refused(dtype):
    with pytest.raises(WireError, match="Allowed: booleans, integers and floats"):
        unpack(claim(dtype=dtype))


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2]},
        {"shape": [2**62, 2**62]},
        {"shape": [-1]},
        {"shape": [1.0]},
        {"shape": [True]},
        {"shape": "1"},
        {"shape": [1] * 7},
        {"shape": [0]},
        {"data": "text"},
        {"data": bytes(7)},
    ],
    ids=str,
)
def test_an_array_whose_shape_and_data_disagree_is_refused(changes):
    with pytest.raises(WireError, match="array"):
        unpack(claim(**changes))


@pytest.mark.parametrize("data", ["x", None, b"x", [1]], ids=str)
def test_a_scalar_that_is_no_number_is_refused(data):
    with pytest.raises(WireError, match="scalar"):
        unpack(msgpack.packb({b"__npgeneric__": True, b"data": data, b"dtype": "<f8"}))


def test_a_scalar_that_does_not_fit_its_type_is_refused():
    with pytest.raises(WireError, match="scalar"):
        unpack(msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xffx",
        b"\xdb\xff\xff\xff\xffx",
        b"\xa2\xff\xfe",
        b"\x81\x90\x01",
        b"\x01\x02",
        b"\x91" * 100_000 + b"\x01",
        msgpack.packb(msgpack.ExtType(5, b"x")),
    ],
    ids=lambda data: repr(data[:6]),
)
def test_damaged_and_strange_bytes_are_refused(data):
    with pytest.raises(WireError):
        unpack(data)


def test_a_time_is_refused():
    with pytest.raises(WireError, match="Timestamp"):
        unpack(msgpack.packb([msgpack.Timestamp(1)]))


def test_a_text_is_no_message():
    with pytest.raises(WireError, match="a text"):
        unpack("hello")


def test_what_is_nested_too_deeply_is_refused():
    value: object = 1
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(WireError, match="nested deeper"):
        unpack(msgpack.packb(value))


def test_many_empty_lists_are_refused_before_they_take_memory():
    data = b"\xdc\x03\xe8" + (b"\xdc\x03\xe8" + b"\x90" * 1000) * 1000
    tracemalloc.start()
    with pytest.raises(WireError, match=str(MAX_CONTAINERS)):
        unpack(data)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_lists_that_claim_many_items_take_no_memory():
    tracemalloc.start()
    with pytest.raises(WireError):
        unpack(b"\xdd" + struct.pack("!I", 2**24) + bytes(2**16))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@given(st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(data):
    try:
        unpack(data)
    except WireError as error:
        assert str(error)  # noqa: PT017 - anything else that is raised fails the test


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
KEYS = st.sampled_from([b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape"]) | st.text()
ODD = st.recursive(
    SCALARS | st.binary(max_size=32) | st.sampled_from(["<f8", "|u1", "|O", "|V4"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.slow
@given(ODD)
@settings(max_examples=150, deadline=None)
def test_any_value_is_read_or_refused(value):
    try:
        unpack(msgpack.packb(value))
    except WireError as error:
        assert str(error)  # noqa: PT017


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_message_with_a_flipped_byte_is_read_or_refused(data):
    message = bytearray(pack(VALUE))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] = data.draw(st.integers(0, 255))
    try:
        unpack(bytes(message))
    except WireError as error:
        assert str(error)  # noqa: PT017
