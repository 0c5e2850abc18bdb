"""What a flood costs the gate: its tick with 1 kHz on one input or DEBUG in the log, and without.

    python benchmarks/gate_flood.py --runs 3 --seconds 10

A gate runs between a driver and a policy that live here. Quiet stretches and disturbed ones take
turns; each is compared with the quiet one before it. What counts is the processor time that the
thread of the gate spends in a tick while it is armed; how late ticks begin on the grid of periods,
counted from the earliest, is told beside it, with the share of a processor that its process takes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gate_surroundings import Surroundings
from side_by_side import Comparison, arguments, report
from tqdm import tqdm

from qwen_vla_ros.bringup import Bringup, environment
from qwen_vla_ros.cli.session import rclpy_session
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.types import FloatArray

OUT = Path("out/bench")
QUIET, DEBUG = "quiet", "DEBUG"
FLOODS = {
    "aloha_sim": ("joint_states", "chunks", "stop", DEBUG),
    "diffbot_sim": ("odom", "chunks", "stop", DEBUG),
}
ROWS = [(robot, flood) for robot, floods in FLOODS.items() for flood in floods]
FLOOD_HZ = 1000.0
SETTLE_S = 1.0
"""After each change, before it counts."""
START_S = 30.0
MOST = 1.1
"""A flood may make a tick so much longer, in the median: where the machine is a virtual one, what
others take from it counts as a thread's own time, and owns the tail."""


@dataclass(frozen=True)
class Stretch:
    """A time (steady clock, ns) with one disturbance, and how often it came (Hz)."""

    flood: str
    begin_ns: int
    end_ns: int
    hz: float


@dataclass(frozen=True)
class Ticks:
    """The ticks of one stretch in which the gate was armed.

    Attributes:
        cost_us: What each took of a processor (us).
        late_ms: How late each began.
        share: What the whole process took of a processor.
    """

    cost_us: FloatArray
    late_ms: FloatArray
    share: float

    def __str__(self) -> str:
        """Percentiles 50, 90 and 99."""
        cost, late = (np.percentile(each, (50, 90, 99)) for each in (self.cost_us, self.late_ms))
        return (
            f"{len(self.cost_us)} ticks, {cost[0]:.0f} / {cost[1]:.0f} / {cost[2]:.0f} us, late "
            f"{late[0]:.2f} / {late[1]:.2f} / {late[2]:.2f} ms, {self.share:.0%} of a processor"
        )


def main() -> None:
    """Run the benchmark."""
    parser = arguments((__doc__ or "").splitlines()[0], runs=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each stretch")
    parser.add_argument("--robots", nargs="*", default=list(FLOODS), choices=FLOODS)
    parser.add_argument("--gate", type=Path, help=argparse.SUPPRESS)
    options, ros_arguments = parser.parse_known_args()
    if options.gate:
        gate(options.gate, ros_arguments)
    rows = []
    for robot in options.robots:
        ticks, stretches = measure(robot, options.runs, options.seconds)
        rows += compare(robot, ticks, stretches)
    report(rows, options.json)


# The gate ------------------------------------------------------------------------------------


def gate(file: Path, ros_arguments: list[str]) -> None:
    """Be a gate that notes of every tick: when, how late, what it cost, whether it was armed."""
    from rclpy.logging import LoggingSeverity, set_logger_level

    from qwen_vla_ros.nodes.gate import GateNode
    from qwen_vla_ros.ros.priority import raise_priority
    from qwen_vla_ros.ros.process import run

    rows: list[tuple[int, int, int, int, bool]] = []

    class MeasuredGate(GateNode):
        def _tick(self) -> None:
            now_ns, steady_ns = self.now_ns(), time.monotonic_ns()
            is_due = self._gate.is_due(now_ns, steady_ns)
            begin_ns = time.thread_time_ns()
            super()._tick()
            if is_due:
                cost_ns = time.thread_time_ns() - begin_ns
                is_armed = self._gate.latch.is_armed
                rows.append((steady_ns, now_ns, cost_ns, time.process_time_ns(), is_armed))

    for number, level in (
        (signal.SIGUSR1, LoggingSeverity.DEBUG),
        (signal.SIGUSR2, LoggingSeverity.INFO),
    ):
        signal.signal(number, lambda *_, level=level: set_logger_level("", level))
    raise_priority()
    status = run(MeasuredGate, [sys.argv[0], *ros_arguments])
    np.save(file, np.array(rows, dtype=np.int64))
    os._exit(status)


# Around it -----------------------------------------------------------------------------------


@contextmanager
def surrounded(robot: str, file: Path) -> Iterator[tuple[Surroundings, int]]:
    """Run a gate amid a driver and a policy; yields these, and its process."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    with ExitStack() as stack:
        log = stack.enter_context((OUT / f"gate_flood_{robot}.log").open("wb"))
        for spec in reversed(Bringup(robot=robot, policy="mock").nodes()):
            program = ["-m", f"qwen_vla_ros.nodes.{spec.executable}"]
            if spec.name == "gate":
                program = [__file__, "--gate", str(file)]
            elif spec.name != "monitor":
                continue
            process = stack.enter_context(
                _process([sys.executable, *program, *spec.ros_arguments()], spec.environment, log)
            )
        node = Node("surroundings")
        around = Surroundings(node, robot)
        executor = SingleThreadedExecutor()
        executor.add_node(node)

        def spin() -> None:
            while not around.is_over.is_set():
                executor.spin_once(timeout_sec=0.05)

        spinner = threading.Thread(target=spin)
        spinner.start()
        try:
            yield around, process.pid
        finally:
            around.is_over.set()
            spinner.join()
            executor.remove_node(node)


@contextmanager
def _process(
    command: list[str], variables: Any, log: BinaryIO
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process whose output is read as a runner reads it, and end it in order."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment(one_host=True), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    reader = threading.Thread(target=shutil.copyfileobj, args=(process.stdout, log))
    reader.start()
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        reader.join()


def measure(robot: str, runs: int, seconds: float) -> tuple[FloatArray, list[Stretch]]:
    """Return every tick of the gate (a row as `gate` notes it), and the stretches."""
    OUT.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    file = OUT / f"gate_flood_{robot}.npy"
    stretches: list[Stretch] = []
    with rclpy_session(one_host=True), surrounded(robot, file) as (around, process):
        deadline = time.monotonic() + START_S
        while not around.is_armed:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the gate was not armed; see {OUT}/gate_flood_{robot}.log")
            time.sleep(0.1)
        floods = [each for flood in FLOODS[robot] for each in (QUIET, flood)]
        for flood in tqdm(floods * runs, desc=robot, leave=False):
            with flooded(around, process, flood) as said:
                time.sleep(SETTLE_S)
                begin_ns, before = time.monotonic_ns(), said()
                time.sleep(seconds)
                hz = (said() - before) / seconds
                stretches.append(Stretch(flood, begin_ns, time.monotonic_ns(), hz))
    return np.load(file).astype(np.float64), stretches


@contextmanager
def flooded(around: Surroundings, process: int, flood: str) -> Iterator[Callable[[], int]]:
    """Disturb a gate; yields what counts what was said."""
    name = flood if flood in around.hz else "state"
    usual_hz = around.hz[name]
    if flood == DEBUG:
        os.kill(process, signal.SIGUSR1)
    elif flood != QUIET:
        around.hz[name] = FLOOD_HZ
    try:
        yield lambda: around.said[name]
    finally:
        around.hz[name] = usual_hz
        if flood == DEBUG:
            os.kill(process, signal.SIGUSR2)


# What came of it -----------------------------------------------------------------------------


def compare(robot: str, ticks: FloatArray, stretches: list[Stretch]) -> list[Comparison]:
    """Return a row for every flood: what a tick costs, quiet and flooded."""
    period_ns = 1e9 / load_embodiment(robot).file.command.rate_hz
    # The gate looks at its clock several times a period: what is earliest is punctual.
    late_ms = (ticks[:, 1] % period_ns) * 1e-6
    late_ms -= np.percentile(late_ms, 0.5)
    found: dict[str, list[tuple[Ticks, Ticks]]] = {}
    for quiet, stretch in zip(stretches[::2], stretches[1::2], strict=True):
        pair = _within(ticks, late_ms, quiet), _within(ticks, late_ms, stretch)
        found.setdefault(stretch.flood, []).append(pair)
        for each, what in zip((quiet, stretch), pair, strict=True):
            print(f"{robot:>12} {each.flood:>12} {each.hz:6.0f} Hz: {what}")
    return [_row(robot, *each) for each in found.items()]


def _within(ticks: FloatArray, late_ms: FloatArray, stretch: Stretch) -> Ticks:
    is_in = (ticks[:, 0] >= stretch.begin_ns) & (ticks[:, 0] < stretch.end_ns)
    is_armed = is_in & (ticks[:, 4] > 0)
    used_ns = ticks[is_in, 3]
    share = (used_ns[-1] - used_ns[0]) / (stretch.end_ns - stretch.begin_ns)
    return Ticks(ticks[is_armed, 2] * 1e-3, late_ms[is_armed], float(share))


def _row(robot: str, flood: str, pairs: list[tuple[Ticks, Ticks]]) -> Comparison:
    sides = [
        Ticks(
            np.concatenate([each.cost_us for each in side]),
            np.concatenate([each.late_ms for each in side]),
            float(np.mean([each.share for each in side])),
        )
        for side in zip(*pairs, strict=True)
    ]
    (quiet50, quiet95, quiet99), (p50, p95, p99) = (
        np.percentile(side.cost_us, (50, 95, 99)) for side in sides
    )
    late = [np.percentile(side.late_ms, 99) for side in sides]
    return Comparison(
        row=f"14{'abcdefgh'[ROWS.index((robot, flood))]}",
        what=f"a gate's tick, {robot}: quiet / {flood}",
        baseline=(float(quiet50), float(quiet95)),
        ours=(float(p50), float(p95)),
        goal=f"<= {MOST:g} times as long",
        is_met=bool(p50 <= MOST * quiet50),
        unit="us",
        runs=len(pairs),
        remark=f"p99 {quiet99:.0f} / {p99:.0f} us; late p99 {late[0]:.2f} / {late[1]:.2f} ms; "
        f"process {sides[0].share:.0%} / {sides[1].share:.0%}",
    )


if __name__ == "__main__":
    main()
