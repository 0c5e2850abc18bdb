"""Robot units become the range -1 to 1 and back, by the statistics of one data set.

One file per data set, `normalization/<data set>.json`. Each data set keeps its own convention for
what its channels mean; here they are only names, units and two quantiles. NumPy only.

Shapes: H action steps, c native channels, K channels of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from qwen_vla_ros.data_file import read_json, write_json
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.types import FloatArray

if TYPE_CHECKING:
    from qwen_vla_ros.embodiment.embodiment import Embodiment

Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True, kw_only=True)
class ChannelStatistics:
    """One column of the actions: 98 % of its values lie between `q01` and `q99`, in `unit`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    name: Text
    unit: Text
    q01: Finite
    q99: Finite

    def __post_init__(self) -> None:
        """Check that the quantiles are in order."""
        if self.q01 > self.q99:
            raise ValueError(f"{self.name}: q01 {self.q01} is above q99 {self.q99}")


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """The statistics of one data set.

    Attributes:
        dataset: Its name, which is the file's.
        source: Where the numbers come from, in words.
        channels: In the order of the columns.
        count: Actions that the quantiles were taken of; `None` when they are not of data.
        action_horizon: H that the model was trained to predict; `None` before any training.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    dataset: Text
    source: Text
    channels: Annotated[tuple[ChannelStatistics, ...], Field(min_length=1, max_length=4096)]
    count: Annotated[int, Field(ge=1)] | None = None
    action_horizon: Annotated[int, Field(ge=1, le=1024)] | None = None
    schema_version: Literal[1] = 1

    @property
    def names(self) -> tuple[str, ...]:
        """Channel names in order."""
        return tuple(channel.name for channel in self.channels)

    def normalize(self, actions: FloatArray) -> FloatArray:
        """Robot units to [-1, 1], clipped; (..., c) both ways. A constant channel becomes 0."""
        low, span = self._ranges()
        scaled = 2 * (np.asarray(actions, np.float64) - low) / np.where(span > 0, span, 1) - 1
        return np.clip(np.where(span > 0, scaled, 0.0), -1, 1)

    def denormalize(self, normalized: npt.NDArray[np.floating[Any]]) -> FloatArray:
        """[-1, 1] to robot units, clipped; (..., c) both ways. A constant channel is its constant.

        Clipped here too (our choice): the model never saw a target outside, so what lies there
        is integration error, and the robot should not be asked to follow it.
        """
        low, span = self._ranges()
        values = low + (np.asarray(normalized, np.float64) + 1) / 2 * span
        # After the sum and not before it: rounding must not carry a value over its limit.
        return np.clip(values, low, [channel.q99 for channel in self.channels])

    def _ranges(self) -> tuple[FloatArray, FloatArray]:
        low = np.array([channel.q01 for channel in self.channels])
        span = np.array([channel.q99 for channel in self.channels]) - low
        # A span of rounding errors is a constant channel, and dividing by it would blow noise up.
        return low, np.where(span > 1e-9 * np.maximum(1, np.abs(low)), span, 0.0)


def save_statistics(directory: Path, statistics: Mapping[str, Normalization]) -> None:
    """Write one file per data set."""
    directory.mkdir()
    for dataset, normalization in statistics.items():
        write_json(directory / f"{dataset}.json", normalization)


def load_statistics(directory: Path) -> dict[str, Normalization]:
    """Return the statistics in a folder, by data set.

    Raises:
        CheckpointError: When a file is malformed, or is about another data set than its name says.
    """
    found = {
        path.stem: read_json(path, Normalization) for path in sorted(directory.glob("*.json"))
    }
    for name, statistics in found.items():
        if statistics.dataset != name:
            raise CheckpointError(
                f"{directory / name}.json: is about '{statistics.dataset}', not '{name}'."
            )
    return found


def check_horizon(statistics: Normalization, embodiment: Embodiment) -> None:
    """Refuse a robot that asks for chunks of another length than the model was trained on.

    Raises:
        CheckpointError: With both lengths.
    """
    trained, asked = statistics.action_horizon, embodiment.file.prompt.action_horizon
    if trained is not None and trained != asked:
        raise CheckpointError(
            f"normalization/{statistics.dataset}.json: the model was trained on chunks of "
            f"{trained} actions; {embodiment.name} asks for {asked} (prompt.action_horizon)."
        )


def limits_as_statistics(embodiment: Embodiment) -> Normalization:
    """Return statistics that spread every channel over what the safety limits allow.

    They stand in for those of a data set until there is one.
    """
    file = embodiment.file
    limits = [file.safety.joints[joint] for joint in embodiment.joints]
    corners = np.array([[limit.lower for limit in limits], [limit.upper for limit in limits]])
    ends = np.sort(embodiment.channels_from_joints(corners), axis=0)  # (2, c)
    if base := file.safety.base:
        reach = {
            "waypoint_x": base.linear_velocity * embodiment.dt,
            "waypoint_y": base.linear_velocity * embodiment.dt,
            "waypoint_yaw": base.angular_velocity * embodiment.dt,
        }
        for column, channel in enumerate(file.action):
            if channel.kind in reach:
                ends[:, column] = -reach[channel.kind], reach[channel.kind]
    return Normalization(
        dataset=file.normalization,
        source=f"safety limits of {embodiment.name}; no data",
        channels=tuple(
            ChannelStatistics(
                name=channel.name, unit=channel.unit, q01=float(low), q99=float(high)
            )
            for channel, low, high in zip(file.action, *ends, strict=True)
        ),
    )


def pad_actions(
    normalized: FloatArray, horizon: int, width: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the model's action tensor and its mask; both (horizon, width).

    The native channels lead and zeros follow; they are no semantic slots. In the paper's
    comparison this beats a head for each robot.

    Raises:
        ValueError: When `normalized` (H, c) does not fit.
    """
    steps, channels = normalized.shape
    if steps > horizon or channels > width:
        raise ValueError(f"actions of {steps}x{channels} do not fit into {horizon}x{width}")
    padded = np.zeros((horizon, width), np.float32)
    mask = np.zeros((horizon, width), np.bool_)
    padded[:steps, :channels] = normalized
    mask[:steps, :channels] = True
    return padded, mask
