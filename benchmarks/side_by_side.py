"""Times two ways of doing one thing, in turn, and says how they compare.

Whatever else the machine does then falls on both alike; the ratio of the medians is what counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

HEADER = f"{'':<44}{'baseline p50/p95':>22}{'ours p50/p95':>22}{'ratio':>9}   goal"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row of the table.

    Attributes:
        row: Number of the row.
        what: What was compared, in a few words.
        baseline: (p50, p95) of the usual way, in `unit`.
        ours: (p50, p95) of this project's way, in `unit`.
        goal: What was aimed at, in words.
        is_met: Whether it was reached.
        unit: Of the four numbers.
        runs: How many pairs were measured.
        remark: Anything a reader must know, such as the largest difference in values.
    """

    row: str
    what: str
    baseline: tuple[float, float]
    ours: tuple[float, float]
    goal: str
    is_met: bool
    unit: str = "ms"
    runs: int = 0
    remark: str = ""

    @property
    def ratio(self) -> float:
        """Baseline over ours, by their medians."""
        return self.baseline[0] / self.ours[0] if self.ours[0] else float("inf")

    def __str__(self) -> str:
        """One line under `HEADER`."""
        baseline = f"{self.baseline[0]:.4g} / {self.baseline[1]:.4g} {self.unit}"
        ours = f"{self.ours[0]:.4g} / {self.ours[1]:.4g} {self.unit}"
        met = "" if self.is_met else "  NOT MET"
        remark = f"  ({self.remark})" if self.remark else ""
        label = f"{self.row:>3} {self.what}"
        ratio = f"{self.ratio:.1f}x" if self.ours[0] else "-"
        return f"{label:<44}{baseline:>22}{ours:>22}{ratio:>9}   {self.goal}{met}{remark}"


def interleave(
    baseline: Callable[[], object], ours: Callable[[], object], runs: int, *, warm_up: int = 2
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Run both in turn and return (p50, p95) of each in milliseconds."""
    for _ in range(warm_up):
        baseline()
        ours()
    seconds = np.empty((runs, 2))
    for run in tqdm(range(runs), leave=False):
        for column, call in enumerate((baseline, ours)):
            begin = time.perf_counter()
            call()
            seconds[run, column] = time.perf_counter() - begin
    p50, p95 = np.percentile(seconds * 1e3, (50, 95), axis=0)
    return (float(p50[0]), float(p95[0])), (float(p50[1]), float(p95[1]))


def arguments(description: str, runs: int) -> argparse.ArgumentParser:
    """Return the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=runs, help="pairs to measure")
    parser.add_argument("--json", type=Path, help="write the rows into this file too")
    return parser


def report(comparisons: Sequence[Comparison], file: Path | None) -> None:
    """Print the rows, and write them where `file` says."""
    print(HEADER)
    for comparison in comparisons:
        print(comparison)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [asdict(comparison) | {"ratio": comparison.ratio} for comparison in comparisons]
        file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
