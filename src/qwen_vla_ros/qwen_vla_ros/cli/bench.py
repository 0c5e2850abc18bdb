"""`qwen-vla bench`: how fast a model answers for a robot on this machine."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.load_policy import load_policy
from qwen_vla_ros.options import BenchOptions
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.types import FloatArray, Policy

INSTRUCTION = "put the red cube into the blue bowl"
LATENCY_S = 0.1
"""So much of every chunk is committed, as it is when chunks are computed while others play."""

REST = "the rest"


def bench(options: BenchOptions) -> int:
    """Answer the robot's example again and again and print a table of latencies.

    A fresh, untrained nano is measured where no checkpoint is said.

    Raises:
        QwenVlaError: When the policy cannot be used, or not for this robot.
    """
    embodiment = load_embodiment(options.robot)
    with _complete(options, embodiment) as complete:
        begin = time.perf_counter()
        policy = load_policy(complete, embodiment)()
        loaded_s = time.perf_counter() - begin
    fresh = "an untrained nano" if options.policy == "qwen_vla" else options.policy
    print(f"{options.checkpoint or fresh} for {embodiment.name}, {options.runs} answers")
    own = (each.name for each in complete.declared() if each.of == options.policy)
    values = {name: getattr(complete, name) for name in own if name != "checkpoint"}
    print(", ".join(f"{name} {value}" for name, value in values.items() if value != ""))
    seconds = measure(policy, embodiment, options.runs)
    print("\n".join(table(seconds)))
    print(f"{'chunks per second':<20}{1 / float(np.median(sum(seconds.values()))):>9.1f}")
    if options.policy == "qwen_vla":
        from qwen_vla_ros.model.compute import peak_memory_gib

        for place, size in peak_memory_gib().items():
            print(f"{f'peak memory, {place}':<20}{size:>9.2f} GiB")
    print(f"{'load and warm-up':<20}{loaded_s:>9.1f} s")
    return 0


def measure(policy: Policy, embodiment: Embodiment, runs: int) -> dict[str, FloatArray]:
    """Return the seconds (runs,) of every stage of the policy, and of what is between them."""
    observation = embodiment.make_example()
    prompt = build_prompt(embodiment, INSTRUCTION, observation.state)
    rows = min(math.ceil(LATENCY_S / embodiment.dt), embodiment.file.prompt.action_horizon)
    chunk = policy.infer(observation, prompt)
    seconds = []
    for _ in range(runs):
        committed = chunk.actions[:rows]
        begin = time.perf_counter()
        chunk = policy.infer(observation, prompt, committed)
        whole_s = time.perf_counter() - begin
        seconds.append({**chunk.timings, REST: whole_s - sum(chunk.timings.values())})
    stages = dict.fromkeys(stage for answer in seconds for stage in answer if stage != REST)
    return {
        stage: np.array([answer.get(stage, 0.0) for answer in seconds])
        for stage in (*stages, REST)
    }


def table(seconds: Mapping[str, FloatArray]) -> Iterator[str]:
    """Yield the lines of the table; `seconds` is what `measure` returns."""
    yield f"{'stage':<20}{'p50':>9}{'p95':>9}"
    for name, column in seconds.items():
        yield _line(name, column)
    yield _line("whole answer", np.sum([*seconds.values()], axis=0))


def _line(name: str, seconds: FloatArray) -> str:
    p50, p95 = np.percentile(seconds * 1e3, (50, 95))
    return f"{name:<20}{p50:>9.2f}{p95:>9.2f} ms"


@contextmanager
def _complete(options: BenchOptions, robot: Embodiment) -> Iterator[BenchOptions]:
    """Yield the options with a device and, for as long as it lasts, a checkpoint."""
    if options.policy != "qwen_vla":
        yield options
        return
    # torch takes seconds to import, and `qwen-vla --help` should not.
    from qwen_vla_ros.checkpoint.fresh_checkpoint import init_checkpoint
    from qwen_vla_ros.model.compute import device_of

    options = replace(options, device=str(device_of(options.device)))
    with tempfile.TemporaryDirectory() as folder:
        if not options.checkpoint:
            options = replace(options, checkpoint=f"{folder}/nano")
            init_checkpoint("nano", Path(options.checkpoint), [robot])
        yield options
