"""What a robot's controllers make of what they are sent, and how far that leaves the limits.

Written from the behaviour of ros2_controllers, and from nothing of this project: who checks a gate
must not share its mistakes. Messages go in as they were received; out come the set-points that the
controller hands to the hardware at each of its updates, and the worst ratio of their position,
speed, acceleration and jerk to the limits. Rates are differences of set-points that follow each
other, so that a seam between two messages counts as what it is: a jump of the motion.

- `joint_trajectory_controller` (Jazzy, Kilted): cubic where positions and velocities are given,
  linear for positions alone, quintic with accelerations. A new message counts from the next
  update on, whole. A stamp of 0 means that update; a stamp in the past is honoured. Before its
  first point the way leads there from where the joints are. Set-points are sampled one update
  ahead, and the last point is held.
- A forwarding controller hands on what it was last told.
- `diff_drive_controller`: as that, but a twist older than its time-out counts as zero.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

S = 1_000_000_000
RATES_HZ = (1000, 200, 100)
"""Of a controller's updates, as they are met in the field."""
AT_REST = 1e-3
"""As a share of the speed limit; slower is no motion."""


@dataclass(frozen=True)
class Limits:
    """Of some axes, in rad or m and seconds. Without bounds of position these are infinite."""

    names: tuple[str, ...]
    lower: Floats
    upper: Floats
    velocity: Floats
    acceleration: Floats
    jerk: Floats
    """Infinite where none is declared."""

    @classmethod
    def of_joints(cls, names: Sequence[str], limits: Mapping[str, Mapping[str, float]]) -> Limits:
        """Take the numbers of `safety.joints` of an embodiment file."""

        def column(key: str, default: float | None = None) -> Floats:
            values = [limits[name].get(key, default) for name in names]
            return np.array(values, dtype=np.float64)

        return cls(
            tuple(names),
            *(column(key) for key in ("lower", "upper", "velocity", "acceleration")),
            jerk=column("jerk", np.inf),
        )

    @classmethod
    def of_base(cls, limits: Mapping[str, float]) -> Limits:
        """Take the numbers of `safety.base`; the axes are (v, w), and where they lead is free."""
        return cls(
            ("linear", "angular"),
            np.full(2, -np.inf),
            np.full(2, np.inf),
            np.array([limits["linear_velocity"], limits["angular_velocity"]]),
            np.array([limits["linear_acceleration"], limits["angular_acceleration"]]),
            np.full(2, np.inf),
        )


@dataclass
class Worst:
    """The greatest ratio of one quantity to its limit, and where it was."""

    ratio: float = 0.0
    at_s: float = 0.0
    name: str = ""


@dataclass
class Account:
    """Looks at set-points as they come, and keeps the worst.

    Attributes:
        order: Which difference of the set-points is a speed: 1 where they are positions, 0 where
            they are speeds themselves.
        stride: Of how many updates a rate is taken. A motion is looked at from update to update,
            a speed that is told in steps over the period of the telling.
    """

    limits: Limits
    period_s: float
    order: int = 1
    stride: int = 1
    worst: dict[str, Worst] = field(default_factory=dict)
    beyond: float = 0.0
    """How far outside its limits a position was, rad or m."""
    updates: int = 0
    moving: int = 0
    not_finite: int = 0
    moved_s: float = -np.inf
    """When something last moved."""
    _tail: Floats | None = None

    def see(self, begin_s: float, rows: Floats) -> None:
        """Take in set-points (n, J) that are a period apart, the first of them at `begin_s`."""
        if not len(rows):
            return
        finite = np.isfinite(rows).all(axis=1)
        self.not_finite += int((~finite).sum())
        if not finite.all():
            self._tail = None
            return
        self.updates += len(rows)
        tail = self._tail
        joined = rows if tail is None else np.concatenate([tail, rows])
        known = 0 if tail is None else len(tail)
        limits, dt, step = self.limits, self.period_s * self.stride, self.stride
        if self.order:
            middle, half = (limits.upper + limits.lower) / 2, (limits.upper - limits.lower) / 2
            self._note("position", np.abs(rows - middle) / half, begin_s)
            outside = np.maximum(rows - limits.upper, limits.lower - rows)
            self.beyond = max(self.beyond, float(outside.max()))
        rates = joined
        bounds = (limits.velocity, limits.acceleration, limits.jerk)
        for quantity, bound in zip(("speed", "acceleration", "jerk"), bounds, strict=True):
            if self.order or quantity != "speed":
                if len(rates) <= step:
                    break
                rates = (rates[step:] - rates[:-step]) / dt
            if quantity == "jerk" and not np.isfinite(bound).any():
                break
            # Only what a new set-point had a part in, so that each counts once.
            lost = len(joined) - len(rates)
            fresh = rates[max(0, known - lost) :]
            first_s = begin_s + (max(known, lost) - known) * self.period_s
            share = np.abs(fresh) / bound
            self._note(quantity, share, first_s)
            if quantity == "speed" and len(share):
                moving = np.flatnonzero((share > AT_REST).any(axis=1))
                self.moving += len(moving)
                if len(moving):
                    self.moved_s = first_s + int(moving[-1]) * self.period_s
        self._tail = joined[-(3 * step) :].copy()

    def ratio(self, quantity: str) -> float:
        """Return the worst ratio of position, speed, acceleration or jerk so far."""
        return self.worst[quantity].ratio if quantity in self.worst else 0.0

    def _note(self, quantity: str, shares: Floats, first_s: float) -> None:
        if not len(shares):
            return
        best = self.worst.setdefault(quantity, Worst())
        at = int(np.argmax(shares))
        row, column = divmod(at, shares.shape[1])
        if shares[row, column] > best.ratio:
            best.ratio = float(shares[row, column])
            best.at_s = first_s + row * self.period_s
            best.name = self.limits.names[column]


@dataclass(frozen=True)
class Point:
    """Of a trajectory: time from its start (ns), and rows (J,); None where a field is empty."""

    ns: int
    position: Floats
    velocity: Floats | None = None
    acceleration: Floats | None = None


def coefficients(a: Point, b: Point) -> Floats:
    """Return those of the polynomial between two points, shape (degree + 1, J), lowest first."""
    h = (b.ns - a.ns) / S
    rise = b.position - a.position
    if a.velocity is None or b.velocity is None:
        return np.stack([a.position, rise / h])
    v0, v1 = a.velocity, b.velocity
    if a.acceleration is None or b.acceleration is None:
        return np.stack(
            [a.position, v0, (3 * rise / h - 2 * v0 - v1) / h, (v0 + v1 - 2 * rise / h) / h**2]
        )
    a0, a1 = a.acceleration, b.acceleration
    # The three that are left answer for place, speed and acceleration at the end.
    place = (rise - v0 * h - a0 * h**2 / 2) / h**3
    speed = (v1 - v0 - a0 * h) / h**2
    change = (a1 - a0) / h
    c3 = 10 * place - 4 * speed + change / 2
    c4 = (-15 * place + 7 * speed - change) / h
    c5 = (6 * place - 3 * speed + change / 2) / h**2
    return np.stack([a.position, v0, a0 / 2, c3, c4, c5])


class Curve:
    """Where a trajectory leads, as a controller plays it."""

    def __init__(self, points: Sequence[Point], start_ns: int) -> None:
        """Play `points`, whose times count from `start_ns`."""
        self.points = [
            Point(start_ns + p.ns, p.position, p.velocity, p.acceleration) for p in points
        ]
        self.times = [point.ns for point in self.points]
        self._pieces: dict[int, Floats] = {}

    def at(self, ns: int, derivative: int = 0) -> Floats:
        """Return the position (J,) or a derivative of it, at a time not before the first point."""
        k = bisect_right(self.times, ns) - 1
        if k >= len(self.points) - 1:
            last = self.points[-1].position
            return last if derivative == 0 else np.zeros_like(last)
        k = max(k, 0)
        s = (ns - self.times[k]) / S
        piece = self.piece(k)
        value = np.zeros(piece.shape[1])
        for power in range(derivative, len(piece)):
            factor = factorial(power) // factorial(power - derivative)
            value = value + piece[power] * (factor * s ** (power - derivative))
        return value

    def rows(self, times: npt.NDArray[np.int64]) -> Floats:
        """Return the positions (n, J) at rising times."""
        places = np.searchsorted(self.times, times, side="right") - 1
        out = np.empty((len(times), len(self.points[0].position)))
        for k in np.unique(places):
            here = places == k
            if k >= len(self.points) - 1:
                out[here] = self.points[-1].position
                continue
            piece = self.piece(max(int(k), 0))
            s = ((times[here] - self.times[max(int(k), 0)]) / S)[:, None]
            value = np.broadcast_to(piece[-1], (len(s), piece.shape[1]))
            for row in piece[-2::-1]:
                value = value * s + row
            out[here] = value
        return out

    def piece(self, k: int) -> Floats:
        if k not in self._pieces:
            self._pieces[k] = coefficients(self.points[k], self.points[k + 1])
        return self._pieces[k]


class Player:
    """A controller of joints: hears messages, and is played up to a time."""

    def __init__(self, limits: Limits, rate_hz: int, home: Floats, begin_ns: int) -> None:
        """Hold `home` (J,) until something is heard; the first update is at `begin_ns`."""
        self.account = Account(limits, 1 / rate_hz)
        self._names = limits.names
        self._period_ns = S // rate_hz
        self._next_ns = begin_ns
        self._heard: deque[tuple[int, int, list[Point]]] = deque()
        self._hold = np.array(home, dtype=np.float64)
        self._curve: Curve | None = None
        self.setpoint = self._hold
        self.speed = np.zeros_like(self._hold)
        # It has been at rest for a while.
        self.account.see(begin_ns / S - 2 / rate_hz, np.tile(self._hold, (3, 1)))

    def hear_trajectory(self, received_ns: int, message: Any) -> None:
        """Take in a trajectory_msgs/JointTrajectory of all the joints, in any order."""
        stamp = message.header.stamp
        order = [list(message.joint_names).index(name) for name in self._names]

        def row(values: Sequence[float]) -> Floats | None:
            return np.array(values, dtype=np.float64)[order] if len(values) else None

        points = [
            Point(
                int(p.time_from_start.sec) * S + int(p.time_from_start.nanosec),
                np.array(p.positions, dtype=np.float64)[order],
                row(p.velocities),
                row(p.accelerations),
            )
            for p in message.points
        ]
        self.hear(received_ns, int(stamp.sec) * S + int(stamp.nanosec), points)

    def hear(self, received_ns: int, stamp_ns: int, points: list[Point]) -> None:
        """Take in the points of a trajectory."""
        self._heard.append((received_ns, stamp_ns, points))

    def hear_positions(self, received_ns: int, positions: Sequence[float]) -> None:
        """Take in bare positions, which are handed on as they are."""
        self._heard.append((received_ns, 0, [Point(0, np.array(positions, dtype=np.float64))]))

    def play(self, until_ns: int) -> None:
        """Do all updates before a time."""
        while self._next_ns < until_ns:
            # From one message to the next all updates play one curve.
            end_ns = until_ns
            newest = None
            while self._heard and self._heard[0][0] <= self._next_ns:
                newest = self._heard.popleft()
            if newest is not None:
                self._replace(*newest[1:])
            if self._heard:
                end_ns = min(end_ns, self._heard[0][0])
            count = max(1, -(-(end_ns - self._next_ns) // self._period_ns))
            times = self._next_ns + self._period_ns * np.arange(1, count + 1, dtype=np.int64)
            if self._curve is None:
                rows = np.tile(self._hold, (count, 1))
            else:
                rows = self._curve.rows(times)
            self.account.see(int(times[0]) / S, rows)
            before = self.setpoint if count == 1 else rows[-2]
            self.speed = (rows[-1] - before) * (S / self._period_ns)
            self.setpoint = rows[-1]
            self._next_ns += count * self._period_ns

    def _replace(self, stamp_ns: int, points: list[Point]) -> None:
        start_ns = stamp_ns or self._next_ns
        first = points[0]
        if start_ns + first.ns > self._next_ns and len(self.setpoint):
            # An ideal servo is where it was told to be.
            still = np.zeros_like(self.setpoint)
            here = Point(
                self._next_ns - start_ns,
                self.setpoint,
                None if first.velocity is None else self.speed,
                None if first.acceleration is None else still,
            )
            points = [here, *points]
        self._curve = Curve(points, start_ns)


class Base:
    """A controller of a differential drive: hears twists, and is played up to a time.

    The wheels follow at once: no rate is limited, which is the default. What is told in steps has
    no rate between two updates, so that its change over one period of the telling is taken.
    """

    def __init__(
        self, limits: Limits, rate_hz: int, told_hz: float, begin_ns: int, timeout_s: float = 0.5
    ) -> None:
        """Rest until something is heard; twists are expected `told_hz` times a second."""
        stride = max(1, round(rate_hz / told_hz))
        self.account = Account(limits, 1 / rate_hz, order=0, stride=stride)
        self._period_ns = S // rate_hz
        self._next_ns = begin_ns
        self._timeout_ns = round(timeout_s * S)
        self._heard: deque[tuple[int, int, Floats]] = deque()
        self._twist = np.zeros(2)
        self._stamp_ns = 0
        self.setpoint = np.zeros(2)
        self.pose = np.zeros(3)

    def hear(self, received_ns: int, stamp_ns: int, twist: Sequence[float]) -> None:
        """Take in (v m/s, w rad/s); what is not finite is passed over, as the controller does."""
        values = np.array(twist, dtype=np.float64)
        if np.isfinite(values).all():
            self._heard.append((received_ns, stamp_ns, values))
        else:
            self.account.not_finite += 1

    def play(self, until_ns: int) -> None:
        """Do all updates before a time."""
        while self._next_ns < until_ns:
            now_ns = self._next_ns
            while self._heard and self._heard[0][0] <= now_ns:
                received_ns, stamp_ns, self._twist = self._heard.popleft()
                self._stamp_ns = stamp_ns or received_ns
            is_old = now_ns - self._stamp_ns > self._timeout_ns
            self.setpoint = np.zeros(2) if is_old else self._twist
            self.account.see(now_ns / S, self.setpoint[None])
            v, w = self.setpoint
            dt = self._period_ns / S
            heading = self.pose[2] + w * dt / 2
            self.pose = self.pose + np.array([v * np.cos(heading), v * np.sin(heading), w]) * dt
            self._next_ns += self._period_ns
