import json
import subprocess
import sys

import pytest
import torch
from transformers.models.qwen3_5 import Qwen3_5ForConditionalGeneration

from qwen_vla_ros.checkpoint.weights import (
    fresh_model,
    is_finite,
    load_weights,
    model_slots,
    save_weights,
)
from qwen_vla_ros.model.config import NANO, PAPER
from qwen_vla_ros.model.model import QwenVla

CPU = torch.device("cpu")


@pytest.fixture
def config(tiny):
    return tiny.manifest.model


def assert_same_kind(found, expected):
    """Same names, shapes and dtypes of parameters, all of them in memory; and no buffers."""
    assert {n: (x.shape, x.dtype) for n, x in found.named_parameters()} == {
        n: (x.shape, x.dtype) for n, x in expected.named_parameters()
    }
    assert not any(x.is_meta for x in found.parameters())
    assert not list(found.buffers())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_model_is_like_one_that_was_built_and_cast(config, dtype):
    assert_same_kind(fresh_model(config, 0, dtype=dtype), QwenVla(config).cast(dtype))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loaded_model_is_like_one_that_was_built_and_cast(config, tiny, tmp_path, dtype):
    save_weights(tmp_path, tiny.model)
    loaded = load_weights(tmp_path, config, CPU, dtype)
    assert_same_kind(loaded, QwenVla(config).cast(dtype))


@pytest.mark.slow
def test_casting_while_loading_is_casting_after_loading(config, tiny, tmp_path):
    save_weights(tmp_path, tiny.model)
    direct = load_weights(tmp_path, config, CPU, torch.bfloat16)
    later = load_weights(tmp_path, config, CPU, torch.float32).cast(torch.bfloat16)
    for (name, a), b in zip(direct.named_parameters(), later.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fresh_weights_are_spread_as_those_of_a_built_model(dtype):
    torch.manual_seed(1)
    built = dict(QwenVla(NANO).named_parameters())
    for name, weight in fresh_model(NANO, 0, dtype=dtype).named_parameters():
        (mean, spread, top), (wanted, wide, high) = (
            (float(x.mean()), float(x.std()), float(x.abs().max()))
            for x in (weight.detach().float(), built[name].detach())
        )
        if weight.numel() > 1000:  # fewer are too few to tell
            assert spread == pytest.approx(wide, rel=0.1, abs=1e-6), name
            assert mean == pytest.approx(wanted, abs=0.1 * wide + 1e-6), name
        assert mean == pytest.approx(wanted, abs=3 * wide + 1e-6), name
        assert top <= 1.5 * high + 1e-6, name


@pytest.mark.slow
def test_fresh_weights_depend_on_the_seed_alone(config):
    state = torch.random.get_rng_state()
    one, other = fresh_model(config, 3), fresh_model(config, 4)
    torch.manual_seed(99)
    same = fresh_model(config, 3)
    for (name, a), b in zip(one.named_parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(one.decoder.context_in.weight, other.decoder.context_in.weight)
    torch.random.set_rng_state(state)


def test_neither_a_fresh_nor_a_loaded_model_touches_the_processs_settings(config, tiny, tmp_path):
    before = torch.random.get_rng_state()
    save_weights(tmp_path, tiny.model)
    fresh_model(config, 3, dtype=torch.bfloat16)
    load_weights(tmp_path, config, CPU, torch.bfloat16)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.slow
def test_the_weights_of_a_backbone_are_taken_and_the_decoder_is_the_seeds(config, published):
    one = fresh_model(config, 3, published, dtype=torch.bfloat16)
    other = fresh_model(config, 4, published, dtype=torch.bfloat16)
    alone = fresh_model(config, 3, dtype=torch.bfloat16)
    assert torch.equal(one.decoder.context_in.weight, alone.decoder.context_in.weight)
    assert not torch.equal(one.decoder.context_in.weight, other.decoder.context_in.weight)
    for a, b in zip(one.backbone.parameters(), other.backbone.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_several_files_hold_what_one_file_holds(config, tiny, tmp_path):
    one, several = tmp_path / "one", tmp_path / "several"
    one.mkdir()
    several.mkdir()
    digest = save_weights(one, tiny.model)
    assert save_weights(several, tiny.model, shard_bytes=300_000) == digest
    files = sorted(several.glob("*.safetensors"))
    assert len(files) > 3
    largest = max(x.nbytes for x in tiny.model.parameters())
    assert all(file.stat().st_size < max(300_000, largest) + 20_000 for file in files)
    a, b = (load_weights(folder, config, CPU, torch.float32) for folder in (one, several))
    for (name, x), y in zip(a.named_parameters(), b.parameters(), strict=True):
        assert torch.equal(x, y), name


def test_the_index_is_the_one_that_transformers_writes(published, tiny, tmp_path):
    save_weights(tmp_path, tiny.model, shard_bytes=300_000)
    ours, theirs = (
        json.loads((folder / "model.safetensors.index.json").read_text())
        for folder in (tmp_path, published)
    )
    assert ours.keys() == theirs.keys()
    assert ours["metadata"]["total_size"] == sum(x.nbytes for x in tiny.model.parameters())
    backbone = {
        name.removeprefix("backbone.")
        for name in ours["weight_map"]
        if name.startswith("backbone")
    }
    assert backbone == set(theirs["weight_map"])


def test_the_digest_sees_one_bit(config, tmp_path):
    model = fresh_model(config, 0)
    digests = []
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        digests.append(save_weights(tmp_path / name, model))
        model.decoder.action_out[2].bias.data[5] = 1e-30
    assert digests[0] != digests[1]


@pytest.mark.slow
def test_the_papers_model_in_bfloat16_keeps_some_weights_exact():
    slots = model_slots(PAPER, torch.bfloat16)
    exact = {name for name, slot in slots.items() if slot.dtype == torch.float32}
    assert len(exact) == 2 * 24  # two of each delta net, in three layers of four
    assert slots["decoder.context_in.weight"].shape == (1536, 2560)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("at", [0, 500, 1000])
def test_one_number_that_is_not_finite_is_seen_anywhere(dtype, value, at):
    tensor = torch.linspace(-3, 3, 1001).to(dtype)
    assert is_finite(tensor)
    tensor[at] = value
    assert not is_finite(tensor)


PEAK = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from qwen_vla_ros.model.config import NANO
from qwen_vla_ros.model.family import plain, read_family_config
from qwen_vla_ros.checkpoint.weights import fresh_model, load_weights, save_weights

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3

torch.set_num_threads(1)
wide = plain(NANO.backbone)
wide["text_config"] |= {"hidden_size": 1024, "vocab_size": 80_000}
wide["vision_config"] |= {"out_hidden_size": 1024}
config = replace(NANO, backbone=read_family_config(wide))
before, folder = peak(), Path(sys.argv[1])
model = fresh_model(config, 0, dtype=torch.bfloat16)
print(sum(x.nbytes for x in model.parameters()) / 1e6, peak() - before)
"""


@pytest.mark.slow
def test_a_large_model_is_drawn_without_a_second_copy(tmp_path):
    command = [sys.executable, "-c", PEAK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, needed = map(float, done.stdout.split())
    assert size > 160
    assert needed < 1.4 * size  # megabytes; a copy in float32 would make it 3


@pytest.mark.slow
def test_fresh_weights_of_the_backbone_are_spread_as_the_familys():
    torch.manual_seed(1)
    theirs = dict(Qwen3_5ForConditionalGeneration(NANO.backbone).named_parameters())
    for name, weight in fresh_model(NANO, 0).backbone.named_parameters():
        ours, wanted = weight.detach(), theirs[name].detach()
        wide, mean = float(wanted.std()), float(wanted.mean())
        if weight.numel() > 1000 or wide == 0:  # fewer are too few to tell
            assert float(ours.mean()) == pytest.approx(mean, abs=0.1 * wide + 1e-6), name
            assert float(ours.std()) == pytest.approx(wide, rel=0.1, abs=1e-6), name
