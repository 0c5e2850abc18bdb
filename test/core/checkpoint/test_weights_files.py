import json
from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from qwen_vla_ros.checkpoint.weights_files import (
    INDEX,
    find_weights,
    index_of,
    shard_names,
    split_into_shards,
)
from qwen_vla_ros.errors import CheckpointError

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def folder(tmp_path):
    """Three weights in two files and the index of them."""
    save_file({"a": torch.zeros(2), "b": torch.zeros(3)}, tmp_path / ONE)
    save_file({"c": torch.zeros(4)}, tmp_path / TWO)
    index = index_of([["a", "b"], ["c"]], total_bytes=36)
    (tmp_path / INDEX).write_text(json.dumps(index))
    return tmp_path


def edit_index(folder, **places):
    path = folder / INDEX
    index = json.loads(path.read_text())
    index["weight_map"] = {
        name: file for name, file in {**index["weight_map"], **places}.items() if file
    }
    path.write_text(json.dumps(index))


def test_every_weight_is_found_in_its_file(folder):
    found = find_weights(folder)
    assert {name: weight.path.name for name, weight in found.items()} == {
        "a": ONE, "b": ONE, "c": TWO,
    }  # fmt: skip
    assert found["c"].entry.shape == (4,)


def test_one_file_needs_no_index(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert list(find_weights(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    "file",
    [
        "../model.safetensors", "/etc/model.safetensors", "sub/model.safetensors", "..",
        "a..safetensors", ".hidden.safetensors", "model.bin", "C:\\model.safetensors", "", "\0",
    ],
)  # fmt: skip
def test_an_index_leads_nowhere_but_into_its_folder(folder, file):
    path = folder / INDEX
    index = json.loads(path.read_text())
    index["weight_map"]["a"] = file
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"weight 'a' is said to be in .* same folder"):
        find_weights(folder)


@pytest.mark.parametrize("value", [3, None, ["x.safetensors"]])
def test_an_index_of_something_else_than_names_is_refused(folder, value):
    path = folder / INDEX
    path.write_text(json.dumps({"weight_map": {"a": value}}))
    with pytest.raises(CheckpointError, match=r"only the name of a \.safetensors file"):
        find_weights(folder)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{}", "must have weight_map"),
        ('{"weight_map": []}', "must have weight_map"),
        ('{"weight_map": {}}', "0 weights; at least 1"),
        ('{"weight_map": {"a": "x.safetensors"}, "code": 1}', "no more"),
        ('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "a name occurs twice"),
        ("nonsense", "cannot be read as JSON"),
    ],
)
def test_a_malformed_index_is_refused(folder, content, sentence):
    (folder / INDEX).write_text(content)
    with pytest.raises(CheckpointError, match=rf"index\.json: .*{sentence}"):
        find_weights(folder)


@pytest.mark.slow
def test_a_hundred_thousand_weights_are_refused(folder):
    places = {str(number): "x.safetensors" for number in range(30_000)}
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    with pytest.raises(CheckpointError, match=r"30000 weights; .* at most 20000"):
        find_weights(folder)


def test_a_missing_file_is_named(folder):
    (folder / TWO).unlink()
    with pytest.raises(CheckpointError, match=f"{TWO}: missing"):
        find_weights(folder)


def test_a_weight_in_two_files_is_refused(folder):
    save_file({"a": torch.zeros(2), "c": torch.zeros(4)}, folder / TWO)
    with pytest.raises(CheckpointError, match=f"{TWO}: holds weight 'a', .* places in {ONE}"):
        find_weights(folder)


def test_a_weight_that_the_index_does_not_know_is_refused(folder):
    edit_index(folder, b="")
    with pytest.raises(CheckpointError, match=f"{ONE}: weight 'b' is not in the index"):
        find_weights(folder)


def test_a_weight_that_its_file_lacks_is_refused(folder):
    edit_index(folder, d=TWO)
    with pytest.raises(CheckpointError, match=f"{TWO}: weight 'd' is missing; the index places"):
        find_weights(folder)


def test_a_truncated_file_is_refused(folder):
    raw = (folder / TWO).read_bytes()
    (folder / TWO).write_bytes(raw[:-4])
    with pytest.raises(CheckpointError, match=f"{TWO}: 12 bytes of data where tensors take 16"):
        find_weights(folder)


def test_a_stranger_is_refused_unless_others_may_be_there(folder):
    save_file(load_file(folder / TWO), folder / "more.safetensors")
    with pytest.raises(
        CheckpointError, match=r"more\.safetensors: .*index\.json does not name it"
    ):
        find_weights(folder)
    assert set(find_weights(folder, others=True)) == {"a", "b", "c"}


def test_files_without_an_index_are_refused(folder):
    (folder / INDEX).unlink()
    with pytest.raises(CheckpointError, match=r"there is no model\.safetensors\.index\.json"):
        find_weights(folder)


def test_one_file_and_an_index_at_once_are_refused(folder):
    save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
    for others in (False, True):
        with pytest.raises(CheckpointError, match="Remove the one that is not meant"):
            find_weights(folder, others=others)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["a", "b", ONE, TWO, "../x.safetensors"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)  # fmt: skip


@pytest.mark.slow
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(places=st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), JSON), more=JSON)
def test_any_index_is_read_or_refused_and_nothing_else(folder, places, more):
    (folder / INDEX).write_text(json.dumps({"weight_map": places, "metadata": more}))
    with suppress(CheckpointError):
        assert set(find_weights(folder)) == {"a", "b", "c"}


def test_shards_keep_the_order_and_the_limit():
    sizes = {"a": 3, "b": 3, "c": 9, "d": 1, "e": 5, "f": 1}
    assert split_into_shards(sizes, 6) == [["a", "b"], ["c"], ["d", "e"], ["f"]]
    assert shard_names(3)[1] == "model-00002-of-00003.safetensors"
    assert shard_names(1) == ["model.safetensors"]
