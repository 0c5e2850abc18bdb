import numpy as np
import pytest

from qwen_vla_ros.model.compute import peak_memory_gib


@pytest.mark.slow
def test_peak_memory_counts_what_was_ever_held():
    before = peak_memory_gib("cpu")["CPU"]
    held = np.ones(2**25)  # 256 MiB
    assert held.sum() == 2**25
    del held
    assert peak_memory_gib("cpu")["CPU"] >= max(before, 0.25)
