"""The limits of one robot as arrays, taken from its embodiment file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from qwen_vla_ros.embodiment.backend import load_backend
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.profile import NORMAL, Profile
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.types import FloatArray

LONGEST_TRAJECTORY_S = 0.2
"""No trajectory given to a controller covers more time than this, and each ends at rest (W8)."""

LEANING = 2e-3
"""How far (rad or m) a joint that leans on its stop may be measured beyond its limit."""
SLACK = 1e-9
"""Rounding that the check after the filter forgives, in rad, m and their rates."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JointEnvelope:
    """What joints may do. Every array has shape (J,), in rad or m and seconds.

    Attributes:
        names: Joint names, in the order of the arrays.
        lower: Least position.
        upper: Greatest position.
        velocity: Greatest speed.
        acceleration: Greatest change of speed per second.
        start_jump: How far the first command of a motion may be from the measured position.
        tracking: How far the measured position may stay from the commanded one.
        is_paced: Whether the joint slows down together with the others, so that the arm keeps its
            path. A gripper does not: its jump from open to closed would hold up the whole arm.
        jerk: Greatest change of acceleration per second, infinite where none is declared; None
            where none is declared for any joint. It is kept by the curve, not by the commands.
    """

    names: tuple[str, ...]
    lower: FloatArray
    upper: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    start_jump: FloatArray
    tracking: FloatArray
    is_paced: npt.NDArray[np.bool_]
    jerk: FloatArray | None = None

    def __post_init__(self) -> None:
        for field in fields(self)[1:-1]:
            values = getattr(self, field.name)
            if values.shape != (len(self.names),) or not np.isfinite(values).all():
                raise ValueError(f"{field.name}: needs {len(self.names)} finite values")
        positive = (self.velocity, self.acceleration, self.start_jump, self.tracking)
        # `0` never means off: a limit that limits nothing is a mistake (W11).
        if not all((values > 0).all() for values in positive):
            raise ValueError("velocity, acceleration, start_jump and tracking must be positive")
        if not (self.lower < self.upper).all():
            raise ValueError("lower must be less than upper")

    @classmethod
    def from_embodiment(cls, embodiment: Embodiment, profile: Profile = NORMAL) -> Self:
        """Read the limits of the commanded joints, with the speeds that a profile leaves them.

        Raises:
            EmbodimentError: A joint has no limits, or could not stop within the time that a
                trajectory may cover.
        """
        limits = embodiment.file.safety.joints
        missing = [joint for joint in embodiment.joints if joint not in limits]
        if missing:
            raise EmbodimentError(
                f"{embodiment.path}: safety.joints: '{missing[0]}' has no limits, but is commanded"
            )
        grippers = {c.joint for c in embodiment.file.action if c.kind == "gripper"}

        def column(key: str) -> FloatArray:
            return np.array([getattr(limits[joint], key) for joint in embodiment.joints])

        envelope = cls(
            names=embodiment.joints,
            lower=column("lower"),
            upper=column("upper"),
            velocity=np.array(
                [profile.velocity(embodiment, joint).value for joint in embodiment.joints]
            ),
            acceleration=column("acceleration"),
            start_jump=column("start_jump"),
            tracking=column("tracking"),
            is_paced=np.array([joint not in grippers for joint in embodiment.joints]),
            jerk=_jerk(embodiment),
        )
        envelope._require_short_stops(embodiment)
        return envelope

    def indices(self, joints: tuple[str, ...]) -> list[int]:
        """Return where `joints` stand in the arrays."""
        return [self.names.index(joint) for joint in joints]

    def settle(self, measured: FloatArray) -> FloatArray:
        """Return a measured position (J,), taken as at a limit where it is just beyond it.

        A joint that leans on its stop is measured a little outside; holding it there would be a
        command outside the envelope.
        """
        settled = np.clip(measured, self.lower, self.upper)
        return np.where(np.abs(settled - measured) <= LEANING, settled, measured)

    def is_still(self, velocity: FloatArray) -> bool:
        """Whether a measured velocity (J,) is near zero: 5 % of what each joint may do."""
        return bool((np.abs(velocity) <= 0.05 * self.velocity).all())

    def count_violations(
        self, position: FloatArray, velocity: FloatArray, next_position: FloatArray, dt: float
    ) -> int:
        """Count the joints that a command would take out of the envelope.

        Written apart from the filter on purpose: one checks the other.

        Args:
            position: Where the joints were commanded to be, shape (J,).
            velocity: Speed of the command before, shape (J,).
            next_position: The command to check, shape (J,).
            dt: Seconds between the two.
        """
        if next_position.shape != self.lower.shape:
            return len(self.names)
        speed = (next_position - position) / dt
        inward = (position <= self.upper) | (speed <= SLACK)
        inward &= (position >= self.lower) | (speed >= -SLACK)
        ceiling = np.maximum(self.upper, position) + SLACK
        floor = np.minimum(self.lower, position) - SLACK
        # Comparisons with NaN are false, and a joint is only fine when all of them are true.
        fine = (next_position <= ceiling) & (next_position >= floor) & inward
        fine &= np.abs(speed) <= self.velocity + SLACK
        fine &= np.abs(speed - velocity) <= self.acceleration * dt + SLACK
        return int((~fine).sum())

    def _require_short_stops(self, embodiment: Embodiment) -> None:
        period = 1.0 / embodiment.file.command.rate_hz
        lead = lead_periods(embodiment)
        times = self.velocity / self.acceleration + lead * period
        outputs = embodiment.file.command.outputs
        is_timed = any(load_backend(output.backend).is_timed for output in outputs)
        for joint, time in zip(self.names, times, strict=True):
            if is_timed and time > LONGEST_TRAJECTORY_S + SLACK:
                raise EmbodimentError(
                    f"{embodiment.path}: safety.joints.{joint}: a stop takes {time:.3f} s "
                    f"(velocity / acceleration + {lead} / command.rate_hz), but a trajectory may "
                    f"cover {LONGEST_TRAJECTORY_S} s. Allow less velocity or more acceleration."
                )


def lead_periods(embodiment: Embodiment) -> int:
    """Return how many periods a gate of joints plans ahead: one more where a jerk is declared."""
    return 2 if _jerk(embodiment) is None else 3


def _jerk(embodiment: Embodiment) -> FloatArray | None:
    """Return the declared limits of jerk (J,), infinite where there is none.

    A curve whose acceleration goes straight from one command's to the next one's changes it by
    twice the limit within a period at most: less than that is not promised, and refused.

    Raises:
        EmbodimentError: A limit is declared that no curve of this gate keeps.
    """
    rate_hz = embodiment.file.command.rate_hz
    limits = {joint: embodiment.file.safety.joints[joint] for joint in embodiment.joints}
    declared = {joint: limit.jerk for joint, limit in limits.items() if limit.jerk is not None}
    for joint, jerk in declared.items():
        where = f"{embodiment.path}: safety.joints.{joint}.jerk"
        kept = 2 * limits[joint].acceleration * rate_hz
        if jerk < kept * (1 - SLACK):
            raise EmbodimentError(
                f"{where}: {jerk:g} is less than what the played curve keeps, {kept:g} "
                "(2 * acceleration * command.rate_hz). Allow more jerk or less acceleration."
            )
        for output in embodiment.file.command.outputs:
            if joint in output.joints and not load_backend(output.backend).is_timed:
                raise EmbodimentError(
                    f"{where}: '{output.backend}' is told positions and no curve, and its jerk is "
                    "whatever the controller makes of them. Leave it out."
                )
    if not declared:
        return None
    return np.array([declared.get(joint, np.inf) for joint in embodiment.joints])


@dataclass(frozen=True, kw_only=True)
class BaseEnvelope:
    """What a planar base may do: m/s, rad/s, m/s^2 and rad/s^2."""

    linear_velocity: float
    angular_velocity: float
    linear_acceleration: float
    angular_acceleration: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{field.name}: must be positive and finite, not {value}")

    @classmethod
    def from_embodiment(cls, embodiment: Embodiment) -> Self:
        """Read the limits of the base.

        Raises:
            EmbodimentError: The file has none.
        """
        limits = embodiment.file.safety.base
        if limits is None:
            raise EmbodimentError(f"{embodiment.path}: safety.base: absent, but a base is driven")
        return cls(**limits.model_dump())

    @property
    def velocity(self) -> FloatArray:
        """Greatest (v, w), shape (2,)."""
        return np.array([self.linear_velocity, self.angular_velocity])

    @property
    def acceleration(self) -> FloatArray:
        """Greatest change of (v, w) per second, shape (2,)."""
        return np.array([self.linear_acceleration, self.angular_acceleration])

    def is_still(self, twist: FloatArray) -> bool:
        """Whether a measured twist (2,) is near zero: 5 % of what the base may do."""
        return bool((np.abs(twist) <= 0.05 * self.velocity).all())

    def count_violations(self, twist: FloatArray, next_twist: FloatArray, dt: float) -> int:
        """Count the components of a command that leave the envelope; `dt` in seconds."""
        if next_twist.shape != (2,):
            return 2
        fine = np.abs(next_twist) <= self.velocity + SLACK
        fine &= np.abs(next_twist - twist) <= self.acceleration * dt + SLACK
        return int((~fine).sum())
