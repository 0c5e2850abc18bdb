"""Our modules against transformers' own, with the same weights."""

import sys
from copy import deepcopy

import numpy as np
import pytest
import torch

from qwen_vla_ros.model.backbone import Backbone, as_family, in_family_words
from qwen_vla_ros.model.config import PAPER
from qwen_vla_ros.model.family import plain, read_family_config
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
        return tiny.tokenizer.encode(text, patches.token_counts), patches

    return make


def ours(backbone, *samples, multiple=None):
    with torch.no_grad():
        inputs = collate(samples, multiple)
        return backbone(backbone.lay_out(inputs), inputs.pixel_values)


def theirs(backbone, *samples):
    """Hidden states of every layer, as transformers computes them; the last after its norm."""
    with torch.no_grad():
        words = in_family_words(collate(samples), backbone.config)
        family = as_family(backbone).model
        return family(**words, use_cache=False, output_hidden_states=True).hidden_states


def assert_same(found, expected, atol=1e-4):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("sizes", [[], ONE, SQUARES, MIXED], ids=["none", "one", "equal", "mixed"])
def test_the_last_layer_is_the_familys(backbone, ask, sizes):
    context, expected = ours(backbone, ask(sizes)), theirs(backbone, ask(sizes))[-1]
    assert_same(context.hidden, expected)
    assert expected.abs().max() > 1  # or the tolerance would mean nothing
    assert context.mask is None


def test_every_layer_is_the_familys(backbone, ask):
    """Prints how far each is off, for whoever changes one and asks with -s."""
    sample = ask(SQUARES)
    inputs, expected = collate([sample]), theirs(backbone, sample)
    with torch.no_grad():
        layout = backbone.lay_out(inputs)
        found = [
            backbone.hidden_states(layout, inputs.pixel_values, layer)
            for layer in range(len(expected))
        ]
    for layer, (a, b) in enumerate(zip(found, expected, strict=True)):
        sys.stdout.write(f"layer {layer}: {(a - b).abs().max():.1e} of {b.abs().max():.2f}\n")
    for a, b in zip(found, expected, strict=True):
        assert_same(a, b)


def test_a_gradient_is_the_familys_in_every_weight(backbone, ask):
    """Of a padded batch, and of a function in which every real token has a say."""
    samples = [ask(ONE), ask(SQUARES, "put the red cube into the blue bowl " * 4)]
    inputs = collate(samples)
    chance = torch.Generator().manual_seed(0)
    weights = torch.randn(*inputs.token_ids.shape, 64, generator=chance) * inputs.mask.unsqueeze(
        -1
    )
    mine, other = deepcopy(backbone), deepcopy(backbone)
    family = as_family(other)
    context = mine(mine.lay_out(inputs), inputs.pixel_values)
    (context.hidden * weights).sum().backward()
    words = in_family_words(inputs, backbone.config)
    (family.model(**words, use_cache=False).last_hidden_state * weights).sum().backward()
    expected = dict(family.named_parameters())
    for name, parameter in mine.named_parameters():
        wanted = expected[name].grad
        assert wanted.abs().max() > 0, name
        assert_same(parameter.grad, wanted, atol=1e-3 * float(wanted.abs().max()) + 1e-4)


def test_a_prompt_of_several_chunks_is_read_the_same(backbone, ask):
    sample = ask(SQUARES, "put the red cube into the blue bowl and then come back " * 4)
    assert len(sample[0].ids) > 70
    assert_same(ours(backbone, sample).hidden, theirs(backbone, sample)[-1])


def test_a_batch_answers_as_its_samples_do_alone(backbone, ask):
    samples = [ask(ONE), ask(SQUARES, "put the red cube into the blue bowl")]
    together = ours(backbone, *samples)
    for row, sample in enumerate(samples):
        alone, length = ours(backbone, sample), len(sample[0].ids)
        assert alone.mask is None
        assert together.mask[row].sum() == length
        assert_same(together.hidden[row, :length], alone.hidden[0])
        assert_same(together.positions[:, row, :length], alone.positions[:, 0], atol=0)


@pytest.mark.parametrize("multiple", [1, 16, 64])
def test_padding_does_not_reach_real_tokens(backbone, ask, multiple):
    sample = ask(SQUARES)
    length = len(sample[0].ids)
    padded, wanted = ours(backbone, sample, multiple=multiple), ours(backbone, sample)
    assert padded.hidden.shape[1] % multiple == 0
    assert padded.mask.sum() == length
    assert padded.mask[0, :length].all()
    assert_same(padded.hidden[:, :length], wanted.hidden)
    assert_same(padded.positions[..., :length], wanted.positions, atol=0)
    assert padded.positions.amax() == wanted.positions.amax()
    assert padded.hidden.isfinite().all()


def test_the_papers_proportions_of_heads_are_read_the_same(tiny, ask):
    """Value heads are four times the key heads, and a quarter of a head is rotated."""
    values = plain(tiny.manifest.model.backbone)
    values["text_config"] |= {
        "head_dim": 64,
        "linear_num_value_heads": 8,
        "num_attention_heads": 4,
    }
    values["text_config"]["rope_parameters"] |= {
        "partial_rotary_factor": 0.25, "mrope_section": [3, 3, 2]
    }  # fmt: skip
    torch.manual_seed(0)
    other, sample = Backbone(read_family_config(values)).eval(), ask(SQUARES)
    assert_same(ours(other, sample).hidden, theirs(other, sample)[-1])


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_the_layer_that_the_decoder_reads_can_be_chosen(backbone, ask, layer):
    early = Backbone(backbone.config, layer).eval()
    early.load_state_dict(backbone.state_dict())
    assert_same(ours(early, ask(ONE)).hidden, theirs(backbone, ask(ONE))[layer])


def test_one_layout_serves_all_images(backbone, ask):
    first, second = ask(SQUARES), ask(SQUARES, seed=1)
    with torch.no_grad():
        layout = backbone.lay_out(collate([first]))
        seen = [backbone(layout, collate([sample]).pixel_values) for sample in (first, second)]
    for context, sample in zip(seen, (first, second), strict=True):
        assert_same(context.hidden, theirs(backbone, sample)[-1])
    assert not torch.allclose(seen[0].hidden, seen[1].hidden, atol=1e-2)


def test_a_layout_takes_over_what_another_knows_of_images_of_the_same_sizes(backbone, ask):
    one, same, other = (collate([ask(sizes)]) for sizes in (SQUARES, SQUARES, MIXED))
    with torch.no_grad():
        first = backbone.lay_out(one)
        assert backbone.lay_out(same, first).vision is first.vision
        assert backbone.lay_out(other, first).vision.grids == other.grids
        assert backbone.lay_out(collate([ask([])]), first).vision is None


def test_bfloat16_agrees_to_its_precision(tiny, backbone, ask):
    """The two round in different places: they differ by as much as each does from exact."""
    half = deepcopy(tiny.model)
    half.backbone.load_state_dict(backbone.state_dict())
    half, sample = half.cast(torch.bfloat16).backbone, ask(SQUARES)
    exact = theirs(backbone, sample)[-1]
    mine, wanted = ours(half, sample).hidden, theirs(half, sample)[-1]
    assert mine.dtype == torch.bfloat16
    spread = exact.std()
    error, usual = ((x.float() - exact).abs().mean() / spread for x in (mine, wanted))
    assert usual < 0.02
    assert error < 1.2 * usual


def test_the_weights_and_their_names_are_the_familys_and_exist_once(backbone):
    family = as_family(backbone)
    theirs, mine = dict(family.named_parameters()), dict(backbone.named_parameters())
    assert mine.keys() == theirs.keys()
    assert all(mine[name].data_ptr() == theirs[name].data_ptr() for name in mine)
    assert family.lm_head.weight is family.model.language_model.embed_tokens.weight
    assert not list(backbone.buffers())  # or a model built on the meta device would lack them


def test_the_papers_backbone_has_the_published_token_ids():
    config = PAPER.backbone
    ids = config.vision_start_token_id, config.vision_end_token_id
    assert (*ids, config.image_token_id, config.video_token_id) == (248053, 248054, 248056, 248057)
    assert config.text_config.layer_types[:4] == ["linear_attention"] * 3 + ["full_attention"]


@pytest.mark.gpu
def test_a_gpu_reads_what_a_cpu_reads(backbone, ask):
    sample = ask(MIXED)
    there, inputs = deepcopy(backbone).to("cuda"), collate([sample], 64)
    with torch.no_grad():
        moved = inputs.to(torch.device("cuda"))
        seen = there(there.lay_out(moved), moved.pixel_values)
    wanted = ours(backbone, sample).hidden
    torch.testing.assert_close(
        seen.hidden[:, : wanted.shape[1]].cpu(), wanted, rtol=0.01, atol=0.01
    )
