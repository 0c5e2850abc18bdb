import pytest
import torch
from torch.nn import functional

from qwen_vla_ros.model.config import NANO
from qwen_vla_ros.model.modulation import (
    BlockModulation,
    MixedNorm,
    Modulation,
    Norm,
    TimestepEmbedding,
)

WIDTH, LENGTH, HORIZON = 12, 3, 4
ROWS = torch.tensor([[True, True, False, False], [False, False, False, False]])


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def modulation(seed, *batch):
    blocks = tuple(BlockModulation.of(draw(*batch, 6 * WIDTH, seed=seed + i)) for i in range(2))
    return Modulation(blocks, Norm.of(*draw(*batch, 2 * WIDTH, seed=seed + 2).chunk(2, dim=-1)))


def test_vectors_of_one_time_and_of_a_batch_of_times_do_the_same():
    x, shift, scale = draw(2, 5, WIDTH), draw(WIDTH, seed=1), draw(WIDTH, seed=2)
    expected = functional.layer_norm(x, (WIDTH,)) * (1 + scale) + shift
    torch.testing.assert_close(Norm.of(shift, scale)(x), expected)
    torch.testing.assert_close(Norm.of(shift.view(1, 1, -1), scale.view(1, 1, -1))(x), expected)


def test_an_untrained_adaln_only_normalises():
    zero = BlockModulation.of(torch.zeros(6 * WIDTH))
    x = draw(2, 5, WIDTH)
    torch.testing.assert_close(zero.mlp(x), functional.layer_norm(x, (WIDTH,)))
    assert not zero.attention_gate.any()


@pytest.mark.parametrize("batch", [(), (2, 1)])
@pytest.mark.parametrize("length", [0, LENGTH])
def test_frozen_actions_are_clean_and_all_other_tokens_as_the_step_says(batch, length):
    step, clean = modulation(0, *batch), modulation(50, *batch)
    mixed = step.frozen(ROWS, clean, length)
    x = draw(2, length + HORIZON, WIDTH)
    frozen = functional.pad(ROWS, (length, 0)).unsqueeze(-1)
    pairs = [(mixed.output, step.output, clean.output)]
    for ours, theirs, zero in zip(mixed.blocks, step.blocks, clean.blocks, strict=True):
        pairs += [
            (ours.attention, theirs.attention, zero.attention),
            (ours.mlp, theirs.mlp, zero.mlp),
        ]
        for gate in ("attention_gate", "mlp_gate"):
            expected = torch.where(frozen, getattr(zero, gate), getattr(theirs, gate))
            torch.testing.assert_close(getattr(ours, gate), expected, rtol=0, atol=0)
    for ours, theirs, zero in pairs:
        torch.testing.assert_close(ours(x), torch.where(frozen, zero(x), theirs(x)))


def test_where_nothing_is_frozen_every_number_is_the_steps():
    step, clean = modulation(0), modulation(50)
    mixed = step.frozen(torch.zeros_like(ROWS), clean, LENGTH)
    x = draw(2, LENGTH + HORIZON, WIDTH)
    torch.testing.assert_close(mixed.output(x), step.output(x), rtol=0, atol=0)


def test_the_last_tokens_keep_their_gates():
    mixed = modulation(0).frozen(ROWS, modulation(50), LENGTH).blocks[0]
    last = mixed.last(HORIZON)
    torch.testing.assert_close(last.mlp_gate, mixed.mlp_gate[:, LENGTH:], rtol=0, atol=0)
    alike = modulation(0).blocks[0]
    assert alike.last(HORIZON).mlp_gate is alike.mlp_gate


def test_actions_are_frozen_once():
    mixed = modulation(0).frozen(ROWS, modulation(50), 0)
    assert isinstance(mixed.output, MixedNorm)
    with pytest.raises(ValueError, match="frozen already"):
        mixed.frozen(ROWS, modulation(50), 0)


def test_every_step_of_a_schedule_has_a_time_of_its_own():
    torch.manual_seed(0)
    embedded = TimestepEmbedding(NANO.decoder)(torch.linspace(0, 1, 11))
    assert embedded.shape == (11, NANO.decoder.width)
    assert torch.pdist(embedded).min() > 1e-3
