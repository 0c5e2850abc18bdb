from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from qwen_vla_ros.model.graph_cache import GraphCache, record_on_gpu


@dataclass(frozen=True)
class Pair:
    left: Tensor
    right: Tensor | None
    name: str = "pair"


def scaled_sum(lasting: Pair, x: Tensor) -> Tensor:
    right = 0 if lasting.right is None else lasting.right
    return lasting.left * x + right


def test_equal_shapes_are_recorded_once_and_every_answer_is_right(tape):
    call = GraphCache(scaled_sum, tape)
    for number in range(1, 4):
        lasting, x = Pair(torch.full((3,), number), torch.ones(3)), torch.full((3,), 10 * number)
        torch.testing.assert_close(call(lasting, x), scaled_sum(lasting, x))
    assert tape.recordings == 1


@pytest.mark.parametrize(
    "other",
    [
        (Pair(torch.ones(4), torch.ones(4)), torch.ones(4)),
        (Pair(torch.ones(3), None), torch.ones(3)),
        (Pair(torch.ones(3), torch.ones(3), "other"), torch.ones(3)),
        (Pair(torch.ones(3).double(), torch.ones(3)), torch.ones(3)),
    ],
    ids=["shape", "absence", "word", "number format"],
)
def test_anything_else_is_a_recording_of_its_own(tape, other):
    call = GraphCache(scaled_sum, tape)
    call(Pair(torch.ones(3), torch.ones(3)), torch.ones(3))
    torch.testing.assert_close(call(*other), scaled_sum(*other))
    assert tape.recordings == 2


def test_what_lasts_is_copied_when_it_is_another_and_only_then(tape):
    call = GraphCache(scaled_sum, tape)
    first, second = Pair(torch.ones(2), None), Pair(torch.full((2,), 2.0), None)
    x = torch.full((2,), 3.0)
    assert [call(lasting, x)[0].item() for lasting in (first, second, first)] == [3, 6, 3]
    first.left.fill_(9)  # nobody may, and nobody looks
    assert call(first, x)[0].item() == 3


def test_the_recording_unused_for_longest_goes_first(tape):
    call = GraphCache(lambda _, x: x + 1, tape, most=2)
    for size in (1, 2, 1, 3, 1):
        call(None, torch.zeros(size))
    assert tape.recordings == 3
    call(None, torch.zeros(2))
    assert tape.recordings == 4


def test_what_is_asked_can_be_changed_afterwards(tape):
    call = GraphCache(lambda _, x: x + 1, tape)
    x = torch.zeros(2)
    answer = call(None, x)
    x.fill_(5)
    assert answer.tolist() == [1, 1]


@pytest.mark.gpu
def test_a_gpu_replays_what_it_recorded():
    call = GraphCache(scaled_sum, record_on_gpu)
    for number in range(1, 4):
        lasting = Pair(torch.full((3,), number, device="cuda"), None)
        x = torch.full((3,), 10.0 * number, device="cuda")
        torch.testing.assert_close(call(lasting, x), scaled_sum(lasting, x))
