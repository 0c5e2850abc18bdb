"""Row 3: from two cameras' images to the patches that the vision encoder reads.

    python benchmarks/image_processing.py

The baseline is the Qwen3.5 family's processor as transformers has it for Pillow images, given
NumPy arrays and asked for tensors. Both answer with the same numbers, which is checked first: bit
for bit where the images have their size already; where they are resized inside, to one level of
255 in at most one value of a hundred (both are bicubic with anti-aliasing and round to bytes).
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import torch
from side_by_side import Comparison, arguments, interleave, report
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qwen_vla_ros.model.config import NANO
from qwen_vla_ros.model.family import vision_of
from qwen_vla_ros.model.image_processing import ImageProcessor
from qwen_vla_ros.observation.framing import Size
from qwen_vla_ros.types import ImageArray

GOAL = 8.0
CAMERAS = 2
LARGEST_DIFFERENCE = 2.001 / 255
"""One level of 255, in the range from -1 to 1."""

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def look(width: int, height: int, seed: int) -> ImageArray:
    """Return what a camera might see: soft shapes and some noise."""
    rng = np.random.default_rng(seed)
    soft = cv2.resize(rng.random((6, 8, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(255 * soft + rng.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)


def stock(largest: Size) -> Qwen2VLImageProcessorPil:
    """Return the family's processor, which shrinks images to at most as many pixels as these."""
    vision: Any = vision_of(NANO.backbone)
    return Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size,
        temporal_patch_size=vision.temporal_patch_size,
        merge_size=vision.spatial_merge_size,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": 1024, "longest_edge": largest[0] * largest[1]},
    )


def film(pixel_values: Numbers) -> Numbers:
    """Return pixel_values as the family has them: every frame twice, colour by colour."""
    frames = pixel_values.reshape(len(pixel_values), 3, 1, -1).repeat(2, axis=2)
    return frames.reshape(len(pixel_values), -1)


def compare(
    row: str,
    what: str,
    goal: str,
    camera: Size,
    size: Size,
    runs: int,
) -> Comparison:
    """Hold the numbers against each other, then the times."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    images = [look(*camera, seed) for seed in range(CAMERAS)]
    sizes = [size] * CAMERAS
    theirs, ours = stock(size), ImageProcessor(vision_of(NANO.backbone))
    expected = theirs(images, return_tensors="np")["pixel_values"]
    difference = np.abs(expected - film(ours(images, sizes).pixel_values))
    differing = float((difference > 1e-6).mean())
    if difference.max() > LARGEST_DIFFERENCE or differing > (0.01 if camera != size else 0):
        raise ValueError(f"{differing:.2%} of the values differ, by up to {difference.max():.3g}")
    baseline, mine = interleave(
        lambda: theirs(images, return_tensors="pt")["pixel_values"],
        lambda: torch.from_numpy(ours(images, sizes).pixel_values),
        runs,
    )
    return Comparison(
        row=row,
        what=what,
        baseline=baseline,
        ours=mine,
        goal=goal or "none",
        is_met=not goal or baseline[0] >= GOAL * mine[0],
        runs=runs,
        remark=f"{differing:.2%} differ by one level of 255" if differing else "the same bits",
    )


def main() -> None:
    """Run the benchmark."""
    options = arguments((__doc__ or "").splitlines()[0], 200).parse_args()
    seen, own, shrunk = (224, 224), (640, 480), (256, 192)
    rows = (
        ("3", "2 cameras to what our encoder reads", f">= {GOAL:g}x", seen, seen),
        ("3a", "the same, 640x480 resized inside", "", own, shrunk),
    )
    # Each in a process of its own: what the allocator learned from one must not speed up the next.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        running = [processes.submit(compare, *row, options.runs) for row in rows]
        report([each.result() for each in running], options.json)


if __name__ == "__main__":
    main()
