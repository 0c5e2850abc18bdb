"""The fault campaign: every class that can be tried in one process, some hundred times each.

    make faults FAULTS="--runs 20 --only A1 G1"

Writes a table and a picture of the reactions to out/faults. A miss is judged from the motion that
controllers make of the messages, or from what a hostile file or word got done; a class that is
not tried is listed with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from faults.coverage import KNOWN, NOT_TRIED, classes_of_the_page
from faults.scenario import FAULTS, Fault, Outcome

BLOCK = 10
"""Runs that one process makes at a time."""

for _module in ("policy", "space", "cameras", "robot", "files", "server"):
    importlib.import_module(f"faults.classes.{_module}")


@dataclass
class Row:
    """What one way of trying a class came to."""

    fault: Fault
    runs: int = 0
    misses: dict[str, list[int]] = field(default_factory=dict)
    reactions_ms: list[float] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    @property
    def missed(self) -> int:
        return sum(len(seeds) for seeds in self.misses.values())

    def add(self, robot: str, seed: int, outcome: Outcome) -> None:
        self.runs += 1
        if outcome.reaction_s is not None:
            self.reactions_ms.append(outcome.reaction_s * 1e3)
        if outcome.miss:
            self.misses.setdefault(f"{robot or 'no robot'}: {outcome.miss}", []).append(seed)
            key = (self.fault.number, self.fault.what, robot)
            if key in KNOWN:
                self.known[robot] = KNOWN[key]


def one_run(number: int, robot: str, seed: int) -> Outcome:
    """Try one fault once; whatever is raised is a miss."""
    with np.errstate(all="ignore"):
        try:
            return FAULTS[number].inject(np.random.default_rng(seed), robot)
        except Exception as error:
            return Outcome(f"raised {type(error).__name__}: {str(error)[:80]}")


def _block(number: int, robot: str, first: int, count: int) -> list[Outcome]:
    logging.disable(logging.CRITICAL)
    return [one_run(number, robot, first + k) for k in range(count)]


def campaign(runs: int, only: list[str], seed: int, jobs: int) -> list[Row]:
    """Try the classes; the runs of a class are shared out among the robots that it is about."""
    rows = [Row(item) for item in FAULTS]
    work = []
    for number, item in enumerate(FAULTS):
        if only and item.number not in only:
            continue
        robots = item.robots or ("",)
        for k, robot in enumerate(robots):
            count = len(range(k, runs, len(robots)))
            work += [
                (number, robot, seed + first, min(BLOCK, count - first))
                for first in range(0, count, BLOCK)
            ]
    bar = tqdm(total=sum(item[3] for item in work), unit="run", mininterval=1.0)
    with ProcessPoolExecutor(jobs) as pool:
        for item, found in zip(work, pool.map(_block, *zip(*work, strict=True)), strict=True):
            number, robot, first, _ = item
            for k, outcome in enumerate(found):
                rows[number].add(robot, first + k, outcome)
            bar.set_postfix_str(FAULTS[number].number, refresh=False)
            bar.update(len(found))
    bar.close()
    return sorted((row for row in rows if row.runs), key=lambda row: _order(row.fault.number))


def _order(number: str) -> tuple[str, int]:
    return number[0], int(number[1:])


def table(rows: list[Row]) -> str:
    """Return what was tried, and what was not."""
    lines = [
        "Reactions are simulated time from the fault to the first safe command, in ms; for files,",
        "words and servers it is the time of this machine until they were refused.",
        "",
        "| class | fault | runs | misses | p50 | p99 | max | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = np.array(row.reactions_ms)
        values = np.percentile(times, [50, 99, 100]) if times.size else []
        numbers = [f"{value:.3g}" for value in values] or ["-"] * 3
        notes = "; ".join(f"{robot}: {why}" for robot, why in row.known.items())
        lines.append(
            f"| {row.fault.number} | {row.fault.what} | {row.runs} | {row.missed} | "
            f"{' | '.join(numbers)} | {'known: ' + notes if notes else ''} |"
        )
    missed = [row for row in rows if row.missed]
    if missed:
        lines += ["", "Misses, with the first seeds:", ""]
        lines += [
            f"- {row.fault.number} {row.fault.what}: {miss} ({len(seeds)}; seeds {seeds[:5]})"
            for row in missed
            for miss, seeds in row.misses.items()
        ]
    lines += ["", "| not tried | fault | reason |", "|---|---|---|"]
    page = classes_of_the_page()
    lines += [
        f"| {n} | {page.get(n, '')} | {why} |"
        for n, why in sorted(NOT_TRIED.items(), key=lambda item: _order(item[0]))
    ]
    return "\n".join(lines) + "\n"


def draw(rows: list[Row], path: Path) -> None:
    """Draw every reaction as a dot, one line a class."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [row for row in rows if row.reactions_ms]
    figure, axes = plt.subplots(figsize=(9, 1 + 0.19 * len(shown)), layout="constrained")
    rng = np.random.default_rng(0)
    for k, row in enumerate(shown):
        times = np.maximum(row.reactions_ms, 0.01)
        colour = "tab:red" if row.missed else "tab:blue"
        spread = k + rng.uniform(-0.25, 0.25, len(times))
        axes.scatter(times, spread, s=5, alpha=0.4, color=colour, linewidths=0)
    labels = [f"{row.fault.number} {row.fault.what}"[:60] for row in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=6)
    axes.set_xscale("log")
    axes.set_xlabel("from the fault to the first safe command, or to the refusal (ms)")
    axes.set_ylim(len(shown), -1)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=300, help="per class")
    parser.add_argument("--only", nargs="*", default=[], help="numbers of classes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--clean", type=int, default=3, help="episodes of each expert; 0 for none")
    parser.add_argument("--out", type=Path, default=Path("out/faults"))
    options = parser.parse_args()
    begin = time.monotonic()
    rows = campaign(options.runs, options.only, options.seed, options.jobs)
    text = table(rows)
    if options.clean:
        from faults.clean import false_alarms

        text += "\n" + false_alarms(options.clean, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text(text, encoding="utf-8")
    draw(rows, options.out / "reactions.png")
    misses = sum(row.missed for row in rows)
    print(f"\n{text}\n{sum(row.runs for row in rows)} runs, {misses} misses; ", end="")
    print(f"{time.monotonic() - begin:.0f} s; written to {options.out}")


if __name__ == "__main__":
    main()
