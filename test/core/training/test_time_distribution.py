import pytest
import torch

from qwen_vla_ros.training.time_distribution import Beta, LogitNormal, draw_times

MANY = 200_000


def draw(distribution):
    return draw_times(MANY, distribution, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "distribution", [LogitNormal(), LogitNormal(deviation=3), Beta(), Beta(toward="clean")]
)
def test_times_lie_between_data_and_noise_and_never_at_data(distribution):
    times = draw(distribution)
    assert times.shape == (MANY,)
    assert times.dtype == torch.float32
    assert times.min() > 0
    assert times.max() <= 1


def test_beta_has_the_moments_of_the_public_one():
    # Beta(1.5, 1) * 0.999 + 0.001: mean 1.5 / 2.5, variance 1.5 / (2.5^2 * 3.5).
    times = draw(Beta())
    assert times.mean().item() == pytest.approx(0.6 * 0.999 + 0.001, abs=3e-3)
    assert times.var().item() == pytest.approx(1.5 / (2.5**2 * 3.5) * 0.999**2, abs=2e-3)
    assert times.min() >= 0.001


def test_the_direction_of_beta_is_a_setting():
    noise, clean = draw(Beta()), draw(Beta(toward="clean"))
    assert (noise > 0.5).float().mean().item() == pytest.approx(1 - 0.5**1.5, abs=6e-3)
    assert (clean < 0.5).float().mean().item() == pytest.approx(1 - 0.5**1.5, abs=6e-3)
    torch.testing.assert_close(1.001 - noise, clean)


def test_beta_of_one_is_uniform():
    times = draw(Beta(alpha=1, least=0.0))
    assert times.mean().item() == pytest.approx(1 / 2, abs=3e-3)
    assert times.var().item() == pytest.approx(1 / 12, abs=2e-3)


def test_the_logit_of_logit_normal_times_is_normal():
    logits = draw(LogitNormal(mean=-0.4, deviation=0.7)).double().logit()
    assert logits.mean().item() == pytest.approx(-0.4, abs=6e-3)
    assert logits.std().item() == pytest.approx(0.7, abs=6e-3)


def test_a_seed_draws_the_same_times_again():
    for distribution in (LogitNormal(), Beta()):
        torch.testing.assert_close(draw(distribution), draw(distribution), rtol=0, atol=0)
