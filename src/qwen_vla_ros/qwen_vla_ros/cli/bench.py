"""`qwen-vla bench`: how fast a model answers for a robot on this machine."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.types import ActionChunk, FloatArray, Policy

INSTRUCTION = "put the red cube into the blue bowl"
LATENCY_S = 0.1
"""So much of every chunk is committed, as it is when chunks are computed while others play."""

STAGES = ("preprocess", "backbone", "decode")


def bench(
    robot: str,
    checkpoint: Path | None = None,
    device: str = "cpu",
    precision: str = "auto",
    steps: int = 4,
    runs: int = 50,
    threads: int = 1,
) -> int:
    """Answer the robot's example again and again and print a table of latencies.

    Args:
        robot: Name or path of the embodiment file.
        checkpoint: What is measured; a fresh, untrained nano by default.
        device: Where the model runs.
        precision: `fp32`, `bf16`, or `auto`: bf16 on a GPU.
        steps: Euler steps per chunk.
        runs: Answers to measure.
        threads: CPU threads of the model.

    Raises:
        CheckpointError: When the checkpoint cannot be used, or not for this robot.
        EmbodimentError: When the robot cannot be loaded.
    """
    # torch takes seconds to import, and `qwen-vla --help` should not.
    from qwen_vla_ros.model.compute import peak_memory_gib, use_threads
    from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy

    embodiment = load_embodiment(robot)
    use_threads(threads)
    with _measured(checkpoint, embodiment) as (directory, name):
        begin = time.perf_counter()
        policy = QwenVlaPolicy.load(
            directory, embodiment, device=device, precision=precision, steps=steps
        )
        loaded_s = time.perf_counter() - begin
    print(
        f"{name} for {embodiment.name} on {device}, {precision}, {steps} steps, "
        f"{threads} CPU thread{'s' if threads > 1 else ''}, {runs} answers"
    )
    seconds = measure(policy, embodiment, runs)
    print("\n".join(table(seconds)))
    print(f"{'chunks per second':<20}{1 / float(np.median(seconds.sum(axis=1))):>9.1f}")
    for place, size in peak_memory_gib(device).items():
        print(f"{f'peak memory, {place}':<20}{size:>9.2f} GiB")
    print(f"{'load and warm-up':<20}{loaded_s:>9.1f} s")
    return 0


def measure(policy: Policy, embodiment: Embodiment, runs: int) -> FloatArray:
    """Return the seconds of every stage, and of what is between them; (runs, 4)."""
    observation = embodiment.make_example()
    prompt = build_prompt(embodiment, INSTRUCTION, observation.state)
    rows = min(math.ceil(LATENCY_S / embodiment.dt), embodiment.file.prompt.action_horizon)
    chunk = policy.infer(observation, prompt)
    seconds = []
    for _ in range(runs):
        committed = chunk.actions[:rows]
        begin = time.perf_counter()
        chunk = policy.infer(observation, prompt, committed)
        seconds.append(_stages(chunk, time.perf_counter() - begin))
    return np.array(seconds)


def _stages(chunk: ActionChunk, whole_s: float) -> Sequence[float]:
    stages = [chunk.timings[stage] for stage in STAGES]
    return [*stages, whole_s - sum(stages)]


def table(seconds: FloatArray) -> Iterator[str]:
    """Yield the lines of the table; `seconds` is what `measure` returns."""
    yield f"{'stage':<20}{'p50':>9}{'p95':>9}"
    for name, column in zip((*STAGES, "the rest"), seconds.T, strict=True):
        yield _line(name, column)
    yield _line("whole answer", seconds.sum(axis=1))


def _line(name: str, seconds: FloatArray) -> str:
    p50, p95 = np.percentile(seconds * 1e3, (50, 95))
    return f"{name:<20}{p50:>9.2f}{p95:>9.2f} ms"


@contextmanager
def _measured(checkpoint: Path | None, robot: Embodiment) -> Iterator[tuple[Path, str]]:
    """Yield the folder of the checkpoint and what to call it."""
    if checkpoint is not None:
        yield checkpoint, str(checkpoint)
        return
    from qwen_vla_ros.checkpoint.fresh_checkpoint import init_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "nano"
        init_checkpoint("nano", directory, [robot])
        yield directory, "an untrained nano"
