import torch
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5TextRotaryEmbedding

from qwen_vla_ros.model.config import PAPER
from qwen_vla_ros.model.rotation import rotation_at

POSITIONS = torch.randint(0, 500, (3, 2, 11), generator=torch.Generator().manual_seed(0))
SECTIONS, BASE = PAPER.decoder.rope_sections, PAPER.decoder.rope_theta


def test_positions_are_rotated_as_in_the_family():
    theirs = Qwen3_5TextRotaryEmbedding(PAPER.backbone.text_config)
    cos, sin = theirs(torch.zeros(1), POSITIONS)
    ours = rotation_at(POSITIONS, SECTIONS, BASE, torch.float32)
    x = torch.randn(2, 11, 24, 64)
    first, second = x.chunk(2, dim=-1)
    expected = x * cos[:, :, None] + torch.cat((-second, first), dim=-1) * sin[:, :, None]
    torch.testing.assert_close(ours(x), expected)


def test_the_rest_of_a_head_is_left_alone():
    rotate = rotation_at(POSITIONS, SECTIONS, BASE, torch.float32)
    x = torch.randn(2, 11, 3, 256)
    torch.testing.assert_close(rotate(x)[..., :64], rotate(x[..., :64]), rtol=0, atol=0)
    torch.testing.assert_close(rotate(x)[..., 64:], x[..., 64:], rtol=0, atol=0)


def test_a_rotation_is_split_between_tokens():
    x = torch.randn(2, 11, 24, 64)
    whole = rotation_at(POSITIONS, SECTIONS, BASE, torch.float32)
    before, after = whole.split(4)
    parts = torch.cat((before(x[:, :4]), after(x[:, 4:])), dim=1)
    torch.testing.assert_close(parts, whole(x))


def test_half_precision_has_the_angles_of_single_precision():
    exact = rotation_at(POSITIONS, SECTIONS, BASE, torch.float32)
    half = rotation_at(POSITIONS, SECTIONS, BASE, torch.bfloat16)
    torch.testing.assert_close(half.cos, exact.cos.bfloat16())
    assert half(torch.ones(2, 11, 1, 64).bfloat16()).dtype == torch.bfloat16
