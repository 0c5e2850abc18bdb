"""What a robot does between two chunks: openpi's synchronous broker against ours, simulated.

    python benchmarks/chunk_execution.py --seconds 20 --plot out/bench/seams.png

One policy is played at 50 Hz on the joints of aloha_sim; an answer takes 100 ms, give or take 20.
It is of two minds, like a model whose demonstrations went round something on either side: each
answer draws its side anew, unless it has rows to continue. Nothing here depends on the machine's
speed, and every run has a seed. Ways of playing it:

- broker: openpi-client's ActionChunkBroker. Eight rows, then the robot waits for the next answer.
- newest: the next answer is computed meanwhile, and its rows are played as soon as it is there.
- seams: the schedule, the player and its seams, but no committed rows.
- ours: all of it.

Every way ends in the gate's filter, and a robot that is where it was commanded to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from side_by_side import Comparison, arguments, report
from tqdm import tqdm

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.execution.chunk_player import ChunkPlayer
from qwen_vla_ros.execution.replanner import Replanner
from qwen_vla_ros.execution.seam import SeamLimits
from qwen_vla_ros.safety.brake_filter import BrakeFilter
from qwen_vla_ros.safety.envelope import JointEnvelope
from qwen_vla_ros.safety.policy_monitor import OUT_OF_REACH
from qwen_vla_ros.sim.reference import approach
from qwen_vla_ros.types import ActionChunk, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PERIOD_S = 0.02
PERIOD_NS = 20_000_000

LATENCY_S = 0.1
JITTER_S = 0.02
BROKER_ROWS = 8
IDLE_GOAL = 1.0
"""Per cent of the time."""

SWING_RAD = 0.35
SWING_S = 5.0
SIDES = (-1.0, 1.0)
SIDE_RAD = 0.12
"""How far to either side of its way the policy goes."""
SPEED_SHARE, ACCELERATION_SHARE = 0.6, 0.5
"""Of the envelope, for the rows themselves."""


class TwoMinded:
    """Answers with rows that lead from where the robot is to one of two ways."""

    def __init__(self, robot: Embodiment, seed: int) -> None:
        self._envelope = JointEnvelope.from_embodiment(robot)
        self._robot = robot
        self._rows = robot.file.prompt.action_horizon
        self._rng = np.random.default_rng(seed)
        rng = np.random.default_rng(1000 + seed)
        self.home = (self._envelope.lower + self._envelope.upper) / 2
        self._phase = rng.uniform(0, 2 * np.pi, self.home.size)
        # Fingers move by a few centimetres, where the other joints move by a radian.
        self._scale = np.minimum(1.0, (self._envelope.upper - self._envelope.lower) / 2)

    def infer(
        self,
        now_ns: int,
        position: FloatArray,
        velocity: FloatArray,
        committed: FloatArray | None = None,
    ) -> ActionChunk:
        """Propose rows for `now_ns`, from position and velocity (J,) or from what is committed."""
        side = float(self._rng.choice(SIDES))
        kept = position[None]
        if committed is not None:
            kept = self._robot.joints_from_channels(committed)
            if len(kept) > 1:
                velocity = (kept[-1] - kept[-2]) / PERIOD_S
            side = min(SIDES, key=lambda one: np.abs(kept[-1] - self._path(now_ns, one)).sum())
        rows = list(kept)
        while len(rows) < self._rows:
            time_ns = now_ns + len(rows) * PERIOD_NS
            rows.append(self._step(rows[-1], velocity, self._path(time_ns, side)))
            velocity = (rows[-1] - rows[-2]) / PERIOD_S
        actions = self._robot.channels_from_joints(np.array(rows))
        return ActionChunk(
            stamp_ns=now_ns, dt=PERIOD_S, channels=self._robot.channels, actions=actions
        )

    def _step(self, position: FloatArray, velocity: FloatArray, goal: FloatArray) -> FloatArray:
        speed = SPEED_SHARE * self._envelope.velocity
        acceleration = ACCELERATION_SHARE * self._envelope.acceleration
        there: FloatArray = approach(position, velocity, goal, speed, acceleration, PERIOD_S, 1)[0]
        return there

    def _path(self, time_ns: int, side: float) -> FloatArray:
        angle = 2 * np.pi * time_ns / NS_PER_S / SWING_S + self._phase
        way: FloatArray = self.home + self._scale * (SWING_RAD * np.sin(angle) + side * SIDE_RAD)
        return way


@dataclass
class Record:
    """What was asked of the robot, tick by tick.

    Attributes:
        wanted: Position (J,) per tick, before the gate's filter; the last one again where the
            robot waited.
        commanded: The same after it.
        is_idle: Whether the robot waited.
        chunks: What the policy proposed, in rad or m, and in which tick it was first played.
        limited: Ticks that the filter had to change.
    """

    wanted: list[FloatArray] = field(default_factory=list)
    commanded: list[FloatArray] = field(default_factory=list)
    is_idle: list[bool] = field(default_factory=list)
    chunks: list[tuple[int, ActionChunk]] = field(default_factory=list)
    limited: int = 0

    @property
    def idle(self) -> float:
        """Share of the time, in per cent."""
        return 100 * float(np.mean(self.is_idle))

    def jump(self, step: FloatArray) -> float:
        """Return the largest change of what is wanted at a seam, in steps (J,)."""
        changes = np.abs(np.diff(self.wanted, axis=0)) / step
        return float(max(changes[tick - 1].max() for tick, _ in self.chunks if tick))


class Arms:
    """Joints that are where they were commanded to be, behind the gate's filter."""

    def __init__(self, robot: Embodiment, position: FloatArray) -> None:
        self.envelope = JointEnvelope.from_embodiment(robot)
        self._filter = BrakeFilter(self.envelope)
        self.position = position
        self.velocity: FloatArray = np.zeros_like(position)
        self._wanted: FloatArray | None = None
        self.record = Record()

    def tick(self, wanted: FloatArray | None) -> None:
        """Command the joints towards what is wanted (J,), or to rest."""
        before, self._wanted = self._wanted, wanted
        if wanted is None:
            step = self._filter.brake(self.position, self.velocity, PERIOD_S)
        else:
            moving = (wanted - (wanted if before is None else before)) / PERIOD_S
            step = self._filter.step(self.position, self.velocity, wanted, moving, PERIOD_S)
        self.position, self.velocity = step.position, step.velocity
        record = self.record
        last = record.wanted[-1] if record.wanted else self.position
        record.wanted.append(last if wanted is None else wanted)
        record.commanded.append(self.position)
        record.is_idle.append(wanted is None)
        record.limited += bool(step.limited.any())


def latencies(seed: int) -> Iterator[float]:
    """Yield how long (s) each answer takes."""
    rng = np.random.default_rng(2000 + seed)
    while True:
        yield LATENCY_S + rng.uniform(-JITTER_S, JITTER_S)


class SlowPolicy:
    """The policy as openpi's broker sees it: while it thinks, the robot waits."""

    def __init__(self, robot: Embodiment, seed: int) -> None:
        self._robot = robot
        self._policy = TwoMinded(robot, seed)
        self._latencies = latencies(seed)
        self.arms = Arms(robot, self._policy.home)
        self.now_ns = 0

    def infer(self, obs: dict[str, FloatArray]) -> dict[str, FloatArray]:
        """Let the time of one answer pass, then return its rows."""
        chunk = self._policy.infer(self.now_ns, obs["position"], obs["velocity"])
        for _ in range(round(next(self._latencies) / PERIOD_S)):
            self.tick(None)
        rows = self._robot.joints_from_channels(chunk.actions)
        # Its rows count from the first that is played, however old it is by then.
        late = replace(chunk, actions=rows, stamp_ns=self.now_ns + PERIOD_NS)
        self.arms.record.chunks.append((len(self.arms.record.wanted), late))
        return {"actions": rows}

    def tick(self, wanted: FloatArray | None) -> None:
        """Let one period pass."""
        self.arms.tick(wanted)
        self.now_ns += PERIOD_NS


def with_broker(robot: Embodiment, seed: int, seconds: float) -> Record:
    """Play with openpi-client's broker."""
    policy = SlowPolicy(robot, seed)
    broker = ActionChunkBroker(policy, action_horizon=BROKER_ROWS)
    while policy.now_ns < seconds * NS_PER_S:
        arms = policy.arms
        actions = broker.infer({"position": arms.position, "velocity": arms.velocity})
        policy.tick(actions["actions"])
    return policy.arms.record


def asynchronously(
    robot: Embodiment, seed: int, seconds: float, *, has_seams: bool, commits: bool
) -> Record:
    """Play while the next answer is computed, with or without seams and committed rows."""
    policy, delays = TwoMinded(robot, seed), latencies(seed)
    arms = Arms(robot, policy.home)
    limits = SeamLimits(
        lower=arms.envelope.lower,
        upper=arms.envelope.upper,
        velocity=arms.envelope.velocity,
        acceleration=arms.envelope.acceleration,
        # Where nothing is within reach, every chunk is handed on as it is.
        reach=OUT_OF_REACH * arms.envelope.start_jump * has_seams,
    )
    player = ChunkPlayer(robot.file.safety.max_observation_age_s, limits)
    replanner = Replanner.from_embodiment(robot)
    replanner.on_gate(is_playing=True, rejected=0)
    # A robot at rest waits for its first chunk whoever plays it.
    coming: ActionChunk | None = policy.infer(0, arms.position, arms.velocity)
    coming_ns, delay = 0, LATENCY_S
    for now_ns in range(0, round(seconds * NS_PER_S), PERIOD_NS):
        if coming is None and replanner.is_due(now_ns):
            committed = replanner.committed(now_ns) if commits else None
            delay = next(delays)
            coming = policy.infer(now_ns, arms.position, arms.velocity, committed)
            coming_ns = now_ns + round(delay * NS_PER_S)
        if coming is not None and coming_ns <= now_ns:
            joints = replace(coming, actions=robot.joints_from_channels(coming.actions))
            player.accept(joints)
            replanner.on_chunk(coming, now_ns, delay)
            arms.record.chunks.append((len(arms.record.wanted), joints))
            coming = None
        arms.tick(player.at(now_ns + PERIOD_NS))
    return arms.record


WAYS: dict[str, Callable[[Embodiment, int, float], Record]] = {
    "broker": with_broker,
    "newest": lambda *run: asynchronously(*run, has_seams=False, commits=False),
    "seams": lambda *run: asynchronously(*run, has_seams=True, commits=False),
    "ours": lambda *run: asynchronously(*run, has_seams=True, commits=True),
}


def main() -> None:
    """Run the benchmark."""
    parser = arguments((__doc__ or "").splitlines()[0], runs=20)
    parser.add_argument("--seconds", type=float, default=20.0, help="simulated, per run")
    parser.add_argument("--plot", type=Path, default=Path("out/bench/seams.png"))
    options = parser.parse_args()
    robot = load_embodiment("aloha_sim")
    records: dict[str, list[Record]] = {name: [] for name in WAYS}
    for seed in tqdm(range(options.runs), leave=False):
        for name, play in WAYS.items():
            records[name].append(play(robot, seed, options.seconds))
    step = JointEnvelope.from_embodiment(robot).velocity * PERIOD_S
    report(compare(records, step), options.json)
    draw({name: runs[0] for name, runs in records.items()}, step, options.plot)
    print(f"written: {options.plot}")


def compare(records: dict[str, list[Record]], step: FloatArray) -> list[Comparison]:
    """Return the two rows: idle share, and the largest jump at a seam in steps (J,)."""
    idle = {name: [record.idle for record in runs] for name, runs in records.items()}
    jumps = {name: [record.jump(step) for record in runs] for name, runs in records.items()}
    limited = {
        name: 100 * sum(record.limited for record in runs) / sum(len(r.wanted) for r in runs)
        for name, runs in records.items()
    }
    runs = len(records["ours"])
    return [
        Comparison(
            row="12",
            what="idle, openpi's broker / ours",
            baseline=_quantiles(idle["broker"]),
            ours=_quantiles(idle["ours"]),
            goal="<= 1 % idle",
            is_met=max(idle["ours"]) <= IDLE_GOAL,
            unit="%",
            runs=runs,
            remark=f"changed by the gate's filter: {limited['broker']:.0f} % of its commands, "
            f"{limited['ours']:.1f} % of ours",
        ),
        Comparison(
            row="12b",
            what="largest seam jump, newest chunk / ours",
            baseline=_quantiles(jumps["newest"]),
            ours=_quantiles(jumps["ours"]),
            goal="<= 1 step limit",
            is_met=max(jumps["ours"] + jumps["seams"]) <= 1 + 1e-9,
            unit="steps",
            runs=runs,
            remark=f"at most {max(jumps['ours']):.2f}, and {max(jumps['seams']):.2f} without "
            f"committed rows; filtered: {limited['newest']:.0f} % / {limited['ours']:.1f} %",
        ),
    ]


def _quantiles(values: list[float]) -> tuple[float, float]:
    p50, p95 = np.percentile(values, (50, 95))
    return float(p50), float(p95)


DRAWN_JOINT = 0
DRAWN_S = (2.0, 4.4)
TITLES = {
    "broker": "openpi's broker: eight rows, then the robot waits for the next answer",
    "newest": "asynchronous: each answer replaces the last one as it is",
    "seams": "asynchronous, with seams",
    "ours": "asynchronous, with seams and committed rows",
}


def draw(records: dict[str, Record], step: FloatArray, file: Path) -> None:
    """Draw what one joint is told by each way of playing, and what the chunks proposed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        len(records), 1, figsize=(8.4, 8.6), sharex=True, sharey=True, layout="constrained"
    )
    for axes, (name, record) in zip(panels, records.items(), strict=True):
        draw_one(axes, record)
        limited = 100 * record.limited / len(record.wanted)
        axes.set_title(
            f"{TITLES[name]}\nidle {record.idle:.0f} %, largest jump at a seam "
            f"{record.jump(step):.1f} step limits, {limited:.0f} % of the commands limited",
            fontsize=9,
            loc="left",
        )
    panels[0].legend(fontsize=8, frameon=False, loc="lower right", ncols=2)
    panels[0].set_xlim(*DRAWN_S)
    panels[-1].set_xlabel("s")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def draw_one(axes: Axes, record: Record) -> None:
    """Draw one record: seams as lines, idle times as bands."""
    times = PERIOD_S * (1 + np.arange(len(record.wanted)))
    label = "rows of each chunk"
    for tick, chunk in record.chunks:
        rows = chunk.actions[:, DRAWN_JOINT]
        at = chunk.stamp_ns / NS_PER_S + PERIOD_S * np.arange(len(rows))
        axes.plot(at, rows, color="#a8a8a8", lw=0.9, zorder=1, label=label)
        axes.axvline(PERIOD_S * (1 + tick), color="#e4e4e4", lw=0.8, zorder=0)
        label = "_"
    axes.fill_between(
        times,
        0,
        1,
        where=record.is_idle,
        transform=axes.get_xaxis_transform(),
        color="#f6dcd3",
        lw=0,
        label="waits",
    )
    wanted, commanded = (
        np.array(rows)[:, DRAWN_JOINT] for rows in (record.wanted, record.commanded)
    )
    axes.plot(times, wanted, ".-", color="#bc4749", lw=1, ms=3.5, zorder=3, label="wanted")
    axes.plot(times, commanded, color="#2a6f97", lw=2, zorder=2, label="commanded by the gate")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel("rad")


if __name__ == "__main__":
    main()
