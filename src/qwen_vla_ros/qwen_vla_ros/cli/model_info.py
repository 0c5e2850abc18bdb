"""`qwen-vla model-info`: how large a model is, and what a checkpoint says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen_vla_ros.checkpoint.manifest import Manifest
    from qwen_vla_ros.checkpoint.normalization import Normalization
    from qwen_vla_ros.checkpoint.weights_files import StoredWeight
    from qwen_vla_ros.model.config import ModelConfig

_NAME, _NUMBER = 22, 12


def model_info(preset: str = "", checkpoint: Path | None = None) -> int:
    """Print the parameter table of a preset or of a checkpoint, and the memory that it needs.

    Args:
        preset: One of the presets; the paper's when neither is given.
        checkpoint: A checkpoint, whose provenance and statistics are printed too.

    Raises:
        CheckpointError: When there is no such preset, or the checkpoint cannot be used.
    """
    from qwen_vla_ros.errors import CheckpointError, suggest
    from qwen_vla_ros.model.config import PAPER, PRESETS

    if checkpoint is not None:
        if preset:
            raise CheckpointError("name a preset or a checkpoint, not both.")
        return _checkpoint_info(checkpoint)
    preset = preset or PAPER.preset
    if preset not in PRESETS:
        raise CheckpointError(f"unknown preset '{preset}'.{suggest(preset, PRESETS)}")
    _print_parameters(PRESETS[preset])
    _print_memory(PRESETS, marked=preset)
    return 0


def _checkpoint_info(directory: Path) -> int:
    from qwen_vla_ros.checkpoint.checkpoint import NORMALIZATION, read_manifest
    from qwen_vla_ros.checkpoint.normalization import load_statistics
    from qwen_vla_ros.checkpoint.weights_files import find_weights

    manifest = read_manifest(directory)
    stored = find_weights(directory)
    statistics = load_statistics(directory / NORMALIZATION)
    _print_parameters(manifest.model)
    _print_memory({manifest.model.preset: manifest.model})
    _print_provenance(manifest, stored)
    for normalization in statistics.values():
        _print_statistics(normalization)
    return 0


def _print_parameters(config: ModelConfig) -> None:
    from qwen_vla_ros.checkpoint.parameter_table import (
        BACKBONE_ROWS,
        DECODER_ROWS,
        parameter_table,
    )

    table = parameter_table(config)
    blocks = config.decoder.num_blocks
    each = f"   {blocks} x {table['decoder blocks'] / blocks / 1e6:.1f} M"
    print(f"{config.preset + ', in millions':<{_NAME}}{'parameters':>{_NUMBER}}")
    for title, rows in (("backbone", BACKBONE_ROWS), ("action decoder", DECODER_ROWS)):
        for row in rows:
            _print_count(f"  {row}", table[row], each if row == "decoder blocks" else "")
        _print_count(title, sum(table[row] for row in rows))
    _print_count("total", sum(table.values()))


def _print_count(name: str, count: int, more: str = "") -> None:
    print(f"{name:<{_NAME}}{count / 1e6:>{_NUMBER},.1f}{more}")


def _print_memory(configs: Mapping[str, ModelConfig], marked: str = "") -> None:
    from qwen_vla_ros.checkpoint.parameter_table import PRECISIONS, parameter_table

    head = "".join(f"{name:>{_NUMBER}}" for name in PRECISIONS)
    width = _NUMBER * len(PRECISIONS)
    print(f"\n{'memory, in GB':<{_NAME}}{'weights':>{width}}{'to train (Adam)':>{width}}")
    print(f"{'':<{_NAME}}{head}{head}")
    for name, config in configs.items():
        count = sum(parameter_table(config).values())
        sizes = [x.weights for x in PRECISIONS.values()] + [
            x.training for x in PRECISIONS.values()
        ]
        cells = "".join(f"{count * size / 1e9:>{_NUMBER}.2f}" for size in sizes)
        print(f"{('> ' if name == marked else '  ') + name:<{_NAME}}{cells}")
    print(
        "To train: weights, gradients and both moments; in bf16 with moments and a copy of the\n"
        "weights in fp32. What a forward pass keeps comes on top."
    )


def _print_provenance(manifest: Manifest, stored: Mapping[str, StoredWeight]) -> None:
    origin = manifest.provenance
    files = {weight.path for weight in stored.values()}
    size = sum(path.stat().st_size for path in files)
    dtypes = ", ".join(sorted({weight.entry.dtype for weight in stored.values()}))
    print("\nprovenance")
    _print_fact("weights", f"{origin.weights} (seed {origin.seed})")
    _print_fact("stage", origin.stage)
    for robot in origin.embodiments:
        _print_fact("embodiment", f"{robot.name} {robot.hash}")
    for data in origin.datasets:
        _print_fact("data set", f"{data.name}, {data.episodes} episodes, {data.licence}")
    _print_fact("created with", manifest.created_with or "unknown")
    _print_fact("files", f"{len(files)}, {size / 1e9:.2f} GB, {dtypes}")
    _print_fact("sha256 of weights", manifest.weights_sha256 or "unknown")


def _print_statistics(statistics: Normalization) -> None:
    print(f"\nstatistics of {statistics.dataset}")
    _print_fact("source", statistics.source)
    if statistics.count is not None:
        _print_fact("actions", f"{statistics.count:,}")
    if statistics.action_horizon is not None:
        _print_fact("action horizon", str(statistics.action_horizon))
    width = max(len(channel.name) for channel in statistics.channels) + 2
    width = max(width, _NAME - 2)
    print(f"  {'channel':<{width}}{'q01':>{_NUMBER}}{'q99':>{_NUMBER}}  unit")
    for channel in statistics.channels:
        numbers = f"{channel.q01:>{_NUMBER}.4f}{channel.q99:>{_NUMBER}.4f}"
        print(f"  {channel.name:<{width}}{numbers}  {channel.unit}")


def _print_fact(name: str, text: str) -> None:
    print(f"  {name:<{_NAME - 2}}{text}")
