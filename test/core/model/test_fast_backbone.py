from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from qwen_vla_ros.model.backbone import Backbone
from qwen_vla_ros.model.fast_backbone import FastBackbone
from qwen_vla_ros.model.inputs import collate

ONE, SQUARES, MIXED = [(64, 96)], [(64, 64)] * 3, [(64, 64), (64, 64), (96, 64), (32, 64)]


@pytest.fixture(scope="module")
def backbone(tiny):
    """A backbone in which every weight has a say: the norms of a fresh one all say 1."""
    whole = deepcopy(tiny.model.backbone)
    generator = torch.Generator().manual_seed(3)
    for parameter in whole.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return whole.eval()


@pytest.fixture(scope="module")
def ask(tiny):
    """Return the function that makes a prompt with images of the given sizes."""

    def make(sizes, words="pick up the red cube", seed=0):
        rng = np.random.default_rng(seed)
        images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in sizes]
        patches = tiny.images(images, sizes)
        text = " then ".join(["<image>"] * len(sizes)) + f"\n{words}"
        return tiny.tokenizer.encode(text, [w * h // 1024 for w, h in sizes]), patches

    return make


def read(backbone, sample, **kwargs):
    tokens, patches = sample
    fast = FastBackbone(backbone)
    with torch.inference_mode():
        layout = fast.lay_out(tokens, [tuple(grid) for grid in patches.grids.tolist()], **kwargs)
        return fast(layout, torch.from_numpy(patches.stills))


def plain(backbone, sample):
    with torch.inference_mode():
        return backbone(collate([sample]))


@pytest.mark.parametrize("sizes", [ONE, SQUARES, MIXED], ids=["one", "equal", "mixed"])
def test_the_fast_path_computes_what_the_plain_path_does(backbone, ask, sizes):
    sample = ask(sizes)
    fast, wanted = read(backbone, sample), plain(backbone, sample)
    torch.testing.assert_close(fast.hidden, wanted.hidden, rtol=0, atol=1e-4)
    assert wanted.hidden.abs().max() > 1  # or the tolerance would mean nothing
    torch.testing.assert_close(fast.positions, wanted.positions, rtol=0, atol=0)
    assert fast.mask is None


def test_a_prompt_of_several_chunks_is_read_the_same(backbone, ask):
    sample = ask(SQUARES, "put the red cube into the blue bowl and then come back " * 4)
    assert len(sample[0].ids) > 70
    fast, wanted = read(backbone, sample), plain(backbone, sample)
    torch.testing.assert_close(fast.hidden, wanted.hidden, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bucket", [1, 16, 64])
def test_padding_does_not_reach_real_tokens(backbone, ask, bucket):
    sample = ask(SQUARES)
    length = len(sample[0].ids)
    padded, wanted = read(backbone, sample, bucket=bucket), plain(backbone, sample)
    assert padded.hidden.shape[1] % bucket == 0
    assert padded.mask.sum() == length
    assert padded.mask[0, :length].all()
    torch.testing.assert_close(padded.hidden[:, :length], wanted.hidden, rtol=0, atol=1e-4)
    torch.testing.assert_close(padded.positions[..., :length], wanted.positions, rtol=0, atol=0)
    assert padded.positions.amax() == wanted.positions.amax()
    assert padded.hidden.isfinite().all()


def test_the_papers_proportions_of_heads_are_read_the_same(tiny, ask):
    """Value heads are four times the key heads, and a quarter of a head is rotated."""
    config = replace(
        tiny.manifest.model.backbone,
        head_dim=64,
        rotary_fraction=0.25,
        rope_sections=(3, 3, 2),
        linear_value_heads=8,
        num_heads=4,
    )
    torch.manual_seed(0)
    other, sample = Backbone(config).eval(), ask(SQUARES)
    torch.testing.assert_close(
        read(other, sample).hidden, plain(other, sample).hidden, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("layer", [0, 1, 3, 4])
def test_the_layer_that_is_read_is_the_plain_paths(backbone, ask, layer):
    early = Backbone(replace(backbone.config, context_layer=layer)).eval()
    early.load_state_dict(backbone.state_dict())
    sample = ask(ONE)
    torch.testing.assert_close(
        read(early, sample).hidden, plain(early, sample).hidden, rtol=0, atol=1e-4
    )


def test_one_layout_serves_all_images(backbone, ask):
    fast = FastBackbone(backbone)
    first, second = ask(SQUARES), ask(SQUARES, seed=1)
    with torch.inference_mode():
        layout = fast.lay_out(first[0], [tuple(grid) for grid in first[1].grids.tolist()])
        seen = [fast(layout, torch.from_numpy(sample[1].stills)) for sample in (first, second)]
    for context, sample in zip(seen, (first, second), strict=True):
        torch.testing.assert_close(
            context.hidden, plain(backbone, sample).hidden, rtol=0, atol=1e-4
        )
    assert not torch.allclose(seen[0].hidden, seen[1].hidden, atol=1e-2)


def test_bfloat16_agrees_to_its_precision(tiny, backbone, ask):
    """The two paths round in different places: they differ by as much as each does from exact."""
    half = deepcopy(tiny.model)
    half.backbone.load_state_dict(backbone.state_dict())
    half = half.cast(torch.bfloat16).backbone
    sample = ask(SQUARES)
    exact = plain(backbone, sample).hidden
    fast, wanted = read(half, sample).hidden, plain(half, sample).hidden
    assert fast.dtype == torch.bfloat16
    spread = exact.std()
    error, usual = ((x.float() - exact).abs().mean() / spread for x in (fast, wanted))
    assert usual < 0.02
    assert error < 1.2 * usual


@pytest.mark.gpu
def test_a_gpu_reads_what_a_cpu_reads(backbone, ask):
    sample = ask(MIXED)
    there = deepcopy(backbone).to("cuda")
    tokens, patches = sample
    fast = FastBackbone(there)
    with torch.inference_mode():
        layout = fast.lay_out(tokens, [tuple(grid) for grid in patches.grids.tolist()], bucket=64)
        seen = fast(layout, torch.from_numpy(patches.stills).cuda())
    wanted = plain(backbone, sample).hidden
    torch.testing.assert_close(
        seen.hidden[:, : wanted.shape[1]].cpu(), wanted, rtol=0.01, atol=0.01
    )
