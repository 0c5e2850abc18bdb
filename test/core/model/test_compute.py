import numpy as np
import pytest
import torch

from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.compute import device_of, dtype_of, peak_memory_gib


@pytest.mark.slow
def test_peak_memory_counts_what_was_ever_held():
    before = peak_memory_gib()["CPU"]
    held = np.ones(2**25)  # 256 MiB
    assert held.sum() == 2**25
    del held
    assert peak_memory_gib()["CPU"] >= max(before, 0.25)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("auto", torch.float32)],
)
def test_words_for_precisions_on_a_cpu(precision, dtype):
    assert dtype_of(precision, torch.device("cpu")) == dtype


def test_a_gpu_computes_in_bfloat16_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert dtype_of("auto", device_of("cuda:0")) == torch.bfloat16
    assert dtype_of("fp32", device_of("cuda")) == torch.float32


@pytest.mark.parametrize(
    ("precision", "device", "sentence"),
    [
        ("bf61", "cpu", "precision 'bf61': Did you mean 'bf16'"),
        ("auto", "gpu", "device 'gpu': unknown"),
    ],
)
def test_unknown_words_are_refused(precision, device, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        dtype_of(precision, device_of(device))


def test_a_machine_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CheckpointError, match="torch finds no GPU here; use 'cpu'"):
        device_of("cuda")


@pytest.mark.parametrize(("has_gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_where_torch_sees_one(monkeypatch, has_gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert device_of("auto") == torch.device(device)
