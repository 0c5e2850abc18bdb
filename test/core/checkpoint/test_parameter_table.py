import math

import pytest
import torch

from qwen_vla_ros.checkpoint.parameter_table import (
    BACKBONE_ROWS,
    DECODER_ROWS,
    PRECISIONS,
    parameter_table,
)
from qwen_vla_ros.checkpoint.weights import model_slots
from qwen_vla_ros.model.config import NANO, PAPER

PAPERS_TABLE = {
    "decoder blocks": 16 * 70.8,
    "action projections": 4.9,
    "context projection": 3.9,
    "timestep MLP": 2.8,
    "output AdaLN": 4.7,
}
"""In millions."""


@pytest.mark.slow
def test_the_4b_decoder_has_the_papers_parameter_table():
    table = parameter_table(PAPER)
    assert table["decoder blocks"] / 16e6 == pytest.approx(70.8, abs=0.05)
    for row in list(PAPERS_TABLE)[1:]:
        assert table[row] / 1e6 == pytest.approx(PAPERS_TABLE[row], abs=0.05), row
    total = sum(table[row] for row in PAPERS_TABLE)
    assert total / 1e9 == pytest.approx(1.149, abs=0.0005)


@pytest.mark.slow
def test_the_4b_backbone_is_qwen3_5_4b():
    table = parameter_table(PAPER)
    assert (table["vision encoder"] + table["language model"]) / 1e9 == pytest.approx(
        4.54, abs=0.01
    )


def test_every_parameter_has_a_row():
    table = parameter_table(NANO)
    assert table.keys() == BACKBONE_ROWS.keys() | DECODER_ROWS.keys()
    assert sum(table.values()) == sum(math.prod(slot.shape) for slot in model_slots(NANO).values())


@pytest.mark.slow
def test_what_a_precision_takes_is_what_its_numbers_take():
    slots = model_slots(PAPER, torch.bfloat16).values()
    exact = sum(math.prod(slot.shape) * slot.dtype.itemsize for slot in slots)
    said = sum(parameter_table(PAPER).values()) * PRECISIONS["bf16"].weights
    assert said == pytest.approx(exact, rel=1e-4)


def test_the_nano_model_stays_below_ten_million():
    assert 8e6 < sum(parameter_table(NANO).values()) < 10e6
