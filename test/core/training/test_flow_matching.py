import pytest
import torch

from qwen_vla_ros.model.sampling import sample, step_times
from qwen_vla_ros.training.flow_matching import draw_frozen, masked_loss, mix


def test_sampling_meets_the_mixtures_of_training_on_its_way():
    data, noise = torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    seen = []

    def velocity(y, step):
        seen.append((step, y))
        return noise - data

    sample(velocity, noise, 4)
    for step, y in seen:
        mixed, target = mix(data, noise, step_times(4)[step].view(1))
        torch.testing.assert_close(y, mixed)
        torch.testing.assert_close(target, noise - data)


def test_time_one_is_noise_and_time_zero_is_data():
    data, noise = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    mixed, _ = mix(data, noise, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(mixed[0], noise[0])
    torch.testing.assert_close(mixed[1], data[1])
    assert step_times(4).tolist() == [1.0, 0.75, 0.5, 0.25]


def test_frozen_rows_stay_data_at_any_time():
    data, noise = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    frozen = torch.zeros(2, 4, dtype=torch.bool)
    frozen[0, :2] = True
    t = torch.tensor([0.9, 0.4])
    mixed, target = mix(data, noise, t, frozen)
    free, free_target = mix(data, noise, t)
    torch.testing.assert_close(mixed[frozen], data[frozen], rtol=0, atol=0)
    torch.testing.assert_close(mixed[~frozen], free[~frozen], rtol=0, atol=0)
    torch.testing.assert_close(target, free_target)


def test_training_freezes_each_number_of_first_rows_as_often():
    frozen = draw_frozen(6000, 8, 5, torch.Generator().manual_seed(0))
    assert frozen.shape == (6000, 8)
    counts = frozen.sum(dim=1)
    assert (frozen == (torch.arange(8) < counts[:, None])).all()
    often = counts.bincount(minlength=9)
    assert often[:6].float().sub(1000).abs().max() < 150
    assert not often[6:].any()


def test_the_loss_ignores_padding():
    mask = torch.zeros(2, 4, 6, dtype=torch.bool)
    mask[0, :4, :5], mask[1, :2, :3] = True, True
    predicted, target = torch.randn(2, 4, 6), torch.randn(2, 4, 6)
    before = masked_loss(predicted, target, mask)
    predicted[~mask] = 1e6
    torch.testing.assert_close(masked_loss(predicted, target, mask), before)


def test_the_loss_averages_steps_then_channels_then_samples():
    mask = torch.zeros(2, 4, 6, dtype=torch.bool)
    mask[0, :4, :5], mask[1, :2, :1] = True, True
    error = torch.zeros(2, 4, 6)
    error[0, 0, 0], error[1, 0, 0] = 2.0, 3.0
    expected = ((4 / 4) / 5 + (9 / 2) / 1) / 2
    assert masked_loss(error, torch.zeros_like(error), mask).item() == pytest.approx(expected)
