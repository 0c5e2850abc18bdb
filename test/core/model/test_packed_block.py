import pytest
import torch

from qwen_vla_ros.model.block import Block, Past
from qwen_vla_ros.model.config import DecoderConfig
from qwen_vla_ros.model.modulation import BlockModulation
from qwen_vla_ros.model.packed_block import FEW, PackedBlock, can_pack
from qwen_vla_ros.model.rotation import rotation

CONFIG = DecoderConfig(
    num_blocks=1,
    width=96,
    inner_size=80,
    num_heads=3,
    attention="joint",
    rope_theta=1e3,
    rope_sections=(6, 5, 5),
)
MANY = FEW + 23
"""So many tokens that attention is computed head by head."""


@pytest.fixture
def block(randomize):
    torch.manual_seed(0)
    made = Block(CONFIG)
    randomize(made)
    return made


def modulation(block, batch=1):
    """AdaLN vectors as a schedule has them, of one time, or as a batch of times has them."""
    generator = torch.Generator().manual_seed(1)
    shape = (CONFIG.width,) if batch == 1 else (batch, 1, CONFIG.width)
    return BlockModulation.of(block.adaln(torch.randn(shape, generator=generator)))


def tokens(count, batch=1):
    """Tokens and their rotation."""
    generator = torch.Generator().manual_seed(count)
    x = torch.randn(batch, count, CONFIG.width, generator=generator)
    positions = torch.randint(0, 40, (3, batch, count), generator=generator)
    return x, rotation(CONFIG, positions, torch.float32)


def assert_same(packed, plain):
    torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-4)  # of values up to 15


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("last", [None, 5, MANY])
@pytest.mark.parametrize(("count", "batch"), [(9, 1), (MANY, 1), (MANY, 2)])
def test_tokens_among_each_other_come_out_the_same(block, count, batch, last, is_last):
    x, rotate = tokens(count, batch)
    last = None if last is None else min(last, count)
    with torch.inference_mode():
        ours = modulation(block, batch)
        plain, _ = block(x, ours, rotate, last=last)
        packed, _ = PackedBlock(block, is_last=is_last)(x, ours, rotate, last=last)
    assert packed.shape == (batch, last or count, CONFIG.width)
    assert_same(packed, plain)


@pytest.mark.parametrize("is_last", [False, True])
def test_tokens_that_see_what_was_kept_come_out_the_same(block, is_last):
    context, rotate_context = tokens(MANY)
    x, rotate = tokens(7)
    answers = []
    with torch.inference_mode():
        ours = modulation(block)
        for one in (block, PackedBlock(block, is_last=is_last)):
            seen, past = one(context, ours, rotate_context, room=7)
            if is_last:
                past = one.keep(context, ours, rotate_context, 7)
            for _ in range(2):  # what a step leaves behind must not matter to the next
                answer, _ = one(x, ours, rotate, past=past)
            answers.append((seen, answer))
    assert_same(*(seen for seen, _ in answers))
    assert_same(*(answer for _, answer in answers))


def test_masked_keys_are_not_seen(block):
    x, rotate = tokens(MANY)
    visible = torch.rand(1, 1, 1, MANY, generator=torch.Generator().manual_seed(3)) > 0.4
    with torch.inference_mode():
        ours = modulation(block)
        plain, _ = block(x, ours, rotate, visible=visible)
        packed, _ = PackedBlock(block, is_last=False)(x, ours, rotate, visible=visible)
    assert_same(packed, plain)


def test_large_scores_do_not_overflow_attention(block):
    block.qkv.weight.data *= 8
    x, rotate = tokens(MANY)
    with torch.inference_mode():
        ours = modulation(block)
        plain, _ = block(x, ours, rotate)
        packed, _ = PackedBlock(block, is_last=False)(x, ours, rotate)
    assert packed.isfinite().all()
    torch.testing.assert_close(packed, plain, rtol=1e-3, atol=1e-3)


def test_only_float32_on_a_cpu_is_packed():
    assert can_pack(torch.zeros(1))
    assert not can_pack(torch.zeros(1, dtype=torch.bfloat16))
    assert not can_pack(torch.zeros(1, device="meta"))


def test_keys_and_values_with_room_equal_those_that_are_joined():
    key, value, more = torch.randn(3, 1, 2, 4, 8).unbind(0)
    with torch.inference_mode():
        roomy = Past.of(key, value, 4).followed_by(more, more)
    joined = Past.of(key, value).followed_by(more, more)
    for ours, theirs in zip(roomy, joined, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
