import numpy as np
import pytest
import torch

from qwen_vla_ros.training.grounding import CAMERAS, NAMED, Grounding, cell_targets


def test_a_thing_is_in_the_token_that_its_centre_is_in():
    places = np.array([[0.30, 0.80], [1.20, 0.50], [np.nan, np.nan]])
    targets = cell_targets(places, rows=2, columns=4)
    assert targets.shape == (8, 3, 3)
    assert np.flatnonzero(targets[:, :, 0].any(axis=1)).tolist() == [5]
    # 0.30 of four columns is 1.2: a fifth of the way across the second of them.
    np.testing.assert_allclose(targets[5, 0], [1, -0.6, 0.2], atol=1e-6)
    assert not targets[:, 1:].any(), "out of sight and not there are nowhere"


@pytest.fixture
def heads():
    torch.manual_seed(0)
    return Grounding(8, things=1)


def answer(heads, *, present, column):
    """Ask of two tokens in one prompt, the first of which is of an image."""
    for head in (heads.cells, heads.named):
        torch.nn.init.zeros_(head.weight)
    with torch.no_grad():
        heads.cells.bias[:] = torch.tensor([8.0 if present else -8.0, column, 0.0])
        heads.named.bias.view(NAMED, CAMERAS, 3)[:] = torch.tensor([-8.0, 0.0, 0.0])
        heads.named.bias.view(NAMED, CAMERAS, 3)[0, 0] = torch.tensor([8.0, column, 0.0])
    places = torch.full((1, NAMED, CAMERAS, 2), torch.nan)
    places[0, 0, 0] = torch.tensor([0.75, 0.5])
    cells = torch.tensor([[[1.0, 0.5, 0.0]]])
    return heads(torch.randn(1, 2, 8), torch.tensor([0]), torch.tensor([1]), cells, places)


def test_a_right_answer_costs_next_to_nothing_and_a_wrong_one_much(heads):
    right = answer(heads, present=True, column=0.5)
    assert right.cells < 0.01
    assert right.named < 0.01
    assert right.error < 1e-6
    denied, misplaced = (
        answer(heads, present=False, column=0.5),
        answer(heads, present=True, column=-0.5),
    )
    assert denied.cells > 5
    assert misplaced.cells > 0.5
    assert misplaced.named > 0.5
    assert misplaced.error == pytest.approx(0.5)


def test_where_nothing_is_known_nothing_is_lost_but_finite(heads):
    places = torch.full((2, NAMED, CAMERAS, 2), torch.nan)
    found = heads(
        torch.randn(2, 3, 8),
        torch.tensor([0, 3]),
        torch.tensor([2, 1]),
        torch.zeros(2, 1, 3),
        places,
    )
    (found.cells + found.named).backward()
    assert all(torch.isfinite(p.grad).all() for p in heads.parameters())
