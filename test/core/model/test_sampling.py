"""Sampling whole chunks: what is kept, what is committed, what is learned about continuing."""

from dataclasses import replace

import pytest
import torch

from qwen_vla_ros.model.action_decoder import ActionDecoder, Context
from qwen_vla_ros.model.config import DecoderConfig
from qwen_vla_ros.model.sampling import Committed, decode, draw_noise, sample, step_times
from qwen_vla_ros.training.flow_matching import draw_frozen, masked_loss, mix

WIDTH, LENGTH, HORIZON, CHANNELS, STEPS = 24, 90, 8, 6, 4
CONFIG = DecoderConfig(
    num_blocks=2,
    width=64,
    inner_size=96,
    num_heads=2,
    attention="prefix",
    action_channels=CHANNELS,
    rope_theta=1e3,
    rope_sections=(6, 5, 5),
    frozen_prefix=True,
)


@pytest.fixture(params=["prefix", "joint"])
def decoder(request, randomize):
    torch.manual_seed(0)
    made = ActionDecoder(replace(CONFIG, attention=request.param), WIDTH).eval()
    randomize(made)
    return made


def schedule_of(decoder):
    return decoder.schedule(step_times(STEPS))


def make_context(batch=1, mask=None):
    generator = torch.Generator().manual_seed(2)
    return Context(
        torch.randn(batch, LENGTH, WIDTH, generator=generator),
        torch.randint(0, 60, (3, batch, LENGTH), generator=generator),
        mask,
    )


def make_noise(batch=1):
    generator = torch.Generator().manual_seed(3)
    mask = torch.ones(batch, HORIZON, CHANNELS, dtype=torch.bool)
    mask[..., 4:] = False
    return torch.randn(mask.shape, generator=generator) * mask, mask


def make_committed(count, method="prefix", batch=1):
    _, mask = make_noise(batch)
    actions = torch.linspace(-1, 1, mask.numel()).view(mask.shape) * mask
    return Committed(actions, (torch.arange(HORIZON) < count).expand(batch, -1), method)


def decode_plainly(decoder, context, noise, mask, committed=None):
    """Everything is computed in every step, by the path that training takes."""
    frozen = None if committed is None else committed.rows
    y = noise
    if committed is not None:
        y = torch.where(frozen.unsqueeze(-1), committed.actions, y)
    for t in step_times(STEPS):
        velocity = decoder(context, y, t.expand(len(y)), frozen=frozen)
        y = y - velocity * mask / STEPS
        if committed is not None:
            y = torch.where(frozen.unsqueeze(-1), committed.actions, y)
    return y


@pytest.mark.slow
@pytest.mark.parametrize("committed", [None, make_committed(0), make_committed(3)])
def test_what_is_kept_changes_no_value(decoder, committed):
    noise, mask = make_noise()
    with torch.no_grad():
        plain = decode_plainly(decoder, make_context(), noise, mask, committed)
        ours = decode(decoder, make_context(), noise, mask, schedule_of(decoder), committed)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


def test_a_batch_with_a_padded_prompt_is_decoded_like_each_alone(decoder):
    seen = torch.ones(2, LENGTH, dtype=torch.bool)
    seen[1, 50:] = False
    context, (noise, mask) = make_context(2, seen), make_noise(2)
    context.positions[:, 1, 50:] = 0
    schedule, committed = schedule_of(decoder), make_committed(2, batch=2)
    with torch.no_grad():
        together = decode(decoder, context, noise, mask, schedule, committed)
        for row, length in enumerate((LENGTH, 50)):
            one = slice(row, row + 1)
            alone = decode(
                decoder,
                Context(context.hidden[one, :length], context.positions[:, one, :length], None),
                noise[one],
                mask[one],
                schedule,
                Committed(committed.actions[one], committed.rows[one], "prefix"),
            )
            torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-4)


def test_no_committed_row_gives_the_very_numbers_of_no_commitment(decoder):
    schedule = schedule_of(decoder)
    noise, mask = make_noise()
    with torch.no_grad():
        none = decode(decoder, make_context(), noise, mask, schedule)
        empty = decode(decoder, make_context(), noise, mask, schedule, make_committed(0))
    torch.testing.assert_close(empty, none, rtol=0, atol=0)


@pytest.mark.parametrize("count", [1, 5, HORIZON])
def test_committed_rows_of_a_prefix_come_out_as_given_and_matter_to_the_others(decoder, count):
    noise, mask = make_noise()
    schedule, committed = schedule_of(decoder), make_committed(count)
    with torch.no_grad():
        none = decode(decoder, make_context(), noise, mask, schedule)
        ours = decode(decoder, make_context(), noise, mask, schedule, committed)
    torch.testing.assert_close(ours[:, :count], committed.actions[:, :count], rtol=0, atol=0)
    changed = (ours != none)[:, count:][mask[:, count:]]
    assert changed.all()


@pytest.mark.parametrize("committed", [make_committed(3), make_committed(3, "guidance")])
def test_padded_channels_stay_zero(decoder, committed):
    noise, mask = make_noise()
    with torch.no_grad():
        ours = decode(decoder, make_context(), noise, mask, schedule_of(decoder), committed)
    assert not ours[~mask].any()


def test_a_guided_chunk_needs_no_gradients_of_its_caller(decoder):
    noise, mask = make_noise()
    schedule, committed = schedule_of(decoder), make_committed(3, "guidance")
    with torch.no_grad():
        plain = decode(decoder, make_context(), noise, mask, schedule)
        guided = decode(decoder, make_context(), noise, mask, schedule, committed)
    called = decode(decoder, make_context(), noise, mask, schedule, committed)
    torch.testing.assert_close(guided, called, rtol=0, atol=0)
    assert not called.requires_grad
    assert all(weight.grad is None for weight in decoder.parameters())

    def miss(actions):
        return (actions - committed.actions)[:, :3].square().mean()

    assert miss(guided) < 0.1 * miss(plain)


# Round something on the left or on the right, as demonstrations do; one channel.
WAYS = torch.sin(torch.linspace(0.3, 2.8, HORIZON)) * torch.tensor([[1.0], [-1.0]])


@pytest.fixture(scope="module")
def two_minded():
    """A decoder that has learned both ways, half of the time with the first rows given."""
    torch.manual_seed(0)
    config = replace(CONFIG, width=32, num_heads=1, inner_size=64, action_channels=1)
    decoder = ActionDecoder(config, 8)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=5e-3)
    batch = 32
    context, positions = torch.zeros(batch, 1, 8), torch.zeros(3, batch, 1, dtype=torch.long)
    for _ in range(200):
        clean = WAYS[torch.randint(2, (batch,))].unsqueeze(-1)
        frozen = draw_frozen(batch, HORIZON, 4)
        t = torch.rand(batch)
        mixed, target = mix(clean, torch.randn_like(clean), t, frozen)
        predicted = decoder(Context(context, positions, None), mixed, t, frozen=frozen)
        loss = masked_loss(predicted, target, ~frozen.unsqueeze(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return decoder.eval()


@pytest.mark.slow
def test_a_trained_decoder_continues_a_chunk_and_guidance_helps_one_that_is_not(two_minded):
    """The seam: how far the first free row is from where the committed ones lead."""
    count, given = 48, 3
    context = Context(torch.zeros(count, 1, 8), torch.zeros(3, count, 1, dtype=torch.long), None)
    noise = torch.randn(count, HORIZON, 1, generator=torch.Generator().manual_seed(0))
    mask, schedule = (
        torch.ones_like(noise, dtype=torch.bool),
        schedule_of(two_minded),
    )
    actions = WAYS[0].view(1, HORIZON, 1).expand(count, -1, -1)
    rows = (torch.arange(HORIZON) < given).expand(count, -1)
    with torch.no_grad():
        alone, guided, trained = (
            (decode(two_minded, context, noise, mask, schedule, committed) - actions)
            .abs()[:, given]
            .mean()
            .item()
            for committed in (
                None,
                Committed(actions, rows, "guidance"),
                Committed(actions, rows, "prefix"),
            )
        )
    assert alone > 0.6
    assert guided < 0.3 * alone
    assert trained < 0.1 * alone


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_the_true_velocity_leads_from_noise_to_data(steps):
    data, noise = torch.randn(2, 8, 5), torch.randn(2, 8, 5)
    reached = sample(lambda _y, _step: noise - data, noise, steps)
    torch.testing.assert_close(reached, data)


def test_padding_gets_no_noise():
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[:, :2, :3] = True
    noise = draw_noise(mask, torch.Generator().manual_seed(0))
    assert (noise[~mask] == 0).all()
    assert (noise[mask] != 0).all()


def test_temperature_scales_the_noise():
    mask = torch.ones(1, 4, 6, dtype=torch.bool)
    hot = draw_noise(mask, torch.Generator().manual_seed(0))
    cold = draw_noise(mask, torch.Generator().manual_seed(0), temperature=0.5)
    torch.testing.assert_close(cold, hot / 2)
