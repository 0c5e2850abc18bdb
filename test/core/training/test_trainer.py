from dataclasses import replace

import pytest
import torch

from qwen_vla_ros.training.batches import Batches
from qwen_vla_ros.training.objective import ObjectiveConfig
from qwen_vla_ros.training.open_loop import open_loop_errors
from qwen_vla_ros.training.trainer import learning_rate_share


def stream(spots, reader, size=4, first=0):
    batches = Batches([spots], [1.0], reader, size=size, seed=1)
    number = first
    while True:
        yield batches[number]
        number += 1


def quiet(*_):
    pass


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.mean.parameters()])


@pytest.mark.slow
def test_a_run_that_was_ended_goes_on_to_the_same_bits(spots, reader, make_trainer, tmp_path):
    whole = make_trainer()
    whole.run(stream(spots, reader), 4, quiet)
    half = make_trainer()
    half.run(stream(spots, reader), 2, quiet)
    half.save(tmp_path)
    other = make_trainer()
    assert other.resume(tmp_path)
    assert other.step == 2
    other.run(stream(spots, reader, first=2), 4, quiet)
    assert torch.equal(weights(other), weights(whole))
    assert torch.equal(
        torch.cat([p.detach().flatten() for p in other.objective.parameters()]),
        torch.cat([p.detach().flatten() for p in whole.objective.parameters()]),
    )


def test_a_folder_without_a_state_is_no_run(make_trainer, tmp_path):
    assert not make_trainer().resume(tmp_path)


def test_a_state_that_was_not_written_whole_is_not_found(make_trainer, tmp_path):
    trainer = make_trainer()
    trainer.save(tmp_path)
    good = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt.partial").write_bytes(good[:100])
    assert make_trainer().resume(tmp_path)


def test_every_weight_learns(spots, reader, make_trainer):
    trainer = make_trainer()
    before = {name: p.detach().clone() for name, p in trainer.objective.named_parameters()}
    trainer.run(stream(spots, reader), 2, quiet)
    still = [n for n, p in trainer.objective.named_parameters() if torch.equal(p, before[n])]
    assert not still


def test_the_objective_is_the_sum_of_what_it_weighs(spots, reader, make_trainer):
    weighed = ObjectiveConfig(action_weight=2.0, cell_weight=0.5, named_weight=0.25)
    trainer = make_trainer(objective=weighed)
    losses = trainer.losses(next(stream(spots, reader)), 0)
    expected = 2 * losses["action"] + 0.5 * losses["cells"] + 0.25 * losses["named"]
    torch.testing.assert_close(losses["loss"], expected)


@pytest.mark.slow
def test_it_learns_where_things_are_and_what_to_do(spots, reader, make_trainer):
    config = ObjectiveConfig(draws=2, longest_prefix=0, cell_weight=0.1, named_weight=0.3)
    trainer = make_trainer(
        steps=100, warm_up_steps=20, learning_rate=2e-3, backbone_learning_rate=2e-3,
        ema_decay=0.9, objective=config,
    )  # fmt: skip
    held = [Batches([spots], [1.0], reader, size=8, seed=99)[0]]
    levels = torch.from_numpy(reader.images.levels)
    before = open_loop_errors(trainer.objective.model, held, levels)
    figures = []
    trainer.run(stream(spots, reader, size=8), 100, lambda _, f: figures.append(f), every=20)
    assert figures[-1]["cells"] < 0.5 * figures[0]["cells"]
    assert figures[-1]["action"] < 0.5 * figures[0]["action"]
    after = open_loop_errors(trainer.objective.model, held, levels)
    assert set(after) == {"diffbot_sim drive"}
    assert after["diffbot_sim drive"] < 0.8 * before["diffbot_sim drive"]


def test_the_learning_rate_rises_and_falls_to_its_floor(recipe):
    asked = replace(recipe, steps=1000, warm_up_steps=100, floor=0.1)
    shares = [learning_rate_share(step, asked) for step in range(1000)]
    assert shares[0] == pytest.approx(0.01)
    assert max(shares) == pytest.approx(shares[99], rel=0.03)
    assert shares[-1] == pytest.approx(0.1, abs=1e-4)
