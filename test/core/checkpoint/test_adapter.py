import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen_vla_ros.checkpoint.adapter import add_adapter, save_adapter
from qwen_vla_ros.checkpoint.checkpoint import load_checkpoint, read_manifest
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.inputs import collate
from qwen_vla_ros.model.sampling import draw_noise
from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy
from qwen_vla_ros.prompt.build import build_prompt

pytestmark = pytest.mark.slow

LAYERS = ["q_proj", "in_proj_qkv", "down_proj", "qkv", "attention_out", "gate_up"]
ONE = "base_model.model.decoder.blocks.1.gate_up.lora_{}.weight"


def stir(model, seed=0):
    """Give the second matrices, which begin as zero, something to say."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def observed(tiny, aloha):
    """Inputs, noisy actions, flow time and mask of one step of training."""
    prompt, observation = build_prompt(aloha, "pick up the red cube"), aloha.make_example()
    sizes = [(x.input_width_px, x.input_height_px) for x in aloha.file.cameras]
    patches = tiny.images([observation.images[name] for name in prompt.cameras], sizes)
    mask = torch.ones(1, 16, 64, dtype=torch.bool)
    noise = draw_noise(mask, torch.Generator().manual_seed(0))
    inputs = collate([(tiny.tokenizer.encode(prompt.text, patches.token_counts), patches)])
    return inputs, noise, torch.tensor([0.5]), mask


def outputs(model, observed):
    with torch.no_grad():
        layout = model.backbone.lay_out(observed[0])
        hidden = model.backbone.hidden_states(layout, observed[0].pixel_values)
        return hidden.float().numpy(), model(*observed).numpy()


@pytest.fixture
def made(tiny_folder, tmp_path, observed):
    """An adapter that peft made and saved, and what the model says with it."""
    from peft import LoraConfig, get_peft_model  # slow to import, and not every run needs it

    def make(*, stirred=True, **settings):
        model = load_checkpoint(tiny_folder).model
        config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": LAYERS, **settings})
        adapted = get_peft_model(model, config)
        if stirred:
            stir(model)
        adapted.save_pretrained(str(tmp_path / "adapter"))
        return tmp_path / "adapter", outputs(model.eval(), observed)

    return make


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"qkv": 2, "gate_up": 8}, "alpha_pattern": {"blocks.1.qkv": 3}},
        {"layers_to_transform": [1], "layers_pattern": "blocks", "target_modules": ["qkv"]},
        {"target_modules": r".*\.(q_proj|attention_out)"},
        {"init_lora_weights": "gaussian"},
    ],
    ids=["plain", "rslora", "patterns", "some layers", "by pattern", "gaussian"],
)
def test_an_adapter_of_peft_gives_the_same_outputs_merged(made, tiny_folder, observed, settings):
    folder, expected = made(**settings)
    plain = outputs(load_checkpoint(tiny_folder).model, observed)
    merged = outputs(load_checkpoint(tiny_folder, adapter=folder).model, observed)
    for found, wanted in zip(merged, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert abs(merged[1] - plain[1]).max() > 1e-3


def test_an_adapter_that_was_not_trained_changes_nothing(made, tiny_folder):
    folder, _ = made(stirred=False)
    plain, merged = load_checkpoint(tiny_folder), load_checkpoint(tiny_folder, adapter=folder)
    for (name, a), b in zip(
        plain.model.named_parameters(), merged.model.parameters(), strict=True
    ):
        assert torch.equal(a, b), name


def test_an_adapter_is_merged_into_bfloat16_weights_too(made, tiny_folder, observed):
    folder, expected = made()
    model = load_checkpoint(tiny_folder, dtype=torch.bfloat16, adapter=folder).model
    assert model.decoder.blocks[1].gate_up.weight.dtype == torch.bfloat16
    found = outputs(model, observed)[1]
    assert abs(found - expected[1]).mean() < 0.05 * abs(expected[1]).mean()


def test_an_adapter_made_here_survives_its_files(tiny_folder, tmp_path, observed):
    model, manifest = load_checkpoint(tiny_folder).model, read_manifest(tiny_folder)
    adapted = add_adapter(model, rank=2, alpha=4)
    trained = {name for name, x in model.named_parameters() if x.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)
    stir(model)
    save_adapter(adapted, tmp_path / "mine", manifest)
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    noted = json.loads((tmp_path / "mine" / "adapter_config.json").read_text())
    assert noted["revision"] == f"sha256:{manifest.weights_sha256}"
    expected = outputs(model.eval(), observed)
    merged = outputs(load_checkpoint(tiny_folder, adapter=tmp_path / "mine").model, observed)
    for found, wanted in zip(merged, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_new_adapter_changes_nothing_and_learns(tiny_folder, observed):
    model = load_checkpoint(tiny_folder).model
    before = outputs(model, observed)
    add_adapter(model)
    np.testing.assert_allclose(outputs(model, observed)[1], before[1], atol=1e-6)
    model(*observed).square().sum().backward()
    grads = {name: x.grad for name, x in model.named_parameters() if x.grad is not None}
    assert any("lora_B" in name and grad.abs().max() > 0 for name, grad in grads.items())
    assert all(".lora_" in name for name in grads)


def test_an_adapter_is_not_saved_over_something(tiny_folder, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    adapted = add_adapter(load_checkpoint(tiny_folder).model)
    with pytest.raises(CheckpointError, match="exists already"):
        save_adapter(adapted, tmp_path / "taken", read_manifest(tiny_folder))


def test_an_adapter_of_other_weights_is_refused(tiny_folder, tmp_path):
    save_adapter(
        add_adapter(load_checkpoint(tiny_folder).model), tmp_path / "a", read_manifest(tiny_folder)
    )
    config = tiny_folder / "config.json"
    digest = read_manifest(tiny_folder).weights_sha256
    config.write_text(config.read_text().replace(digest, "0" * 64))
    with pytest.raises(CheckpointError, match="was trained on other weights"):
        load_checkpoint(tiny_folder, adapter=tmp_path / "a")


def edit(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: x.pop(ONE.format("B")), "lora_B of 'decoder.blocks.1.gate_up' is missing"),
        (
            lambda x: [x.pop(ONE.format(side)) for side in "AB"],
            "lora_A of 'decoder.blocks.1.gate_up' is missing",
        ),
        (
            lambda x: x.update({ONE.format("A"): torch.zeros(3, 64)}),
            r"'decoder.blocks.1.gate_up' lora_A has shape \[3, 64\]; with rank 4 .* \[4, 64\]",
        ),
        (
            lambda x: x.update({ONE.format("B"): torch.zeros(192, 5)}),
            r"lora_B has shape \[192, 5\]",
        ),
        (
            lambda x: x[ONE.format("A")].fill_(float("nan")),
            "holds a number that is not finite",
        ),
        (
            lambda x: [x[ONE.format(side)].fill_(3e38) for side in "AB"],
            "makes 'decoder.blocks.1.gate_up' a weight that is not finite",
        ),
        (
            lambda x: x.update({ONE.format("A").replace("blocks", "block"): torch.ones(4, 64)}),
            "no linear layer 'decoder.block.1.gate_up'. Did you mean 'decoder.blocks.1.gate_up'",
        ),
        (
            lambda x: x.update(
                {"base_model.model.backbone.lm_head.lora_A.weight": torch.ones(4, 64)}
            ),
            "no linear layer 'backbone.lm_head'",
        ),
        (
            lambda x: x.update({"decoder.context_in.weight": torch.ones(64, 64)}),
            "is no weight of a LoRA adapter",
        ),
        (
            lambda x: x.update({"base_model.model.x.lora_magnitude_vector": torch.ones(4)}),
            "is no weight of a LoRA adapter",
        ),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(made, tiny_folder, change, sentence):
    folder, _ = made()
    edit(folder, change)
    with pytest.raises(CheckpointError, match=rf"adapter_model\.safetensors: .*{sentence}"):
        load_checkpoint(tiny_folder, adapter=folder)


def test_a_target_that_the_model_lacks_is_refused_with_what_was_meant(made, tiny_folder):
    folder, _ = made()
    path = folder / "adapter_config.json"
    path.write_text(path.read_text().replace('"gate_up"', '"gateup"'))
    with pytest.raises(CheckpointError, match=r"'gateup'\. Did you mean 'gate_up'"):
        load_checkpoint(tiny_folder, adapter=folder)


@pytest.mark.parametrize("name", ["adapter_model.bin", "hook.py", "training_args.bin"])
def test_an_adapter_with_a_file_that_could_run_is_refused(made, tiny_folder, name):
    folder, _ = made()
    (folder / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match="can run code"):
        load_checkpoint(tiny_folder, adapter=folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_of_an_adapter_is_named(made, tiny_folder, name):
    folder, _ = made()
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name}: missing"):
        load_checkpoint(tiny_folder, adapter=folder)


def test_a_missing_adapter_is_refused(tiny_folder, tmp_path):
    with pytest.raises(CheckpointError, match="there is no such folder; an adapter is one"):
        load_checkpoint(tiny_folder, adapter=tmp_path / "nowhere")


def test_a_policy_acts_with_an_adapter(made, tiny_folder, aloha):
    folder, _ = made()
    policy = QwenVlaPolicy(load_checkpoint(tiny_folder, adapter=folder), aloha, seed=0)
    plain = QwenVlaPolicy(load_checkpoint(tiny_folder), aloha, seed=0)
    asked = aloha.make_example(), build_prompt(aloha, "wait")
    assert abs(policy.infer(*asked).actions - plain.infer(*asked).actions).max() > 1e-6
