"""The core of the gate under attack: violations and microseconds per command.

    python benchmarks/gate_core.py --steps 1000000

Eight attacks take turns, at periods that jump between 0.2 and 5 times the nominal one. The
baseline is what the field does: clamp the position to the limits and to what the greatest speed
reaches. What comes out of either is judged here, with none of the gate's code.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.safety.brake_filter import BrakeFilter
from qwen_vla_ros.safety.envelope import JointEnvelope
from qwen_vla_ros.types import FloatArray

SLACK = 1e-9
SUSTAINED = 200
"""Ticks for which one attack goes on; a fifth of its ticks are borrowed from the others."""

Attack = Callable[[np.random.Generator, FloatArray, JointEnvelope], FloatArray]


def anywhere(rng: np.random.Generator, q: FloatArray, _: JointEnvelope) -> FloatArray:
    """Positions all over, in and out of the limits."""
    return rng.uniform(-4, 4, q.shape)


def enormous(rng: np.random.Generator, q: FloatArray, _: JointEnvelope) -> FloatArray:
    """The ends of the number range, and the smallest numbers."""
    return rng.choice([1e308, -1e308, 1e6, 5e-324, -0.0], q.shape)


def holes(rng: np.random.Generator, q: FloatArray, _: JointEnvelope) -> FloatArray:
    """NaN here and there."""
    return np.where(rng.random(q.shape) < 0.3, np.nan, rng.uniform(-4, 4, q.shape))


def infinite(rng: np.random.Generator, q: FloatArray, _: JointEnvelope) -> FloatArray:
    """Infinities of either sign."""
    return np.where(rng.random(q.shape) < 0.5, np.inf, -np.inf)


def degrees(rng: np.random.Generator, q: FloatArray, _: JointEnvelope) -> FloatArray:
    """Degrees where radians are meant."""
    return np.rad2deg(rng.uniform(-3, 3, q.shape))


def bang_bang(rng: np.random.Generator, q: FloatArray, _: JointEnvelope) -> FloatArray:
    """Full speed to one side or the other."""
    far: FloatArray = q + rng.choice([-10.0, 10.0], q.shape)
    return far


def just_outside(_: np.random.Generator, q: FloatArray, envelope: JointEnvelope) -> FloatArray:
    """The next number beyond each limit, whichever is nearer."""
    nearer_upper = envelope.upper - q < q - envelope.lower
    return np.where(
        nearer_upper, np.nextafter(envelope.upper, np.inf), np.nextafter(envelope.lower, -np.inf)
    )


def limit_to_limit(rng: np.random.Generator, q: FloatArray, envelope: JointEnvelope) -> FloatArray:
    """From limit to limit."""
    return np.where(rng.random(q.shape) < 0.5, envelope.lower, envelope.upper)


ATTACKS: tuple[Attack, ...] = (
    anywhere,
    enormous,
    holes,
    infinite,
    degrees,
    bang_bang,
    just_outside,
    limit_to_limit,
)


def judge(
    q: FloatArray, v: FloatArray, q_next: FloatArray, dt: float, envelope: JointEnvelope
) -> dict[str, int]:
    """Count what a step from (q, v) to q_next does wrong, joint by joint."""
    v_next = (q_next - q) / dt
    outside = (q_next > envelope.upper + SLACK) | (q_next < envelope.lower - SLACK)
    change = np.abs(v_next - v)
    return {
        "position": int(outside.sum()),
        "velocity": int((np.abs(v_next) > envelope.velocity + SLACK).sum()),
        "acceleration": int((change > envelope.acceleration * dt + SLACK).sum()),
        "not finite": int((~np.isfinite(q_next)).sum()),
    }


def clamp(
    q: FloatArray, wanted: FloatArray, dt: float, envelope: JointEnvelope
) -> tuple[FloatArray, FloatArray]:
    """Do what is usual: clamp to the limits and to the speed, and leave NaN to the next one."""
    reach = envelope.velocity * dt
    low = np.maximum(q - reach, envelope.lower)
    high = np.minimum(q + reach, envelope.upper)
    q_next = np.clip(wanted, low, high)
    q_next = np.where(np.isnan(q_next), q, q_next)
    return q_next, (q_next - q) / dt


def attack(envelope: JointEnvelope, steps: int, seed: int, period: float, *, ours: bool) -> None:
    """Attack one filter and print what became of it."""
    rng = np.random.default_rng(seed)
    brake = BrakeFilter(envelope)
    q = (envelope.lower + envelope.upper) / 2
    v = np.zeros_like(q)
    found = {"position": 0, "velocity": 0, "acceleration": 0, "not finite": 0}
    spent = np.empty(steps)
    current: Attack = ATTACKS[0]
    name = "brake-feasible step" if ours else "position clamp"
    for i in tqdm(range(steps), desc=name, mininterval=1.0):
        if i % SUSTAINED == 0:
            current = ATTACKS[int(rng.integers(len(ATTACKS)))]
        chosen = current if rng.random() < 0.8 else ATTACKS[int(rng.integers(len(ATTACKS)))]
        wanted = chosen(rng, q, envelope)
        speed = rng.uniform(-3, 3, q.shape)
        dt = period * float(rng.uniform(0.2, 5.0))
        begin = time.perf_counter()
        if ours:
            step = brake.step(q, v, wanted, speed, dt)
            q_next, v_next = step.position, step.velocity
        else:
            q_next, v_next = clamp(q, wanted, dt, envelope)
        spent[i] = time.perf_counter() - begin
        for kind, count in judge(q, v, q_next, dt, envelope).items():
            found[kind] += count
        q, v = q_next, v_next
    p50, p99 = np.percentile(spent, [50, 99]) * 1e6
    counts = ", ".join(f"{kind} {count}" for kind, count in found.items())
    print(f"{name}: {steps} steps x {len(q)} joints; violations: {counts}")
    print(
        f"{name}: mean {spent.mean() * 1e6:.1f} us, p50 {p50:.1f} us, p99 {p99:.1f} us, "
        f"max {spent.max() * 1e6:.0f} us a step"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--baseline-steps", type=int, default=100_000)
    parser.add_argument("--robot", default="aloha_sim", help="name or path of an embodiment file")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    robot = load_embodiment(Path(arguments.robot) if "/" in arguments.robot else arguments.robot)
    envelope = JointEnvelope.from_embodiment(robot)
    period = 1.0 / robot.file.command.rate_hz
    attack(envelope, arguments.baseline_steps, arguments.seed, period, ours=False)
    attack(envelope, arguments.steps, arguments.seed, period, ours=True)


if __name__ == "__main__":
    main()
