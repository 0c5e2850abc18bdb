"""What a policy may say that no robot should do: chunks by the name of the attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from faults.judge import Floats, S
from faults.rig import Rig, Swing
from qwen_vla_ros.types import ActionChunk, rest_chunk


@dataclass
class Scene:
    """What an attack sees.

    Attributes:
        q: Where the joints are commanded to be, shape (J,).
        leash: How far from there a goal may lie before the gate takes it for nonsense, shape (J,):
            what is refused at once attacks nothing.
        rows: How many a chunk has.
        dt: Seconds between them.
        k: How many chunks of this attack were before.
    """

    rig: Rig
    rng: np.random.Generator
    q: Floats
    leash: Floats
    rows: int
    dt: float
    k: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, len(self.q)


Attack = Callable[[Scene], Floats]


def anywhere(s: Scene) -> Floats:
    """Goals all over, in and out of the limits."""
    lim = s.rig.limits
    return np.tile(s.rng.uniform(lim.lower - 1, lim.upper + 1), (s.rows, 1))


def near(s: Scene) -> Floats:
    """Goals all over the leash, another one in every row."""
    return s.q + s.leash * s.rng.uniform(-1, 1, s.shape)


def bang_bang(s: Scene) -> Floats:
    """From one end of the leash to the other, for some rows each."""
    width = int(s.rng.integers(1, s.rows + 1))
    side = np.where((np.arange(s.rows) // width + s.k) % 2, 1.0, -1.0)
    return s.q + np.outer(side, s.leash * s.rng.choice([-1, 1], len(s.q)))


def at_the_limits(s: Scene) -> Floats:
    """The next number beyond a limit, the limit, and the next one inside."""
    lim = s.rig.limits
    edge = np.where(s.rng.random(len(s.q)) < 0.5, lim.lower, lim.upper)
    edge = np.nextafter(edge, edge + s.rng.choice([-1.0, 0.0, 1.0], len(s.q)))
    way = np.clip(edge - s.q, -s.leash, s.leash)
    return np.tile(np.where(np.abs(edge - s.q) <= s.leash, edge, s.q + way), (s.rows, 1))


def into_the_limits(s: Scene) -> Floats:
    """At full speed towards a limit and past it."""
    step = s.rig.limits.velocity * s.dt * s.rng.uniform(0.9, 1.1) * (1 if s.k % 40 < 20 else -1)
    return s.q + np.clip(np.outer(np.arange(s.rows), step), -s.leash, s.leash)


def fast_wave(s: Scene) -> Floats:
    """Sines at the limits of speed and acceleration, and a little beyond."""
    lim = s.rig.limits
    w = lim.acceleration / lim.velocity * s.rng.uniform(0.3, 2.0, len(s.q))
    height = np.minimum(lim.velocity / w * s.rng.uniform(0.7, 1.2), s.leash)
    t = (np.arange(s.rows) * s.dt)[:, None]
    return s.q + height * np.sin(w * t + s.rng.uniform(0, 2 * np.pi, len(s.q)))


def trembling(s: Scene) -> Floats:
    """Tiny oscillations, row by row."""
    sign = np.where(np.arange(s.rows) % 2, 1.0, -1.0)
    return s.q + np.outer(sign, s.leash * 10 ** s.rng.uniform(-5, -1))


def walk(s: Scene) -> Floats:
    """Steps of up to twice what the speed allows, in any direction."""
    step = 2 * s.rig.limits.velocity * s.dt * s.rng.uniform(-1, 1, s.shape)
    return s.q + np.clip(np.cumsum(step, axis=0), -s.leash, s.leash)


def jumping_start(s: Scene) -> Floats:
    """A chunk that begins as far away as is allowed, or a little further, and stays there."""
    return np.tile(s.q + s.leash * s.rng.choice([-1, 1], len(s.q)), (s.rows, 1))


def degrees(s: Scene) -> Floats:
    """Degrees where radians are meant."""
    return np.rad2deg(near(s))


def holes(s: Scene) -> Floats:
    """NaN and infinities here and there."""
    bad = s.rng.choice([np.nan, np.inf, -np.inf], s.shape)
    return np.where(s.rng.random(s.shape) < 0.1 * (s.rng.random() < 0.3), bad, near(s))


def enormous(s: Scene) -> Floats:
    """The ends of the number range, and the smallest numbers."""
    return s.rng.choice([1e308, -1e308, 1e6, 5e-324, -0.0], s.shape)


ARM_ATTACKS: tuple[Attack, ...] = (
    near,
    bang_bang,
    into_the_limits,
    fast_wave,
    at_the_limits,
    into_the_limits,
    fast_wave,
    trembling,
    walk,
    jumping_start,
    holes,
    anywhere,
    degrees,
    enormous,
)


def base_rows(kind: str, rng: np.random.Generator, rows: int, reach: Floats, k: int) -> Floats:
    """Return waypoints (H, 3) of one attack on a base; `reach` is what it can do within a row."""
    if kind == "anywhere":
        return rng.uniform(-1.2, 1.2, (rows, 3)) * reach
    if kind == "bang_bang":
        return np.tile(1.2 * reach * (1 if k % 2 else -1) * rng.choice([-1, 1], 3), (rows, 1))
    if kind == "trembling":
        sign = np.where(np.arange(rows) % 2, 1.0, -1.0)
        return np.outer(sign, reach) * 10 ** rng.uniform(-3, 0)
    if kind == "full_speed":
        return np.tile(reach * np.array([1.0, 0.0, rng.uniform(-1, 1)]), (rows, 1))
    if kind == "degrees":
        return rng.uniform(-1, 1, (rows, 3)) * reach * np.array([1.0, 0.0, 57.3])
    if kind == "holes":
        bad = rng.choice([np.nan, np.inf, -np.inf], (rows, 3))
        few = rng.random((rows, 3)) < 0.1 * (rng.random() < 0.3)
        return np.where(few, bad, rng.uniform(-1, 1, (rows, 3)) * reach)
    return rng.choice([1e308, -1e308, 1e6, 5e-324, -0.0], (rows, 3))


BASE_ATTACKS = (
    "anywhere",
    "bang_bang",
    "trembling",
    "full_speed",
    "degrees",
    "holes",
    "enormous",
)


class Adversary:
    """A policy that attacks, one attack at a time, with well-formed chunks."""

    def __init__(self, rig: Rig, rng: np.random.Generator) -> None:
        self._rig = rig
        self._rng = rng
        self._frame = Swing(rig, rng)
        self._until_ns = self._next_ns = self._stamp_ns = 0
        self._attack: Attack | str = ""
        self._k = 0
        self.chunks = 0
        self.used: dict[str, int] = {}

    @property
    def attack(self) -> str:
        """The name of the attack now; empty before the first."""
        return self._attack if isinstance(self._attack, str) else self._attack.__name__

    def chunk(self) -> ActionChunk | None:
        """Return what is said in this tick, or nothing."""
        rig, rng = self._rig, self._rng
        if rig.true_ns >= self._until_ns:
            self._until_ns = rig.true_ns + round(rng.uniform(0.2, 2.0) * S)
            attacks = BASE_ATTACKS if rig.is_base else ARM_ATTACKS
            self._attack = attacks[int(rng.integers(len(attacks)))]
            self._leash = float(rng.choice([0.2, 0.9, 0.9, 0.9, 1.8]))
            self._every_s = float(rng.choice([0.02, 0.06, 0.16, 0.3]))
            self._k = 0
        if rig.true_ns < self._next_ns:
            return None
        self._next_ns = rig.true_ns + round(self._every_s * S * rng.uniform(0.5, 1.5))
        self._k += 1
        self.chunks += 1
        # An answer to an older observation than the last one's would only be refused.
        age_ns = min(round(rng.uniform(0, 0.2) * S), rig.now_ns - self._stamp_ns)
        self._stamp_ns = rig.now_ns - age_ns
        age_s = age_ns / S
        frame = self._frame.chunk(age_s)
        if rng.random() < 0.02:
            rest = rest_chunk(frame.stamp_ns, frame.dt, frame.channels)
            return replace(frame, actions=rest.actions, rest=True)
        with np.errstate(over="ignore", invalid="ignore"):
            return replace(frame, actions=self._rows(len(frame.actions), frame.dt))

    def _rows(self, rows: int, dt: float) -> Floats:
        rig, rng = self._rig, self._rng
        self.used[self.attack] = self.used.get(self.attack, 0) + 1
        if isinstance(self._attack, str):
            reach = rig.limits.velocity[[0, 0, 1]] * dt
            return base_rows(self._attack, rng, rows, reach, self._k)
        q, speed = rig.setpoint
        # Who begins further away than a start jump is held at once, and attacks nothing.
        leash = self._leash if speed.any() else min(self._leash, 0.9)
        jump = np.array([rig.safety["joints"][name]["start_jump"] for name in rig.names])
        scene = Scene(rig, rng, q, leash * jump, rows, dt, self._k)
        return rig.embodiment.channels_from_joints(self._attack(scene))


class Pace:
    """How late the ticks come, and how late their messages arrive."""

    def __init__(self, rng: np.random.Generator, *, is_exact: bool) -> None:
        self._rng = rng
        self._is_exact = is_exact

    def draw(self) -> tuple[int, int]:
        """Return ns of lateness (negative: early), and of delivery."""
        if self._is_exact:
            return 0, 0
        rng = self._rng
        kind = rng.random()
        if kind < 0.6:  # a quiet machine
            late = abs(rng.normal(0, 1e-4))
        elif kind < 0.9:  # a busy one
            late = rng.exponential(1e-3)
        else:
            late = rng.uniform(-10e-3, 10e-3)
        deliver = rng.exponential(2e-4) if rng.random() < 0.9 else rng.uniform(0, 5e-3)
        return round(min(late, 10e-3) * S), round(min(deliver, 5e-3) * S)
