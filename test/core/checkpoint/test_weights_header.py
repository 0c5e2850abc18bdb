import json
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.checkpoint.weights_header import TensorEntry, read_header
from qwen_vla_ros.errors import CheckpointError

GOOD = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def write(path, header, data_bytes=8):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(data_bytes))
    return path


def entry(**change):
    return {"a": {**GOOD["a"], **change}}


def test_a_good_header_is_read(tmp_path):
    path = write(tmp_path / "w", {"__metadata__": {"format": "pt"}, **GOOD})
    assert read_header(path) == {"a": TensorEntry("F32", (2,), 0, 8)}


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (b"not json", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "must be an object"),
        (b'{"a": {}, "a": {}}', "a name occurs twice"),
        (b"\xff\xfe", "cannot be read"),
        ({"a": 1}, "must have dtype, shape and data_offsets"),
        (entry(more=1), "and no more"),
        (entry(dtype="F64"), "dtype 'F64'; allowed: F32, BF16, F16"),
        (entry(dtype=["F32"]), "dtype"),
        (entry(shape=[-2]), "whole numbers"),
        (entry(shape=[True, 2]), "whole numbers"),
        (entry(shape=[1] * 9), "at most 8"),
        (entry(shape=[2**60]), "whole numbers"),
        (entry(shape=[3]), "do not fit its shape"),
        (entry(data_offsets=[8, 0]), "do not fit its shape"),
        (entry(data_offsets=[4, 12]), "overlap or leave gaps"),
        ({**GOOD, "b": GOOD["a"]}, "overlap or leave gaps"),
        (entry(shape=[4], data_offsets=[0, 16]), "8 bytes of data where tensors take 16"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, header, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        read_header(write(tmp_path / "model.safetensors", header))


def test_a_huge_header_is_refused_unread(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((100 * 2**20).to_bytes(8, "little"))
        file.truncate(200 * 2**20)  # a hole in the file: no disk is used
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="at most 4194304 are allowed"):
        read_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.slow
def test_a_hundred_thousand_tensors_are_refused(tmp_path):
    header = b"{" + b",".join(b'"%x":0' % index for index in range(100_000)) + b"}"
    with pytest.raises(CheckpointError, match="100000 tensors; at most 20000"):
        read_header(write(tmp_path / "w", header))


@pytest.mark.parametrize("content", [b"", b"1234", (99).to_bytes(8, "little") + b"{}"])
def test_a_cut_off_file_is_refused(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(CheckpointError, match="does not fit into the file"):
        read_header(tmp_path / "w")


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "w", GOOD)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"w: cannot be read: Permission denied\."):
        read_header(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="missing"):
        read_header(tmp_path / "model.safetensors")


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_spoilt_header_is_read_or_refused_and_nothing_else(tmp_path_factory, data):
    path = write(tmp_path_factory.getbasetemp() / "fuzz.safetensors", GOOD)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw))
    with suppress(CheckpointError):
        assert all(entry.end <= 8 for entry in read_header(path).values())
