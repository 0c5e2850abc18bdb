"""Runs the comparisons one after the other and writes them as one table and one picture.

    python benchmarks/run_all.py --out out/bench

Nothing else should run meanwhile: the machine's other work falls on both sides of a comparison
alike, but not on its 95th percentile.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from side_by_side import HEADER, Comparison

HERE = Path(__file__).resolve().parent

SCRIPTS = (
    "server_round_trip",
    "image_processing",
    "backbone_forward",
    "decode",
    "policy_call",
    "camera_transport",
    "chunk_execution",
    "gate_ticks",
    "gate_flood",
)
"""In the order of the rows. `expert_success` and `gate_core` have nothing to be compared with."""


def main() -> int:
    """Run, collect, write; returns 1 when a script failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder to write to")
    parser.add_argument("--only", nargs="*", choices=SCRIPTS, help="some of the scripts")
    parser.add_argument("--draw-only", action="store_true", help="from the rows that lie there")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    failed = [] if arguments.draw_only else run(arguments.only or SCRIPTS, arguments.out)
    comparisons = collect(arguments.out)
    (arguments.out / "table.md").write_text(table(comparisons), encoding="utf-8")
    draw(comparisons, arguments.out / "ratios.png")
    print(f"\n{HEADER}")
    for comparison in comparisons:
        print(comparison)
    print(f"\nwritten: {arguments.out / 'table.md'}, {arguments.out / 'ratios.png'}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(scripts: list[str] | tuple[str, ...], out: Path) -> list[str]:
    """Run the scripts; returns the names of those that failed."""
    failed = []
    for number, script in enumerate(scripts, 1):
        print(f"== {number}/{len(scripts)} {script}", flush=True)
        begin = time.monotonic()
        file = out / f"{script}.json"
        file.unlink(missing_ok=True)
        command = [sys.executable, str(HERE / f"{script}.py"), "--json", str(file)]
        if subprocess.run(command, check=False).returncode:
            failed.append(script)
        print(f"   {time.monotonic() - begin:.0f} s", flush=True)
    return failed


def collect(out: Path) -> list[Comparison]:
    """Return the rows that the scripts wrote, in the order of their numbers."""
    comparisons = []
    for script in SCRIPTS:
        file = out / f"{script}.json"
        if not file.is_file():
            continue
        for row in json.loads(file.read_text(encoding="utf-8")):
            row.pop("ratio")
            row |= {side: tuple(row[side]) for side in ("baseline", "ours")}
            comparisons.append(Comparison(**row))
    return sorted(comparisons, key=lambda each: _order(each.row))


def table(comparisons: list[Comparison]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| # | what | baseline p50 / p95 | ours p50 / p95 | ratio | goal | runs | remark |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in comparisons:
        sides = [f"{p50:.4g} / {p95:.4g} {each.unit}" for p50, p95 in (each.baseline, each.ours)]
        met = "" if each.is_met else " (not met)"
        ratio = f"{each.ratio:.1f}x" if each.ours[0] else "-"
        lines.append(
            f"| {each.row} | {each.what} | {sides[0]} | {sides[1]} | {ratio} "
            f"| {each.goal}{met} | {each.runs} | {each.remark} |"
        )
    return "\n".join(lines) + "\n"


def draw(comparisons: list[Comparison], file: Path) -> None:
    """Draw every ratio as a bar, with the goal as a line across it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [each for each in comparisons if 0 < each.ratio < float("inf")]
    figure, axes = plt.subplots(figsize=(9, 0.6 + 0.45 * len(shown)), layout="constrained")
    for place, each in enumerate(reversed(shown)):
        axes.barh(place, each.ratio, color="#2a6f97" if each.is_met else "#bc4749", height=0.6)
        axes.text(each.ratio * 1.04, place, f"{each.ratio:.1f}x", va="center", fontsize=9)
        goal = re.match(r">= ([0-9.]+)x", each.goal)
        if goal:
            axes.plot([float(goal[1])] * 2, [place - 0.42, place + 0.42], color="black", lw=1.5)
    labels = [f"{each.row}  {each.what}" for each in reversed(shown)]
    axes.set_yticks(range(len(shown)), labels, fontsize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(1, color="grey", lw=0.8)
    axes.set_xlim(0.8, 2 * max([each.ratio for each in shown], default=1))
    axes.set_xlabel("times faster than the usual way (black line: the goal)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _order(row: str) -> tuple[int, str]:
    digits = re.match(r"\d+", row)
    return (int(digits[0]) if digits else 99, row)


if __name__ == "__main__":
    raise SystemExit(main())
