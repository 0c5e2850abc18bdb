import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen_vla_ros.checkpoint.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from qwen_vla_ros.checkpoint.manifest import DatasetRecord
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy
from qwen_vla_ros.prompt.build import build_prompt

WEIGHT = "decoder.context_in.weight"


def edit_weights(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_a_saved_model_gives_the_same_actions(tiny, tiny_folder, aloha):
    observation, prompt = aloha.make_example(), build_prompt(aloha, "pick up the red cube")
    before = QwenVlaPolicy(tiny, aloha, seed=3).infer(observation, prompt)
    after = QwenVlaPolicy(load_checkpoint(tiny_folder), aloha, seed=3).infer(observation, prompt)
    np.testing.assert_array_equal(before.actions, after.actions)


@pytest.mark.slow
def test_a_checkpoint_loaded_and_saved_is_the_same_to_the_byte(tiny_folder, tmp_path):
    save_checkpoint(load_checkpoint(tiny_folder), tmp_path / "again")
    for path in tiny_folder.rglob("*"):
        if path.is_file():
            again = tmp_path / "again" / path.relative_to(tiny_folder)
            assert again.read_bytes() == path.read_bytes(), path.name


def test_a_nano_checkpoint_is_below_forty_megabytes_and_says_its_robots(nano, aloha, diffbot):
    assert sum(path.stat().st_size for path in nano.rglob("*") if path.is_file()) < 40e6
    provenance = json.loads((nano / "config.json").read_text())["provenance"]
    assert provenance["embodiments"] == [
        {"name": robot.name, "hash": robot.hash} for robot in (aloha, diffbot)
    ]


@pytest.mark.parametrize("name", ["model.bin", "a.pt", "b.pth", "c.PKL", "normalization/d.npy"])
def test_a_file_that_could_run_code_is_refused(tiny_folder, name):
    (tiny_folder / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match="can run code when they are read"):
        load_checkpoint(tiny_folder)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"]
)
def test_a_missing_file_is_named(tiny_folder, name):
    (tiny_folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name}: missing"):
        load_checkpoint(tiny_folder)


def test_a_missing_folder_is_refused_with_what_to_type(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no such folder.*qwen-vla init"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tiny_folder, value):
    edit_weights(tiny_folder, lambda tensors: tensors[WEIGHT][3].fill_(value))
    with pytest.raises(CheckpointError, match=f"'{WEIGHT}' holds a number that is not finite"):
        load_checkpoint(tiny_folder)


def test_a_weight_of_another_shape_is_refused(tiny_folder):
    edit_weights(tiny_folder, lambda tensors: tensors.update({WEIGHT: torch.zeros(64, 63)}))
    with pytest.raises(CheckpointError, match=r"shape \[64, 63\]; the model's is \[64, 64\]"):
        load_checkpoint(tiny_folder)


def test_a_missing_weight_is_refused(tiny_folder):
    edit_weights(tiny_folder, lambda tensors: tensors.pop(WEIGHT))
    with pytest.raises(CheckpointError, match=f"'{WEIGHT}' is missing"):
        load_checkpoint(tiny_folder)


def test_a_weight_too_many_is_refused_with_what_was_meant(tiny_folder):
    edit_weights(
        tiny_folder, lambda tensors: tensors.update({"decoder.contextin.weight": torch.ones(1)})
    )
    with pytest.raises(CheckpointError, match=f"not part of the model. Did you mean '{WEIGHT}'"):
        load_checkpoint(tiny_folder)


def test_numbers_that_are_no_weights_are_refused(tiny_folder):
    edit_weights(tiny_folder, lambda tensors: tensors.update({WEIGHT: tensors[WEIGHT].double()}))
    with pytest.raises(CheckpointError, match="dtype 'F64'; allowed: F32, BF16, F16"):
        load_checkpoint(tiny_folder)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"vocab_size": 2304', '"vocab_size": 300', "tokens; the model has 300"),
        (
            '"image_token_id": 12',
            '"image_token_id": 13',
            "images are token 12; the model's are 13",
        ),
        ('"depth": 1', '"depth": 2', "is missing; config.json asks for it"),
        ('"width": 64', '"width": 63', "decoder.width must be a multiple"),
        ('"provenance"', '"origin"', "origin: unknown key"),
        ('"seed"', '"sead"', r"provenance\.sead: unknown key\. Did you mean 'seed'\?"),
        ('"depth"', '"deptth"', r"backbone: .*vision_config\.depth is missing; 'deptth' is there"),
        ('"num_blocks"', '"num_block"', r"decoder\.num_block: unknown key\. Did you mean"),
        ('"silu"', '"relu"', "text_config.hidden_act is 'relu'; allowed: 'silu'"),
        ('"untrained"', '"dreamt"', "provenance.stage: 'dreamt' is not allowed"),
        (
            '"datasets": []',
            '"datasets": [{"name": "a", "episodes": 0, "licence": "x"}]',
            "episodes",
        ),
        ("{", "{{", "cannot be read as JSON"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tiny_folder, old, new, sentence):
    path = tiny_folder / "config.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(tiny_folder)


def test_a_folder_in_use_is_not_overwritten(tiny, tiny_folder, tmp_path):
    with pytest.raises(CheckpointError, match="exists already"):
        save_checkpoint(tiny, tiny_folder)
    (tmp_path / "empty").mkdir()
    save_checkpoint(tiny, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


@pytest.mark.parametrize(("version", "age"), [(1, "an older"), (3, "a newer"), (99, "a newer")])
def test_a_checkpoint_of_another_version_is_refused_with_what_to_do(tiny_folder, version, age):
    path = tiny_folder / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema_version": version, "novelty": [1]}))
    with pytest.raises(
        CheckpointError, match=f"schema_version: {version} is made by {age} version"
    ):
        load_checkpoint(tiny_folder)


def test_provenance_survives_and_the_writer_signs(tiny, tmp_path):
    data = DatasetRecord(name="cubes", episodes=50, licence="CC-BY-4.0")
    origin = replace(tiny.manifest.provenance, datasets=(data,), stage="sft")
    save_checkpoint(
        replace(tiny, manifest=replace(tiny.manifest, provenance=origin)), tmp_path / "c"
    )
    manifest = read_manifest(tmp_path / "c")
    assert manifest.provenance == origin
    assert manifest.created_with == "0.1.0"
    assert len(manifest.weights_sha256) == 64


def test_a_failed_save_leaves_nothing_behind(tiny, tmp_path, monkeypatch):
    def fail(*_args):
        raise OSError("disk full")

    monkeypatch.setattr("qwen_vla_ros.checkpoint.checkpoint.save_weights", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tiny, tmp_path / "new")
    assert not list(tmp_path.iterdir())
