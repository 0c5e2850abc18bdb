from dataclasses import replace

import pytest
import torch
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5TextRotaryEmbedding

from qwen_vla_ros.policy.action_decoder import ActionDecoder, modulate, rotation
from qwen_vla_ros.policy.backbone import family_config
from qwen_vla_ros.policy.config import PAPER, DecoderConfig
from qwen_vla_ros.policy.flow import step_times

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
    made = ActionDecoder(replace(SMALL, attention=request.param), CONTEXT_WIDTH).eval()
    randomize(made)
    return made


@pytest.fixture
def call():
    """Context, positions, noisy actions and times of a batch of two."""
    torch.manual_seed(1)
    return {
        "context": torch.randn(2, LENGTH, CONTEXT_WIDTH),
        "positions": torch.randint(0, 9, (3, 2, LENGTH)),
        "actions": torch.randn(2, HORIZON, SMALL.action_channels),
        "t": torch.tensor([0.25, 1.0]),
    }


def test_the_answer_has_the_shape_of_the_actions(decoder, call):
    assert decoder(**call).shape == call["actions"].shape


def test_an_untrained_decoder_answers_zero(call):
    assert not ActionDecoder(SMALL, CONTEXT_WIDTH)(**call).any()


def test_adaln_vectors_kept_from_load_equal_those_computed_in_each_step(decoder, call):
    schedule = decoder.schedule(4)
    prefix = decoder.begin(call["context"], call["positions"], HORIZON, clean=schedule.clean)
    for step, t in enumerate(step_times(4)):
        kept = decoder.velocity(prefix, call["actions"], schedule.steps[step])
        naive = decoder(call["context"], call["positions"], call["actions"], t.expand(2))
        torch.testing.assert_close(kept, naive)


def test_keys_kept_from_the_prefix_equal_one_pass_over_the_whole_sequence(decoder, call):
    """Written out as one sequence: who sees whom is a mask, and each token has its own time."""
    is_joint = decoder.is_joint
    context = decoder.context_in(call["context"])
    x = torch.cat((context, decoder.action_in(call["actions"])), dim=1)
    last = call["positions"].amax(dim=(0, 2))
    after = (last[:, None] + 1 + torch.arange(HORIZON)).expand(3, -1, -1)
    rotate = rotation(decoder.config, torch.cat((call["positions"], after), dim=2), x.dtype)
    sees = torch.ones(LENGTH + HORIZON, LENGTH + HORIZON, dtype=torch.bool)
    sees[:LENGTH, LENGTH:] = is_joint
    at_t, clean = decoder.modulation(call["t"]), decoder.modulation(torch.zeros(2))
    for block, ours, zero in zip(decoder.blocks, at_t.blocks, clean.blocks, strict=True):
        own = (ours if is_joint else zero).expand(-1, LENGTH, -1)
        x, _ = block(x, torch.cat((own, ours.expand(-1, HORIZON, -1)), 1), rotate, visible=sees)
    shift, scale = at_t.output.chunk(2, dim=-1)
    written_out = decoder.action_out(modulate(x[:, LENGTH:], shift, scale))
    torch.testing.assert_close(decoder(**call), written_out, rtol=1e-4, atol=1e-5)


def test_context_sees_the_actions_in_joint_mode_only(decoder, call):
    seen = []
    decoder.blocks[-1].register_forward_hook(lambda _module, args, _out: seen.append(args[0]))
    for actions in (call["actions"], call["actions"] + 1):
        decoder(**{**call, "actions": actions})
    first, second = (x[:, :-HORIZON] for x in seen)
    if decoder.is_joint:
        assert first.shape[1] == LENGTH
        assert not torch.allclose(first, second)
    else:
        assert first.shape[1] == 0  # a step computes the action tokens alone


def test_every_context_token_matters_to_the_answer(decoder, call):
    context = call["context"].clone().requires_grad_()
    decoder(**{**call, "context": context}).square().sum().backward()
    assert (context.grad.abs().sum(-1) > 0).all()


def test_masked_context_and_masked_steps_change_nothing(decoder, call):
    context_mask = torch.ones(2, LENGTH, dtype=torch.bool)
    context_mask[0, 6:] = False
    step_mask = torch.ones(2, HORIZON, dtype=torch.bool)
    step_mask[0, 3:] = False
    call["positions"][:, 0, 6:] = 0
    masked = decoder(**call, context_mask=context_mask, step_mask=step_mask)
    alone = decoder(
        call["context"][:1, :6],
        call["positions"][:, :1, :6],
        call["actions"][:1, :3],
        call["t"][:1],
    )
    torch.testing.assert_close(masked[:1, :3], alone, rtol=1e-4, atol=1e-5)


def test_actions_continue_after_the_last_position_on_all_three_rows(call):
    decoder = ActionDecoder(SMALL, CONTEXT_WIDTH)
    prefix = decoder.begin(call["context"], call["positions"], HORIZON)
    last = call["positions"].amax(dim=(0, 2))
    steps = (last[:, None] + 1 + torch.arange(HORIZON)).expand(3, -1, -1)
    expected = rotation(SMALL, steps, torch.float32)
    torch.testing.assert_close(prefix.rotation.cos, expected.cos)
    torch.testing.assert_close(prefix.rotation.sin, expected.sin)


def test_positions_are_rotated_as_in_the_backbone():
    theirs = Qwen3_5TextRotaryEmbedding(family_config(PAPER.backbone).text_config)
    positions = torch.randint(0, 500, (3, 2, 11))
    cos, sin = theirs(torch.zeros(1), positions)
    ours = rotation(PAPER.decoder, positions, torch.float32)
    torch.testing.assert_close(ours.cos[:, 0], cos)
    torch.testing.assert_close(ours.sin[:, 0], sin)


def test_the_decoder_keeps_no_buffer_that_a_checkpoint_lacks():
    assert not list(ActionDecoder(SMALL, CONTEXT_WIDTH).buffers())
