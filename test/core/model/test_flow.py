import pytest
import torch

from qwen_vla_ros.model.flow import draw_noise, sample


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
