import pytest
import torch

from qwen_vla_ros.checkpoint.normalization import pad_actions
from qwen_vla_ros.model.inputs import collate
from qwen_vla_ros.model.model import QwenVla
from qwen_vla_ros.model.sampling import Committed, decode, draw_noise, step_times
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.training.flow_matching import masked_loss, mix


@pytest.fixture
def batch(tiny, aloha, diffbot):
    """Both robots in one batch: observations, actions, mask."""
    samples, padded = [], []
    generator = torch.Generator().manual_seed(0)
    for robot in (aloha, diffbot):
        prompt, observation = build_prompt(robot, "go to the red cube"), robot.make_example()
        images = [observation.images[camera] for camera in prompt.cameras]
        patches = tiny.images(images, [(64, 64)] * len(images))
        samples.append((tiny.tokenizer.encode(prompt.text, [4] * len(images)), patches))
        shape = robot.file.prompt.action_horizon, len(robot.channels)
        actions = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
        padded.append(pad_actions(actions.numpy(), 16, 64))
    actions, mask = (
        torch.stack([torch.from_numpy(x) for x in pair]) for pair in zip(*padded, strict=True)
    )
    return collate(samples), actions, mask


@pytest.mark.slow
def test_the_whole_model_learns_one_batch_of_two_robots(tiny, batch):
    torch.manual_seed(0)
    model = QwenVla(tiny.manifest.model)
    inputs, actions, mask = batch
    t = torch.tensor([0.3, 0.7])
    mixed, target = mix(actions, draw_noise(mask, torch.Generator().manual_seed(0)), t)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    losses = []
    for _ in range(30):
        loss = masked_loss(model(inputs, mixed, t, mask), target, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    unmoved = [
        name for name, value in model.named_parameters() if torch.equal(value, before[name])
    ]
    assert not unmoved


def test_serving_and_training_compute_the_same_velocity(tiny, batch):
    inputs, _, mask = batch
    first = collate_first(inputs)
    decoder = tiny.model.decoder
    with torch.no_grad():
        context = read(tiny.model, first)
        schedule = decoder.schedule(step_times(1))
        noise = draw_noise(mask[:1], torch.Generator().manual_seed(0))
        served = decode(decoder, context, noise, mask[:1], schedule)
        trained = tiny.model(first, noise, torch.ones(1), mask[:1])
    torch.testing.assert_close(served, (noise - trained) * mask[:1], rtol=1e-4, atol=1e-5)


def test_serving_and_training_see_the_same_committed_rows(tiny, batch):
    inputs, actions, mask = batch
    first, actions = collate_first(inputs), actions[:1]
    frozen = (torch.arange(16) < 5).unsqueeze(0)
    with torch.no_grad():
        context = read(tiny.model, first)
        noise = draw_noise(mask[:1], torch.Generator().manual_seed(0))
        committed = Committed(actions, frozen, "prefix")
        decoder = tiny.model.decoder
        schedule = decoder.schedule(step_times(1))
        served = decode(decoder, context, noise, mask[:1], schedule, committed)
        mixed, _ = mix(actions, noise, torch.ones(1), frozen)
        trained = tiny.model(first, mixed, torch.ones(1), mask[:1], frozen)
    moving = mask[:1] & ~frozen.unsqueeze(-1)
    torch.testing.assert_close(served, mixed - trained * moving, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(served[:, :5], actions[:, :5], rtol=0, atol=0)


def test_padded_channels_stay_zero_while_sampling(tiny, batch):
    inputs, _, mask = batch
    with torch.no_grad():
        context = read(tiny.model, collate_first(inputs))
        noise = draw_noise(mask[:1])
        decoder = tiny.model.decoder
        schedule = decoder.schedule(step_times(4))
        sampled = decode(decoder, context, noise, mask[:1], schedule)
    assert not sampled[~mask[:1]].any()


def read(model, inputs):
    return model.backbone(model.backbone.lay_out(inputs), inputs.pixel_values)


def collate_first(inputs):
    """Return the first sample of a batch of two, alone."""
    length = int(inputs.mask[0].sum())
    grids = inputs.grids[:3]
    return type(inputs)(
        token_ids=inputs.token_ids[:1, :length],
        is_image=inputs.is_image[:1, :length],
        positions=inputs.positions[:, :1, :length],
        mask=None,
        pixel_values=inputs.pixel_values[: sum(rows * columns for _, rows, columns in grids)],
        grids=grids,
    )
