import numpy as np
import pytest
import torch

from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.compute import dtype_of, peak_memory_gib


@pytest.mark.slow
def test_peak_memory_counts_what_was_ever_held():
    before = peak_memory_gib("cpu")["CPU"]
    held = np.ones(2**25)  # 256 MiB
    assert held.sum() == 2**25
    del held
    assert peak_memory_gib("cpu")["CPU"] >= max(before, 0.25)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("auto", torch.float32)],
)
def test_words_for_precisions_on_a_cpu(precision, dtype):
    assert dtype_of(precision, "cpu") == dtype


def test_a_gpu_computes_in_bfloat16_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert dtype_of("auto", "cuda:0") == torch.bfloat16
    assert dtype_of("fp32", "cuda") == torch.float32


@pytest.mark.parametrize(
    ("precision", "device", "sentence"),
    [
        ("bf61", "cpu", "precision 'bf61': Did you mean 'bf16'"),
        ("auto", "gpu", "device 'gpu': unknown"),
    ],
)
def test_unknown_words_are_refused(precision, device, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        dtype_of(precision, device)


def test_a_machine_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CheckpointError, match="torch finds no GPU here; use 'cpu'"):
        dtype_of("auto", "cuda")
