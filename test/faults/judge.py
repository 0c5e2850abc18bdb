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
- A forwarding controller hands on what it was last told: a step, which has no rate from update to
  update. What it is told is looked at from telling to telling.
- `diff_drive_controller`: as that, but a twist older than its time-out counts as zero.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
AT_ONCE = 400
"""Set-points that are looked at together."""


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


class Account:
    """Looks at set-points as they come, and keeps the worst."""

    def __init__(
        self, limits: Limits, period_s: float, *, of_speeds: bool = False, stride: int = 1
    ) -> None:
        """Begin with nothing seen.

        Args:
            limits: What is allowed.
            period_s: Between two set-points.
            of_speeds: Whether the set-points are speeds, and not positions.
            stride: Of how many updates a rate is taken. A motion is looked at from update to
                update, a speed that is told in steps over the period of the telling.
        """
        self.limits = limits
        self._period_s = period_s
        self._of_speeds = of_speeds
        self._stride = stride
        self._worst: dict[str, Worst] = {}
        self._beyond = 0.0
        self._moving = self._not_finite = 0
        self._moved_s = -np.inf
        self._tail: Floats | None = None
        self._ahead = np.zeros((2, len(limits.names)))
        self._pending: list[Floats] = []
        self._pending_rows = 0
        self._begin_s = 0.0

    def see(self, begin_s: float, rows: Floats) -> None:
        """Take in set-points (n, J) that are a period apart, the first of them at `begin_s`."""
        if not self._pending:
            self._begin_s = begin_s
        self._pending.append(rows)
        self._pending_rows += len(rows)
        if self._pending_rows >= AT_ONCE:
            self._look()

    @property
    def worst(self) -> dict[str, Worst]:
        """By quantity: position, speed, acceleration, jerk; of speeds also burst."""
        self._look()
        return self._worst

    @property
    def beyond(self) -> float:
        """How far outside its limits a position was, rad or m."""
        self._look()
        return self._beyond

    @property
    def not_finite(self) -> int:
        """How many set-points held a value that is not finite."""
        self._look()
        return self._not_finite

    @property
    def moving(self) -> int:
        """At how many set-points something moved."""
        self._look()
        return self._moving

    @property
    def moved_s(self) -> float:
        """When something last moved."""
        self._look()
        return self._moved_s

    def ratio(self, quantity: str) -> float:
        """Return the worst ratio of position, speed, acceleration or jerk so far."""
        return self.worst[quantity].ratio if quantity in self.worst else 0.0

    def _look(self) -> None:
        if not self._pending:
            return
        rows = np.concatenate(self._pending)
        self._pending, self._pending_rows = [], 0
        finite = np.isfinite(rows).all(axis=1)
        begin = 0
        for at in np.flatnonzero(~finite):
            # A hole has no rate: what comes after it begins anew.
            self._judge(self._begin_s + begin * self._period_s, rows[begin:at])
            self._tail, begin = None, int(at) + 1
        self._not_finite += int((~finite).sum())
        self._judge(self._begin_s + begin * self._period_s, rows[begin:])

    def _judge(self, begin_s: float, rows: Floats) -> None:
        if not len(rows):
            return
        tail, limits = self._tail, self.limits
        joined = rows if tail is None else np.concatenate([tail, rows])
        known = 0 if tail is None else len(tail)
        if not self._of_speeds:
            middle, half = (limits.upper + limits.lower) / 2, (limits.upper - limits.lower) / 2
            self._note("position", np.abs(rows - middle) / half, begin_s)
            outside = np.maximum(rows - limits.upper, limits.lower - rows)
            self._beyond = max(self._beyond, float(outside.max()))
        else:
            if tail is None:
                self._ahead[:] = 0
            self._see_bursts(rows if tail is None else np.concatenate([tail[-1:], rows]), begin_s)
        self._tail = joined[-3 * self._stride :].copy()
        rates = joined
        for quantity in ("speed", "acceleration", "jerk"):
            if quantity != "speed" or not self._of_speeds:
                if len(rates) <= self._stride:
                    return
                rates = rates[self._stride :] - rates[: -self._stride]
                rates /= self._period_s * self._stride
            bound = {
                "speed": limits.velocity,
                "acceleration": limits.acceleration,
                "jerk": limits.jerk,
            }[quantity]
            if np.isinf(bound).all():
                return
            # Only what a new set-point had a part in, so that each counts once.
            lost = len(joined) - len(rates)
            shares = np.abs(rates[max(0, known - lost) :]) / bound
            first_s = begin_s + (max(known, lost) - known) * self._period_s
            self._note(quantity, shares, first_s)
            if quantity == "speed":
                moving = np.flatnonzero((shares > AT_REST).any(axis=1))
                self._moving += len(moving)
                if len(moving):
                    self._moved_s = first_s + int(moving[-1]) * self._period_s

    def _see_bursts(self, rows: Floats, begin_s: float) -> None:
        """Look how far speeds run ahead of a ramp at the limit, over every stretch of time.

        What is told in steps is ahead of it by one step at least; that much is a ratio of 1.
        """
        ramp = self.limits.acceleration * self._period_s
        climbed = np.arange(len(rows))[:, None] * ramp
        for k, sign in enumerate((1.0, -1.0)):
            excess = sign * rows - climbed
            excess[0] -= self._ahead[k]
            lowest = np.minimum.accumulate(excess)
            excess[0] += self._ahead[k]
            ahead = excess - lowest
            self._ahead[k] = ahead[-1]
            self._note("burst", ahead / (ramp * self._stride), begin_s)

    def _note(self, quantity: str, shares: Floats, first_s: float) -> None:
        best = self._worst.setdefault(quantity, Worst())
        row, column = divmod(int(np.argmax(shares)), shares.shape[1])
        if shares[row, column] > best.ratio:
            best.ratio = float(shares[row, column])
            best.at_s = first_s + row * self._period_s
            best.name = self.limits.names[column]


@dataclass(frozen=True)
class Point:
    """Of a trajectory: time from its start (ns), and rows (J,); None where a field is empty."""

    ns: int
    position: Floats
    velocity: Floats | None = None
    acceleration: Floats | None = None


def coefficients(times: npt.NDArray[np.int64], points: Sequence[Point]) -> Floats:
    """Return those of the polynomials between points, (pieces, degree + 1, J), lowest first."""
    position = np.stack([point.position for point in points])
    h = (np.diff(times) / S)[:, None]
    rise = np.diff(position, axis=0)
    a = position[:-1]
    if any(point.velocity is None for point in points):
        return np.stack([a, rise / h], axis=1)
    velocity = np.stack([point.velocity for point in points])
    v0, v1 = velocity[:-1], velocity[1:]
    if any(point.acceleration is None for point in points):
        c2, c3 = (3 * rise / h - 2 * v0 - v1) / h, (v0 + v1 - 2 * rise / h) / h**2
        return np.stack([a, v0, c2, c3], axis=1)
    acceleration = np.stack([point.acceleration for point in points])
    a0, a1 = acceleration[:-1], acceleration[1:]
    # The three that are left answer for place, speed and acceleration at the end.
    place = (rise - v0 * h - a0 * h**2 / 2) / h**3
    speed = (v1 - v0 - a0 * h) / h**2
    change = (a1 - a0) / h
    c3 = 10 * place - 4 * speed + change / 2
    c4 = (-15 * place + 7 * speed - change) / h
    c5 = (6 * place - 3 * speed + change / 2) / h**2
    return np.stack([a, v0, a0 / 2, c3, c4, c5], axis=1)


class Curve:
    """Where a trajectory leads, as a controller plays it."""

    def __init__(self, points: Sequence[Point], start_ns: int) -> None:
        """Play `points`, whose times count from `start_ns`."""
        self.times = start_ns + np.array([point.ns for point in points], dtype=np.int64)
        self._last = points[-1].position
        self._pieces = coefficients(self.times, points) if len(points) > 1 else None

    def at(self, ns: int, derivative: int = 0) -> Floats:
        """Return the position (J,) or a derivative of it, at a time not before the first point."""
        k = int(np.searchsorted(self.times, ns, side="right")) - 1
        if self._pieces is None or k >= len(self._pieces):
            return self._last if derivative == 0 else np.zeros_like(self._last)
        k = max(k, 0)
        s = (ns - int(self.times[k])) / S
        piece = self._pieces[k]
        value = np.zeros(piece.shape[1])
        for power in range(derivative, len(piece)):
            factor = factorial(power) // factorial(power - derivative)
            value = value + piece[power] * (factor * s ** (power - derivative))
        return value

    def rows(self, times: npt.NDArray[np.int64]) -> Floats:
        """Return the positions (n, J) at rising times."""
        places = np.maximum(np.searchsorted(self.times, times, side="right") - 1, 0)
        count = 0 if self._pieces is None else int(np.searchsorted(places, len(self._pieces)))
        out = np.empty((len(times), len(self._last)))
        out[count:] = self._last
        if self._pieces is not None and count:
            here = places[:count]
            s = ((times[:count] - self.times[here]) / S)[:, None]
            pieces = self._pieces[here]
            value = pieces[:, -1]
            for power in range(pieces.shape[1] - 2, -1, -1):
                value = value * s + pieces[:, power]
            out[:count] = value
        return out


class Player:
    """A controller of joints: hears messages, and is played up to a time."""

    def __init__(
        self,
        limits: Limits,
        rate_hz: int,
        home: Floats,
        begin_ns: int,
        told_hz: float | None = None,
    ) -> None:
        """Hold `home` (J,) until something is heard; the first update is at `begin_ns`.

        Who is to be told bare positions, `told_hz` times a second, is judged by these alone.
        """
        self._told_ns = 0 if told_hz is None else round(S / told_hz)
        self._told_in = 0
        self.account = Account(limits, 1 / (told_hz or rate_hz))
        self._names = limits.names
        self._period_ns = S // rate_hz
        self._next_ns = begin_ns
        self._heard: deque[tuple[int, int, list[Point]]] = deque()
        self._hold = np.array(home, dtype=np.float64)
        self._last_told = self._hold
        self._curve: Curve | None = None
        self.setpoint = self._hold
        self.speed = np.zeros_like(self._hold)
        # It has been at rest for a while.
        self.account.see(begin_ns / S - 2 / (told_hz or rate_hz), np.tile(self._hold, (3, 1)))

    def hear_trajectory(self, received_ns: int, message: Any, shift_ns: int = 0) -> None:
        """Take in a trajectory_msgs/JointTrajectory of all the joints, in any order.

        `shift_ns` leads from the clock of its stamp to the controller's.
        """
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
        stamp_ns = int(stamp.sec) * S + int(stamp.nanosec)
        self.hear(received_ns, stamp_ns + shift_ns if stamp_ns else 0, points)

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
                if self._told_ns:
                    self._see_told(newest[0], newest[2][0].position)
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
            if not self._told_ns:
                self.account.see(int(times[0]) / S, rows)
            before = self.setpoint if count == 1 else rows[-2]
            # A servo that is told no number stays where it is.
            if np.isfinite(rows[-1]).all():
                with np.errstate(invalid="ignore"):
                    self.speed = (rows[-1] - before) * (S / self._period_ns)
                self.setpoint = rows[-1]
            self._next_ns += count * self._period_ns

    def _see_told(self, received_ns: int, position: Floats) -> None:
        """Look at one telling; a period in which nothing was told lies half way."""
        period = received_ns // self._told_ns
        count = min(period - self._told_in, 100) if self._told_in else 1
        self._told_in = period
        if count > 0:
            shares = np.arange(1, count + 1)[:, None] / count
            begin_s = (period - count + 1) * self._told_ns / S
            self.account.see(begin_s, self._last_told + shares * (position - self._last_told))
            self._last_told = position

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
        self.account = Account(limits, 1 / rate_hz, of_speeds=True, stride=stride)
        self._period_ns = S // rate_hz
        self._next_ns = begin_ns
        self._timeout_ns = round(timeout_s * S)
        self._heard: deque[tuple[int, int, Floats]] = deque()
        self._twist = np.zeros(2)
        self._stamp_ns = 0
        self.refused = 0
        """How many twists were not finite."""
        self.setpoint = np.zeros(2)
        self.account.see(begin_ns / S - 3 * stride / rate_hz, np.zeros((3 * stride, 2)))
        self.pose = np.zeros(3)

    def hear(self, received_ns: int, stamp_ns: int, twist: Sequence[float]) -> None:
        """Take in (v m/s, w rad/s); what is not finite is passed over, as the controller does."""
        values = np.array(twist, dtype=np.float64)
        if np.isfinite(values).all():
            self._heard.append((received_ns, stamp_ns, values))
        else:
            self.refused += 1

    def play(self, until_ns: int) -> None:
        """Do all updates before a time."""
        while self._next_ns < until_ns:
            while self._heard and self._heard[0][0] <= self._next_ns:
                received_ns, stamp_ns, self._twist = self._heard.popleft()
                self._stamp_ns = stamp_ns or received_ns
            end_ns = min(until_ns, self._heard[0][0]) if self._heard else until_ns
            count = max(1, -(-(end_ns - self._next_ns) // self._period_ns))
            times = self._next_ns + self._period_ns * np.arange(count, dtype=np.int64)
            is_fresh = times - self._stamp_ns <= self._timeout_ns
            rows = np.where(is_fresh[:, None], self._twist, 0.0)
            self.account.see(int(times[0]) / S, rows)
            self._drive(rows)
            self._next_ns += count * self._period_ns

    def _drive(self, rows: Floats) -> None:
        dt = self._period_ns / S
        turned = np.cumsum(rows[:, 1]) * dt
        heading = self.pose[2] + turned - rows[:, 1] * dt / 2
        x = float((rows[:, 0] * np.cos(heading)).sum()) * dt
        y = float((rows[:, 0] * np.sin(heading)).sum()) * dt
        self.pose = self.pose + np.array([x, y, turned[-1]])
        self.setpoint = rows[-1]
