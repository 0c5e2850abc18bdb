from dataclasses import replace

import pytest
import torch

from qwen_vla_ros.model.action_decoder import ActionDecoder, Mlp
from qwen_vla_ros.model.config import DecoderConfig
from qwen_vla_ros.model.flow import step_times
from qwen_vla_ros.model.rotation import following, rotation

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


def test_what_is_kept_from_load_equals_what_is_computed_in_each_step(decoder, call):
    schedule = decoder.schedule(4)
    with torch.no_grad():
        prefix = decoder.begin(call["context"], call["positions"], HORIZON, schedule=schedule)
        for step, t in enumerate(step_times(4)):
            kept = decoder.velocity(prefix, call["actions"], schedule.steps[step])
            plain = decoder(**{**call, "t": t.expand(2)})
            torch.testing.assert_close(kept, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("freezes", [False, True])
def test_a_step_equals_one_pass_over_the_whole_sequence(decoder, call, freezes):
    """Written out as one sequence: who sees whom is a mask, and each token has its own time."""
    is_joint = decoder.is_joint
    frozen = torch.zeros(2, HORIZON, dtype=torch.bool)
    if freezes:
        frozen[0, :2], frozen[1, :3] = True, True
    context = decoder.context_in(call["context"])
    x = torch.cat((context, decoder.action_in(call["actions"])), dim=1)
    places = torch.cat((call["positions"], following(call["positions"], HORIZON)), dim=2)
    rotate = rotation(decoder.config, places, x.dtype)
    sees = torch.ones(LENGTH + HORIZON, LENGTH + HORIZON, dtype=torch.bool)
    sees[:LENGTH, LENGTH:] = is_joint
    times = torch.zeros(2, LENGTH + HORIZON)
    times[:, LENGTH:] = call["t"][:, None].masked_fill(frozen, 0.0)
    if is_joint:
        times[:, :LENGTH] = call["t"][:, None]
    each = decoder.modulation(times.flatten())  # one AdaLN vector per token
    for block, own in zip(decoder.blocks, each.blocks, strict=True):
        x, _ = block(x, per_token(own, x), rotate, visible=sees)
    answer = decoder.action_out(per_token(each.output, x)(x)[:, LENGTH:])
    stepped = decoder(**call, frozen=frozen if freezes else None)
    torch.testing.assert_close(stepped, answer, rtol=1e-4, atol=1e-5)


def per_token(vectors, x):
    """Give AdaLN vectors of B * S times the shape of tokens, (B, S, D)."""
    if isinstance(vectors, torch.Tensor):
        return vectors.view(*x.shape[:2], -1)
    parts = {name: per_token(part, x) for name, part in vars(vectors).items()}
    return type(vectors)(**parts)


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
    prefix = ActionDecoder(SMALL, CONTEXT_WIDTH).begin(call["context"], call["positions"], HORIZON)
    last = call["positions"].amax(dim=(0, 2))
    steps = (last[:, None] + 1 + torch.arange(HORIZON)).expand(3, -1, -1)
    expected = rotation(SMALL, steps, torch.float32)
    torch.testing.assert_close(prefix.rotation.cos, expected.cos)
    torch.testing.assert_close(prefix.rotation.sin, expected.sin)


def test_a_gradient_reaches_every_weight_when_rows_are_frozen(decoder, call):
    frozen = torch.zeros(2, HORIZON, dtype=torch.bool)
    frozen[0, :2] = True
    decoder(**call, frozen=frozen).square().sum().backward()
    unreached = [name for name, weight in decoder.named_parameters() if not weight.grad.any()]
    assert not unreached


def test_the_decoder_keeps_no_buffer_that_a_checkpoint_lacks():
    assert not list(ActionDecoder(SMALL, CONTEXT_WIDTH).buffers())


def test_a_packed_mlp_answers_the_same():
    torch.manual_seed(0)
    mlp, x = Mlp(6, 64, 20), torch.randn(2, 5, 6)
    expected = mlp(x)
    assert expected.shape == (2, 5, 20)
    with torch.inference_mode():
        torch.testing.assert_close(mlp.packed()(x), expected, rtol=1e-5, atol=1e-6)


def test_an_mlp_has_the_names_that_checkpoints_have():
    assert list(Mlp(6, 64, 20).state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
