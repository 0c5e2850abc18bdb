import torch
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5TextRotaryEmbedding

from qwen_vla_ros.model.backbone import family_config
from qwen_vla_ros.model.config import PAPER
from qwen_vla_ros.model.rotation import following, rotation

POSITIONS = torch.randint(0, 500, (3, 2, 11), generator=torch.Generator().manual_seed(0))


def test_positions_are_rotated_as_in_the_backbone():
    theirs = Qwen3_5TextRotaryEmbedding(family_config(PAPER.backbone).text_config)
    cos, sin = theirs(torch.zeros(1), POSITIONS)
    ours = rotation(PAPER.decoder, POSITIONS, torch.float32)
    x = torch.randn(2, 24, 11, 64)
    first, second = x.chunk(2, dim=-1)
    expected = x * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]
    torch.testing.assert_close(ours(x), expected)


def test_a_head_of_complex_numbers_is_turned_alike():
    rotate = rotation(PAPER.decoder, POSITIONS, torch.float32)
    x = torch.randn(2, 24, 11, 64)
    turned = torch.complex(*x.chunk(2, dim=-1)) * rotate.turns
    torch.testing.assert_close(torch.cat((turned.real, turned.imag), dim=-1), rotate(x))


def test_a_rotation_is_split_between_tokens():
    x = torch.randn(2, 24, 11, 64)
    whole = rotation(PAPER.decoder, POSITIONS, torch.float32)
    before, after = whole.split(4)
    parts = torch.cat((before(x[:, :, :4]), after(x[:, :, 4:])), dim=2)
    torch.testing.assert_close(parts, whole(x))
    turns = torch.cat((before.turns, after.turns), dim=2)
    torch.testing.assert_close(turns, whole.turns)


def test_half_precision_has_the_angles_of_single_precision():
    exact = rotation(PAPER.decoder, POSITIONS, torch.float32)
    half = rotation(PAPER.decoder, POSITIONS, torch.bfloat16)
    torch.testing.assert_close(half.cos, exact.cos.bfloat16())
    assert half.turns is None


def test_positions_follow_the_greatest_of_all_three_rows():
    positions = torch.zeros(3, 2, 4, dtype=torch.long)
    positions[1, 0, 2], positions[2, 1, 0] = 7, 30
    assert following(positions, 3)[0].tolist() == [[8, 9, 10], [31, 32, 33]]
    assert following(positions, 3).shape == (3, 2, 3)
