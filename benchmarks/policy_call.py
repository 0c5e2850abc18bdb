"""Row 7: from three cameras' images to a chunk of actions in float32 on one thread, 4 steps.

    python benchmarks/policy_call.py [--runs N] [--json FILE]

The stock way is what one would put together: the family's image processor and model from
transformers, a tokenizer, and the decoder as one would write it down (see `decode.py`). Both have
the same weights and noise, and their actions are compared first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from backbone_forward import stock_forward, stock_of
from decode import PlainDecoder
from image_processing import stock as stock_processor
from side_by_side import Comparison, arguments, interleave, report
from untrained import untrained

from qwen_vla_ros.checkpoint.checkpoint import Checkpoint
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.model.action_decoder import Context
from qwen_vla_ros.model.config import NANO
from qwen_vla_ros.model.family import vision_of
from qwen_vla_ros.model.sampling import draw_noise
from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy
from qwen_vla_ros.policy.suitability import statistics_for
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.types import FloatArray, Observation, Prompt

STEPS = 4
GOAL, SLOWEST_HZ = 4.0, 10.0
TOLERANCE = 1e-4


class StockPolicy:
    """The same model, put together from what others offer."""

    def __init__(self, checkpoint: Checkpoint, robot: Embodiment) -> None:
        model = checkpoint.model
        self._model, self._tokenizer = stock_of(model.backbone), checkpoint.tokenizer
        self._decoder = PlainDecoder(model.decoder)
        self._statistics = statistics_for(checkpoint.normalization, robot)
        self._robot = robot
        camera = robot.file.cameras[0]
        self._processor = stock_processor((camera.input_width_px, camera.input_height_px))
        horizon, channels = robot.file.prompt.action_horizon, len(robot.channels)
        self._mask = torch.zeros(1, horizon, NANO.decoder.action_channels, dtype=torch.bool)
        self._mask[..., :channels] = True
        self._generator = torch.Generator()

    def infer(self, observation: Observation, prompt: Prompt) -> FloatArray:
        """Return the actions (H, c), in robot units."""
        images = [observation.images[camera] for camera in prompt.cameras]
        seen = self._processor(images, return_tensors="pt")
        grids = seen["image_grid_thw"]
        merged = vision_of(NANO.backbone).spatial_merge_size ** 2
        counts = [int(grid.prod()) // merged for grid in grids]
        tokens = self._tokenizer.encode(prompt.text, counts)
        ids, is_image = (
            torch.from_numpy(x)[None] for x in (tokens.ids, tokens.is_image.astype(np.int32))
        )
        words = {"input_ids": ids, "mm_token_type_ids": is_image}
        hidden = stock_forward(self._model, {**words, **seen})
        positions, _ = self._model.model.get_rope_index(ids, is_image, image_grid_thw=grids)
        context = Context(hidden, positions, None)
        y = draw_noise(self._mask, self._generator.manual_seed(0))
        for step in range(STEPS):
            y = y - self._decoder.velocity(context, y, 1 - step / STEPS) * self._mask / STEPS
        return self._statistics.denormalize(y[0, :, : len(self._robot.channels)].numpy())


def with_cameras_of_224_px(robot: Embodiment) -> Embodiment:
    """Return the robot with cameras that need no resizing, which the family does otherwise."""
    cameras = tuple(
        camera.model_copy(
            update={"width_px": camera.input_width_px, "height_px": camera.input_height_px}
        )
        for camera in robot.file.cameras
    )
    return replace(robot, file=robot.file.model_copy(update={"cameras": cameras}))


def main() -> None:
    """Measure the nano preset."""
    options = arguments((__doc__ or "").splitlines()[0], runs=40).parse_args()
    torch.set_num_threads(1)
    robot = with_cameras_of_224_px(load_embodiment("aloha_sim"))
    observation = robot.make_example()
    prompt = build_prompt(robot, "put the red cube into the blue bowl")
    checkpoint = untrained(NANO, robot, prompt)
    stock = StockPolicy(checkpoint, robot)
    ours = QwenVlaPolicy(checkpoint, robot, steps=STEPS, seed=0)

    def asked_of_stock() -> FloatArray:
        with torch.inference_mode():
            return stock.infer(observation, prompt)

    def asked_of_ours() -> FloatArray:
        return ours.infer(observation, prompt).actions

    span = [x.q99 - x.q01 for x in statistics_for(checkpoint.normalization, robot).channels]
    difference = float((abs(asked_of_ours() - asked_of_stock()) / span).max())
    baseline, own = interleave(asked_of_stock, asked_of_ours, options.runs)
    ratio, rate_hz = baseline[0] / own[0], 1000 / own[0]
    row = Comparison(
        row="7",
        what=f"whole policy call, {STEPS} steps, nano",
        baseline=baseline,
        ours=own,
        goal=f">= {GOAL:g}x and >= {SLOWEST_HZ:g} Hz",
        is_met=ratio >= GOAL and rate_hz >= SLOWEST_HZ and difference <= TOLERANCE,
        runs=options.runs,
        remark=f"{rate_hz:.0f} Hz; largest difference {difference:.1e} of a channel's range",
    )
    report([row], options.json)


if __name__ == "__main__":
    main()
