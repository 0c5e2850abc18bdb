"""Memory comes back when nobody holds it any more, and never before."""

import pickle

import numpy as np
import torch

from qwen_vla_ros.model.array_lender import SPARE, ArrayLender


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_that_nobody_holds_is_lent_again():
    lender = ArrayLender()
    first = lender.floats(100, 8)
    place = address(first)
    del first
    assert address(lender.floats(8, 100)) == place


def test_memory_that_somebody_holds_is_not():
    lender = ArrayLender()
    first = lender.bytes(1000)
    assert address(lender.bytes(1000)) != address(first)


def test_a_slice_of_a_view_and_a_tensor_hold_the_memory():
    lender = ArrayLender()
    lent = lender.floats(100, 8)
    lent[:] = 7
    part, tensor = lent.reshape(-1)[3:9][::2], torch.from_numpy(lent)[50]
    del lent
    for _ in range(3):
        lender.floats(100, 8)[:] = 1
    assert (part == 7).all()
    del part
    lender.floats(100, 8)[:] = 1
    assert bool((tensor == 7).all())


def test_what_is_kept_for_later_is_bounded():
    lender = ArrayLender()
    many = [lender.bytes(64) for _ in range(3 * SPARE)]
    places = {address(array) for array in many}
    many.clear()
    again = [lender.bytes(64) for _ in range(3 * SPARE)]
    assert sum(address(array) in places for array in again) >= SPARE
    assert len(lender._spare[64]) == 0


def test_nothing_can_be_lent_too():
    assert ArrayLender().floats(0, 3).shape == (0, 3)


def test_a_copy_begins_with_nothing():
    lender = ArrayLender()
    del (lent := [lender.bytes(64)])[:]
    assert not lent
    assert pickle.loads(pickle.dumps(lender))._spare == {}
