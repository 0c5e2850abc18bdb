"""`adapter_config.json` as peft writes it: plain LoRA and nothing else.

peft has dozens of settings, and each release adds some. Those that change what an adapter does are
read here; a few others only matter while it is trained; all the rest must be off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_vla_ros.data_file import read_object
from qwen_vla_ros.errors import CheckpointError

ADAPTER_CONFIG = "adapter_config.json"

MAX_RANK = 1024

_READ = frozenset(
    (
        "peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias",
        "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "revision",
        "auto_mapping", "init_lora_weights",
    )
)  # fmt: skip
_TRAINING_ONLY = frozenset(
    (
        "base_model_name_or_path", "task_type", "inference_mode", "lora_dropout", "peft_version",
        "megatron_core", "qalora_group_size",
    )
)  # fmt: skip

# peft notes the class that it wrapped, and would import it by that name; this is ours.
_OUR_CLASS = {"base_model_class": "QwenVla", "parent_library": "qwen_vla_ros.model.model"}

# Other beginnings take a part out of the weights that the adapter is then added to.
_BEGINNINGS = (True, False, "gaussian")

_SHA256 = "sha256:"
_PLAIN = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What an adapter does.

    Attributes:
        rank: Columns of the thin matrices, where `ranks` has no other.
        alpha: Strength, where `alphas` has no other.
        ranks: By the end of a layer's name.
        alphas: By the end of a layer's name.
        is_scaled_by_root: Divides by the root of the rank and not by the rank (rsLoRA).
        targets: Ends of the names of the adapted layers; empty when they are told by a pattern.
        is_partial: Whether some layers with these names are left out.
    """

    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    is_scaled_by_root: bool
    targets: tuple[str, ...]
    is_partial: bool

    def rank_of(self, layer: str) -> int:
        """Return the rank that a layer is adapted with."""
        return next((rank for end, rank in self.ranks.items() if matches(layer, end)), self.rank)

    def scale_of(self, layer: str) -> float:
        """Return the factor of what is added to a layer."""
        alpha = next((x for end, x in self.alphas.items() if matches(layer, end)), self.alpha)
        rank = self.rank_of(layer)
        return alpha / (rank**0.5 if self.is_scaled_by_root else rank)


def matches(layer: str, end: str) -> bool:
    """Say whether a layer's name is `end`, or ends with it after a dot."""
    return layer == end or layer.endswith(f".{end}")


def base_revision(weights_sha256: str | None) -> str | None:
    """Return how an adapter notes the weights that it belongs to, in peft's `revision`."""
    return None if weights_sha256 is None else f"{_SHA256}{weights_sha256}"


def read_adapter_config(path: Path, weights_sha256: str | None) -> AdapterConfig:
    """Read the file, for a base whose weights have this digest.

    Raises:
        CheckpointError: When it describes more than LoRA, or an adapter of other weights.
    """
    values = read_object(path)
    for key, value in values.items():
        if key not in _READ | _TRAINING_ONLY and value not in (None, False, 0, "", [], {}):
            raise CheckpointError(
                f"{path}: {key} is {str(value)[:80]!r}; only plain LoRA can be merged, and this "
                "would have to be off."
            )
    _check_kind(path, values)
    base, ours = values.get("revision"), base_revision(weights_sha256)
    if isinstance(base, str) and base.startswith(_SHA256) and ours and base != ours:
        raise CheckpointError(
            f"{path}: was trained on other weights ({base[:19]}...) than those of this "
            f"checkpoint ({ours[:19]}...)."
        )
    targets = values.get("target_modules")
    if not isinstance(targets, str | list) or not targets:
        raise CheckpointError(
            f"{path}: target_modules: the names of the adapted layers are needed."
        )
    listed = targets if isinstance(targets, list) else []
    left_out = ("exclude_modules", "layers_to_transform", "layers_pattern")
    return AdapterConfig(
        rank=int(_number(path, "r", values.get("r"), whole=True)),
        alpha=_number(path, "lora_alpha", values.get("lora_alpha")),
        ranks={
            end: int(_number(path, f"rank_pattern.{end}", value, whole=True))
            for end, value in _by_layer(path, "rank_pattern", values).items()
        },
        alphas={
            end: _number(path, f"alpha_pattern.{end}", value)
            for end, value in _by_layer(path, "alpha_pattern", values).items()
        },
        is_scaled_by_root=values.get("use_rslora") is True,
        targets=tuple(_plain(path, "target_modules", target) for target in listed),
        is_partial=any(values.get(key) for key in left_out),
    )


def _check_kind(path: Path, values: Mapping[str, Any]) -> None:
    if values.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{path}: peft_type is {str(values.get('peft_type'))[:80]!r}; allowed: LORA."
        )
    if values.get("bias", "none") != "none":
        raise CheckpointError(f"{path}: bias is {str(values['bias'])[:80]!r}; allowed: none.")
    if values.get("auto_mapping") not in (None, _OUR_CLASS):
        raise CheckpointError(
            f"{path}: auto_mapping names a class to import; only that of this software may stand "
            "there."
        )
    if values.get("init_lora_weights", True) not in _BEGINNINGS:
        raise CheckpointError(
            f"{path}: init_lora_weights is {str(values['init_lora_weights'])[:80]!r}, which "
            "changes the base; allowed: true, false, gaussian."
        )


def _by_layer(path: Path, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    found = values.get(key) or {}
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: {key}: must be numbers by name of layer.")
    return {_plain(path, key, end): value for end, value in found.items()}


def _plain(path: Path, key: str, end: object) -> str:
    # peft takes patterns here. A hostile one never ends, and a name is all that is needed.
    if not isinstance(end, str) or not _PLAIN.fullmatch(end):
        raise CheckpointError(
            f"{path}: {key}: {str(end)[:80]!r} is no name of a layer; patterns are not read."
        )
    return end


def _number(path: Path, key: str, value: object, *, whole: bool = False) -> float:
    kinds = (int,) if whole else (int, float)
    top = MAX_RANK if whole else 1e6
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value <= top:
        what = "a whole number from 1" if whole else "a number above 0"
        raise CheckpointError(f"{path}: {key} is {str(value)[:80]!r}; allowed: {what} to {top:g}.")
    return float(value)
