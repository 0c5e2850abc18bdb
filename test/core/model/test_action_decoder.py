from dataclasses import replace

import pytest
import torch

from qwen_vla_ros.model.action_decoder import (
    ActionDecoder,
    Context,
    TimestepEmbedding,
    following,
    with_frozen,
)
from qwen_vla_ros.model.config import NANO, DecoderConfig
from qwen_vla_ros.model.sampling import step_times

CONTEXT_WIDTH, LENGTH, HORIZON = 48, 9, 5
SMALL = DecoderConfig(
    num_blocks=3,
    width=64,
    inner_size=96,
    num_heads=2,
    attention="prefix",
    action_channels=7,
    rope_theta=1e3,
    rope_sections=(6, 5, 5),
)


@pytest.fixture(params=["prefix", "joint"])
def decoder(request, randomize):
    torch.manual_seed(0)
    made = ActionDecoder(replace(SMALL, attention=request.param), CONTEXT_WIDTH).eval()
    randomize(made)
    return made


@pytest.fixture
def call():
    """Context, noisy actions and times of a batch of two."""
    torch.manual_seed(1)
    hidden, positions = torch.randn(2, LENGTH, CONTEXT_WIDTH), torch.randint(0, 9, (3, 2, LENGTH))
    return {
        "context": Context(hidden, positions, None),
        "actions": torch.randn(2, HORIZON, SMALL.action_channels),
        "t": torch.tensor([0.25, 1.0]),
    }


def test_the_answer_has_the_shape_of_the_actions(decoder, call):
    assert decoder(**call).shape == call["actions"].shape


def test_an_untrained_decoder_answers_zero(call):
    assert not ActionDecoder(SMALL, CONTEXT_WIDTH)(**call).any()


def test_what_is_kept_from_load_equals_what_is_computed_in_each_step(decoder, call):
    schedule = decoder.schedule(step_times(4))
    with torch.no_grad():
        prefix = decoder.begin(call["context"], HORIZON, clean=schedule.clean)
        for step, t in enumerate(step_times(4)):
            kept = decoder.velocity(prefix, call["actions"], schedule.steps[step])
            plain = decoder(**{**call, "t": t.expand(2)})
            torch.testing.assert_close(kept, plain, rtol=1e-4, atol=1e-5)


def normal(x, shift, scale):
    """AdaLN, written down."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * (1 + scale) + shift


def written_down(block, x, vectors, angles, sees):
    """A block in terms of matrices; every token has its own AdaLN vectors, (B, S, 6 D)."""
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = vectors.chunk(6, dim=-1)
    query, key, value = (
        part.unflatten(-1, (block.num_heads, -1))
        for part in (normal(x, shift_a, scale_a) @ block.qkv.weight.T).chunk(3, dim=-1)
    )  # (B, S, N, E)
    cos, sin = angles.cos()[:, :, None], angles.sin()[:, :, None]  # (B, S, 1, E / 2)

    def turned(heads):
        first, second = heads.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    scores = torch.einsum("bqne,bkne->bnqk", turned(query), turned(key)) * key.shape[-1] ** -0.5
    seen = scores.masked_fill(~sees, -torch.inf).softmax(-1)
    attended = torch.einsum("bnqk,bkne->bqne", seen, value).flatten(2)
    x = x + gate_a * (attended @ block.attention_out.weight.T)
    gate, up = (normal(x, shift_m, scale_m) @ block.gate_up.weight.T).chunk(2, dim=-1)
    return x + gate_m * ((gate * gate.sigmoid() * up) @ block.down.weight.T)


def angles_at(positions):
    """Frequencies are dealt to time, height and width in turn; (3, B, S) -> (B, S, E / 2)."""
    left, rows = list(SMALL.rope_sections), []
    for pair in range(sum(left)):
        row = pair % 3 if left[pair % 3] else 0
        left[row] -= 1
        rows.append(positions[row] * SMALL.rope_theta ** (-pair / sum(SMALL.rope_sections)))
    return torch.stack(rows, dim=-1)


@pytest.mark.parametrize("freezes", [False, True])
def test_a_step_and_its_gradients_equal_one_pass_over_the_whole_sequence(decoder, call, freezes):
    """Written down as one sequence: who sees whom is a mask, and each token has its own time."""
    is_joint = decoder.is_joint
    frozen = torch.zeros(2, HORIZON, dtype=torch.bool)
    if freezes:
        frozen[0, :2], frozen[1, :3] = True, True
    context, positions = decoder.context_in(call["context"].hidden), call["context"].positions
    x = torch.cat((context, decoder.action_in(call["actions"])), dim=1)
    angles = angles_at(torch.cat((positions, following(positions, HORIZON)), dim=2))
    sees = torch.ones(LENGTH + HORIZON, LENGTH + HORIZON, dtype=torch.bool)
    sees[:LENGTH, LENGTH:] = is_joint
    times = torch.zeros(2, LENGTH + HORIZON)
    times[:, LENGTH:] = call["t"][:, None].masked_fill(frozen, 0.0)
    if is_joint:
        times[:, :LENGTH] = call["t"][:, None]
    each = [x.view(2, LENGTH + HORIZON, -1) for x in decoder.vectors(times.flatten())]
    for block, own in zip(decoder.blocks, each, strict=False):
        x = written_down(block, x, own, angles, sees)
    answer = decoder.action_out(normal(x, *each[-1].chunk(2, dim=-1))[:, LENGTH:])
    stepped = decoder(**call, frozen=frozen if freezes else None)
    torch.testing.assert_close(stepped, answer, rtol=1e-4, atol=1e-5)
    names, weights = zip(*decoder.named_parameters(), strict=True)
    ours, plain = (torch.autograd.grad(y.square().sum(), weights) for y in (stepped, answer))
    for name, found, expected in zip(names, ours, plain, strict=True):
        torch.testing.assert_close(
            found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()), msg=name
        )


def test_context_sees_the_actions_in_joint_mode_only(decoder, call):
    seen = []
    decoder.blocks[-1].register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    for actions in (call["actions"], call["actions"] + 1):
        decoder(**{**call, "actions": actions})
    first, second = (x[:, :-HORIZON] for x in seen)
    if decoder.is_joint:
        assert first.shape[1] == LENGTH
        assert not torch.allclose(first, second)
    else:
        assert first.shape[1] == 0  # a step computes the action tokens alone


def test_every_context_token_matters_to_the_answer(decoder, call):
    hidden = call["context"].hidden.clone().requires_grad_()
    decoder(
        **{**call, "context": replace(call["context"], hidden=hidden)}
    ).square().sum().backward()
    assert (hidden.grad.abs().sum(-1) > 0).all()


def test_masked_context_and_masked_steps_change_nothing(decoder, call):
    context_mask = torch.ones(2, LENGTH, dtype=torch.bool)
    context_mask[0, 6:] = False
    step_mask = torch.ones(2, HORIZON, dtype=torch.bool)
    step_mask[0, 3:] = False
    hidden, positions = call["context"].hidden, call["context"].positions
    positions[:, 0, 6:] = 0
    masked = decoder(
        **{**call, "context": Context(hidden, positions, context_mask)}, step_mask=step_mask
    )
    alone = decoder(
        Context(hidden[:1, :6], positions[:, :1, :6], None), call["actions"][:1, :3], call["t"][:1]
    )
    torch.testing.assert_close(masked[:1, :3], alone, rtol=1e-4, atol=1e-5)


def test_actions_continue_after_the_last_position_on_all_three_rows():
    positions = torch.zeros(3, 2, 4, dtype=torch.long)
    positions[1, 0, 2], positions[2, 1, 0] = 7, 30
    assert following(positions, 3)[0].tolist() == [[8, 9, 10], [31, 32, 33]]
    assert following(positions, 3).shape == (3, 2, 3)


def test_a_gradient_reaches_every_weight_when_rows_are_frozen(decoder, call):
    frozen = torch.zeros(2, HORIZON, dtype=torch.bool)
    frozen[0, :2] = True
    decoder(**call, frozen=frozen).square().sum().backward()
    unreached = [name for name, weight in decoder.named_parameters() if not weight.grad.any()]
    assert not unreached


def test_the_decoder_keeps_no_buffer_that_a_checkpoint_lacks():
    assert not list(ActionDecoder(SMALL, CONTEXT_WIDTH).buffers())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("length", [0, 3])
def test_frozen_actions_are_clean_and_all_other_tokens_as_the_step_says(batch, length):
    rows = torch.tensor([[True, True, False], [False, False, False]])
    step, clean = torch.randn(batch, 1, 12), torch.randn(1, 1, 12)
    (mixed,) = with_frozen((step,), (clean,), rows, length)
    frozen = torch.nn.functional.pad(rows, (length, 0)).unsqueeze(-1)
    torch.testing.assert_close(mixed, torch.where(frozen, clean, step), rtol=0, atol=0)


def test_every_step_of_a_schedule_has_a_time_of_its_own():
    torch.manual_seed(0)
    embedded = TimestepEmbedding(NANO.decoder)(torch.linspace(0, 1, 11))
    assert embedded.shape == (11, NANO.decoder.width)
    assert torch.pdist(embedded).min() > 1e-3


def test_an_untrained_block_only_normalises(call):
    decoder = ActionDecoder(SMALL, CONTEXT_WIDTH)
    assert not any(vectors.any() for vectors in decoder.vectors(call["t"]))


def test_the_weights_have_the_names_that_checkpoints_have():
    names = ActionDecoder(replace(SMALL, num_blocks=1), CONTEXT_WIDTH).state_dict()
    assert {name.rpartition(".")[0] for name in names} == {
        "context_in", "timestep.up", "timestep.down", "action_in.0", "action_in.2",
        "blocks.0.adaln", "blocks.0.qkv", "blocks.0.attention_out", "blocks.0.gate_up",
        "blocks.0.down", "output_adaln", "action_out.0", "action_out.2",
    }  # fmt: skip
