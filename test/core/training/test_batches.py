import numpy as np
import torch

from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.training.batches import Batches, load_batches, repeated


def same(one, other):
    return torch.equal(one.pixels, other.pixels) and torch.equal(one.actions, other.actions)


def test_a_batch_is_the_same_whoever_makes_it_and_when(spots, reader):
    batches = Batches([spots], [1.0], reader, size=3, seed=7)
    third = batches[3]
    assert same(third, batches[3])
    assert not same(third, batches[4])
    inline = list(load_batches(batches, 2, 5, 0, pinned=False))
    assert same(inline[1], third)


def test_every_source_has_its_share_of_every_batch(spots, reader):
    batches = Batches([spots, spots, spots], [3.0, 1.0, 1.0], reader, size=10, seed=0)
    assert batches.counts == [6, 2, 2]
    assert len(batches[0].actions) == 10


def test_prompts_and_pictures_are_those_of_serving(spots, reader):
    example = spots.draw(np.random.default_rng(0), 1)[0]
    batch = reader.read([(spots.embodiment, example)], np.random.default_rng(0))
    prompt = build_prompt(spots.embodiment, example.instruction, example.observation.state)
    (image,) = example.observation.images.values()
    patches = reader.images([image], [image.shape[1::-1]])
    expected = reader.tokenizer.encode(prompt.text, patches.token_counts).ids
    mask = batch.inputs.mask
    assert mask is not None
    assert batch.inputs.token_ids[0][mask[0]].tolist() == expected.tolist()
    np.testing.assert_array_equal(batch.pixels.numpy(), patches.pixels)
    there = batch.to(torch.device("cpu"), torch.from_numpy(reader.images.levels))
    np.testing.assert_array_equal(there.inputs.pixel_values.numpy(), patches.pixel_values)
    assert batch.mask.any(dim=2).sum() == 8
    assert batch.kinds == ("diffbot_sim drive",)


def test_a_batch_that_is_repeated_comes_again_after_the_others():
    made = iter(range(100))
    stream = repeated(made, 0, times=2, lag=3)
    assert [next(stream) for _ in range(9)] == [0, 1, 2, 0, 1, 2, 3, 4, 5]


def test_a_run_that_goes_on_amid_a_group_sees_what_it_would_have_seen():
    whole = repeated(iter(range(100)), 0, times=2, lag=3)
    seen = [next(whole) for _ in range(14)]
    # Batches begin with those of the group that the step is in: step 8 is in the second of six.
    rest = repeated(iter(range(3, 100)), 8, times=2, lag=3)
    assert [next(rest) for _ in range(6)] == seen[8:]
