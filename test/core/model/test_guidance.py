import pytest
import torch

from qwen_vla_ros.model.sampling import STRONGEST, Committed, guide, sample, strength

HORIZON, COMMITTED, STEPS = 10, 3, 5
# Round something on the left or on the right: two ways that begin and end alike.
WAY = torch.sin(torch.linspace(0.2, 2.9, HORIZON))
WAYS = torch.stack((WAY, -WAY)).unsqueeze(-1)  # (2, H, 1)


def of_two_ways(y, step):
    """The true velocity of data that is one of the two ways, each as often as the other."""
    t = 1 - step / STEPS
    misses = (y.unsqueeze(1) - (1 - t) * WAYS).square().sum((2, 3))  # (B, 2)
    share = torch.softmax(-misses / (2 * t**2), dim=1)
    return (y - torch.einsum("bk,khc->bhc", share, WAYS)) / t


def committed(rows=COMMITTED):
    """The first rows of the way on the left, of as many chunks as there is noise."""
    count = len(NOISE)
    mask = (torch.arange(HORIZON) < rows).expand(count, -1)
    actions = WAYS[0].expand(count, -1, -1)
    return Committed(actions, mask, "guidance")


NOISE = torch.randn(64, HORIZON, 1, generator=torch.Generator().manual_seed(0))


def seams(chunks):
    """How far each chunk begins from where the committed rows lead."""
    return (chunks[:, COMMITTED] - WAYS[0, COMMITTED]).abs().squeeze(-1)


def test_without_guidance_every_second_chunk_goes_the_other_way():
    others = seams(sample(of_two_ways, NOISE, STEPS)) > 0.5
    assert 0.3 < others.float().mean() < 0.7


def test_guidance_keeps_to_the_way_that_is_being_played():
    with torch.no_grad():
        plain = sample(of_two_ways, NOISE, STEPS)
        guided = sample(guide(of_two_ways, committed(), STEPS), NOISE, STEPS)
    assert (seams(guided) > 0.5).float().mean() < 0.2
    assert seams(guided).mean() < 0.4 * seams(plain).mean()


def test_nothing_committed_pulls_nowhere():
    plain = sample(of_two_ways, NOISE, STEPS)
    guided = sample(guide(of_two_ways, committed(rows=0), STEPS), NOISE, STEPS)
    torch.testing.assert_close(guided, plain, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("t", "expected"), [(1.0, STRONGEST), (0.99, STRONGEST), (0.5, 2.0), (0.75, 10 / 3), (0.0, 5)]
)
def test_the_pull_is_the_papers_and_clipped(t, expected):
    assert strength(t) == pytest.approx(expected)


def test_the_pull_follows_the_gradient_of_the_distance():
    """With one step, the whole of the formula can be written out."""
    y = NOISE[:2].clone().requires_grad_()
    ours = committed()
    plain = of_two_ways(y, 0)
    distance = (ours.rows[:2, :, None] * (ours.actions[:2] - (y - plain)).square()).sum() / 2
    (gradient,) = torch.autograd.grad(distance, y)
    few = Committed(ours.actions[:2], ours.rows[:2], "guidance")
    guided = guide(of_two_ways, few, STEPS)(NOISE[:2], 0)
    torch.testing.assert_close(guided, plain.detach() + STRONGEST * gradient)
