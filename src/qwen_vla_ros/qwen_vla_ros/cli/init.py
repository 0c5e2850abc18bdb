"""`qwen-vla init` makes an untrained checkpoint; `model-info` says how large a model is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def init(
    preset: str,
    out: Path,
    robots: Sequence[str],
    seed: int = 0,
    backbone: Path | None = None,
) -> int:
    """Write an untrained checkpoint that serves `robots`, and say what it is.

    Args:
        preset: `nano`, or a larger one with `backbone`.
        out: Folder to make.
        robots: Names or paths of embodiment files.
        seed: Of the random weights.
        backbone: Folder of a Qwen3.5 model, for its weights and tokenizer.

    Raises:
        CheckpointError: When the checkpoint cannot be made.
        EmbodimentError: When a robot cannot be loaded.
    """
    # torch takes seconds to import, and `qwen-vla --help` should not.
    from qwen_vla_ros.embodiment.load import load_embodiment
    from qwen_vla_ros.policy.checkpoint import init_checkpoint

    embodiments = [load_embodiment(robot) for robot in robots]
    init_checkpoint(preset, out, embodiments, seed, backbone=backbone)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    names = ", ".join(embodiment.name for embodiment in embodiments)
    print(f"{out}: an untrained {preset} for {names}, {size / 1e6:.1f} MB.")
    return 0


def model_info(preset: str) -> int:
    """Print the parameter table of a preset.

    Raises:
        CheckpointError: When there is no such preset.
    """
    from qwen_vla_ros.errors import CheckpointError, suggest
    from qwen_vla_ros.policy.config import PRESETS
    from qwen_vla_ros.policy.parameter_table import parameter_table

    if preset not in PRESETS:
        raise CheckpointError(f"unknown preset '{preset}'.{suggest(preset, PRESETS)}")
    config = PRESETS[preset]
    table = parameter_table(config)
    for row, count in table.items():
        blocks = config.decoder.num_blocks
        each = f"  ({blocks} x {count / blocks / 1e6:.1f} M)" if row == "decoder blocks" else ""
        print(f"{row:<20}{count / 1e6:>10.1f} M{each}")
    print(f"{'total':<20}{sum(table.values()) / 1e6:>10.1f} M")
    return 0
