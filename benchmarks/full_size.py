"""The paper's size on this CPU: 4b, random weights, bfloat16, one observation of aloha_sim.

    python benchmarks/full_size.py [--preset 4b] [--steps 4] [--answers 2] [--threads 2]

Shows that the whole model fits and answers: memory, seconds of every stage, shape of the chunk.
The first answer chooses kernels, the later ones show the pace.
"""

from __future__ import annotations

import argparse
import logging
import time

import torch
from untrained import untrained

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.model.compute import peak_memory_gib
from qwen_vla_ros.model.config import PRESETS
from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy
from qwen_vla_ros.prompt.build import build_prompt

LIMIT_GIB = 24.0


def main() -> int:
    """Make the model, let it answer, print; returns 1 when it took more memory than allowed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, default="4b")
    parser.add_argument("--steps", type=int, default=4, help="Euler steps")
    parser.add_argument("--answers", type=int, default=2, help="how often to ask")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("transformers.integrations.hub_kernels").setLevel(logging.ERROR)

    robot = load_embodiment("aloha_sim")
    observation = robot.make_example()
    prompt = build_prompt(robot, "put the red cube into the blue bowl", observation.state)
    begin = time.perf_counter()
    checkpoint = untrained(PRESETS[options.preset], robot, prompt, torch.bfloat16)
    parameters = sum(weight.numel() for weight in checkpoint.model.parameters())
    print(
        f"{options.preset}: {parameters / 1e9:.3f} billion parameters in bfloat16, "
        f"made in {time.perf_counter() - begin:.0f} s, {_memory()}",
        flush=True,
    )
    policy = QwenVlaPolicy(checkpoint, robot, steps=options.steps, seed=0)
    for answer in range(1, options.answers + 1):
        begin = time.perf_counter()
        chunk = policy.infer(observation, prompt)
        stages = ", ".join(f"{stage} {value:.2f} s" for stage, value in chunk.timings.items())
        print(
            f"answer {answer}: {time.perf_counter() - begin:.2f} s ({stages}), "
            f"chunk of {chunk.actions.shape[0]} x {chunk.actions.shape[1]}, {_memory()}",
            flush=True,
        )
    peak = peak_memory_gib()["CPU"]
    if peak > LIMIT_GIB:
        print(f"{peak:.1f} GiB are more than {LIMIT_GIB:g}.")
        return 1
    return 0


def _memory() -> str:
    return f"peak memory {peak_memory_gib()['CPU']:.1f} GiB"


if __name__ == "__main__":
    raise SystemExit(main())
