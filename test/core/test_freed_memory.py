from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from qwen_vla_ros.freed_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        [np.ones(480 * 640 * 3, np.uint8) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
{call}
faults()
print(faults())
"""


def faults(call: str) -> int:
    command = [sys.executable, "-c", SCRIPT.format(call=call)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_the_memory_of_images_is_used_again():
    assert faults("keep_freed_memory()") < faults("") / 10
