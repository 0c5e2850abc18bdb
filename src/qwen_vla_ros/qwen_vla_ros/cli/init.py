"""`qwen-vla init` makes an untrained checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def init(
    preset: str,
    out: Path,
    robots: Sequence[str],
    seed: int = 0,
    backbone: str = "",
    revision: str = "",
    *,
    random: bool = False,
) -> int:
    """Write an untrained checkpoint that serves `robots`, and say what it is.

    Args:
        preset: `nano`, or a larger one with `backbone` or `random`.
        out: Folder to make.
        robots: Names or paths of embodiment files.
        seed: Of the random weights.
        backbone: Folder of a Qwen3.5 model, or its id on the model hub.
        revision: Commit on the model hub.
        random: Make all weights of a large preset random.

    Raises:
        CheckpointError: When the checkpoint cannot be made.
        EmbodimentError: When a robot cannot be loaded.
    """
    # torch takes seconds to import, and `qwen-vla --help` should not.
    from qwen_vla_ros.checkpoint.checkpoint import read_manifest
    from qwen_vla_ros.checkpoint.folder import refuse_existing
    from qwen_vla_ros.checkpoint.fresh_checkpoint import init_checkpoint
    from qwen_vla_ros.checkpoint.published import find_published
    from qwen_vla_ros.embodiment.load import load_embodiment

    embodiments = [load_embodiment(robot) for robot in robots]
    refuse_existing(out)  # before anything is fetched
    published = find_published(backbone, revision) if backbone else None
    init_checkpoint(preset, out, embodiments, seed, backbone=published, random=random)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    names = ", ".join(embodiment.name for embodiment in embodiments)
    print(f"{out}: an untrained {preset} for {names}, {_in_words(size)}.")
    print(f"Weights: {read_manifest(out).provenance.weights}.")
    return 0


def _in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
