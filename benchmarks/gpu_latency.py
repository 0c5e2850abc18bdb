"""The goals on a GPU: the 4b preset of random weights, bfloat16, 4 steps, eager and recorded.

    python benchmarks/gpu_latency.py [--runs N] [--preset 4b] [--device cuda]

Ours eager is the model called kernel by kernel; ours recorded replays it as CUDA graphs, as
the robot gets it. Without a GPU this says so and measures nothing. Install flash-linear-attention
and causal-conv1d before believing the figures.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from side_by_side import Comparison, arguments, interleave, report
from untrained import untrained

from qwen_vla_ros.checkpoint.checkpoint import Checkpoint
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.model.config import PRESETS
from qwen_vla_ros.model.graph_cache import record_on_gpu
from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy
from qwen_vla_ros.prompt.build import build_prompt

INSTRUCTION = "put the red cube into the blue bowl"
STEPS = 4
FASTER = 4.0
"""How many times faster than our own eager the recorded call must be."""

GOALS_MS = {224: 12.0, 512: 25.0}
"""p50 on an H100, by the side of the square images: about 220 and 800 tokens."""


def seeing(robot: Embodiment, side: int) -> Embodiment:
    """Return the robot with square images of `side` pixels."""
    size = {"width_px": side, "height_px": side, "input_width_px": side, "input_height_px": side}
    cameras = tuple(camera.model_copy(update=size) for camera in robot.file.cameras)
    return replace(robot, file=robot.file.model_copy(update={"cameras": cameras}))


def compare(row: str, checkpoint: Checkpoint, robot: Embodiment, runs: int) -> Comparison:
    """Measure one size of images."""
    side = robot.file.cameras[0].input_width_px
    observation = robot.make_example()
    prompt = build_prompt(robot, INSTRUCTION, observation.state)
    eager, recorded = (
        QwenVlaPolicy(checkpoint, robot, steps=STEPS, seed=0, continuation="none", record=record)
        for record in (None, record_on_gpu)
    )
    span = [x.q99 - x.q01 for x in checkpoint.normalization[robot.file.normalization].channels]
    answers = [policy.infer(observation, prompt).actions for policy in (eager, recorded)]
    difference = float((abs(answers[0] - answers[1]) / span).mean())
    baseline, ours = interleave(
        lambda: eager.infer(observation, prompt), lambda: recorded.infer(observation, prompt), runs
    )
    tokens = len(robot.file.cameras) * (side // 32) ** 2
    goal, ratio = GOALS_MS[side], baseline[0] / ours[0]
    return Comparison(
        row=row,
        what=f"{checkpoint.manifest.model.preset}, bf16, {tokens} image tokens",
        baseline=baseline,
        ours=ours,
        goal=f"<= {goal:g} ms on an H100 and >= {FASTER:g}x",
        is_met=ours[0] <= goal and ratio >= FASTER,
        runs=runs,
        remark=f"{torch.cuda.get_device_name()}; mean difference {difference:.1e} of a range; "
        f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB",
    )


def main() -> None:
    """Measure two sizes of images."""
    parser = arguments((__doc__ or "").splitlines()[0], runs=50)
    parser.add_argument("--preset", choices=PRESETS, default="4b")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("torch finds no GPU here: nothing was measured.")
        return
    robot = load_embodiment("aloha_sim")
    prompt = build_prompt(robot, INSTRUCTION, robot.make_example().state)
    checkpoint = untrained(PRESETS[options.preset], robot, prompt, torch.bfloat16)
    checkpoint.model.to(options.device)
    with torch.cuda.device(options.device):
        rows = zip(("G1", "G2"), GOALS_MS, strict=True)
        report(
            [compare(row, checkpoint, seeing(robot, side), options.runs) for row, side in rows],
            options.json,
        )


if __name__ == "__main__":
    main()
