import os
import subprocess
import sys

import numpy as np
import pytest

from qwen_vla_ros.policy.compute import peak_memory_gib

COUNT_FAULTS = """
import resource
import torch
from qwen_vla_ros.policy.compute import keep_freed_memory

torch.set_num_threads(1)

def faults():
    before = 0
    for call in range(25):
        if call == 5:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        [torch.ones(3 * 2**20) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
keep_freed_memory()
print(given_back, faults())
"""


def test_peak_memory_counts_what_was_ever_held():
    before = peak_memory_gib("cpu")["CPU"]
    held = np.ones(2**25)  # 256 MiB
    assert held.sum() == 2**25
    del held
    assert peak_memory_gib("cpu")["CPU"] >= max(before, 0.25)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_memory_that_is_freed_is_used_again_without_asking_the_system():
    # Where the allocator begins; left alone, it may have learned better by itself.
    environment = {"MALLOC_MMAP_THRESHOLD_": str(2**17), "MALLOC_TRIM_THRESHOLD_": str(2**17)}
    process = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )
    given_back, kept = map(int, process.stdout.split())
    assert kept < 0.1 * given_back
