"""What processes hold while time passes: memory, files, threads; and whether that grows (L4)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

PERIOD_S = 1.0
WARM_UP_S = 300.0
"""Until then, or in the first quarter of a shorter run, a process may still fill its caches."""
LONG_S = 1200.0
"""From then on a slope of memory is told from a step."""
GOAL_MIB_PER_H = 1.0


@dataclass(frozen=True)
class Held:
    """What one process holds at one time (s since the beginning)."""

    at_s: float
    rss_mib: float
    fds: int
    threads: int


def look(process: int, at_s: float) -> Held | None:
    """Return what a process holds; None once it has ended."""
    folder = Path(f"/proc/{process}")
    try:
        lines = (folder / "status").read_text().splitlines()
        fds = sum(1 for _ in (folder / "fd").iterdir())
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in values:
        return None  # a zombie
    return Held(at_s, int(values["VmRSS"].split()[0]) / 1024, fds, int(values["Threads"]))


@dataclass
class Series:
    """What one process held, from its first to its last second."""

    name: str
    held: list[Held] = field(default_factory=list)
    has_ended: bool = False

    def of(self, what: str) -> np.ndarray:
        return np.array([getattr(each, what) for each in self.held], dtype=float)

    def warm(self, what: str) -> np.ndarray:
        """Return the values after the warm-up."""
        times = self.of("at_s")
        begin_s = min(WARM_UP_S, times[-1] / 4) if len(times) else 0.0
        return self.of(what)[times >= begin_s]

    @property
    def line(self) -> tuple[float, float]:
        """Slope (MiB/s) and beginning (MiB) of the memory after the warm-up, by least squares."""
        times = self.warm("at_s")
        if len(times) < 2:
            return 0.0, 0.0
        slope, begin = np.polyfit(times, self.warm("rss_mib"), 1)
        return float(slope), float(begin)

    @property
    def slope_mib_per_h(self) -> float:
        return self.line[0] * 3600

    def ends(self, what: str) -> tuple[int, int]:
        """Return the most in the first quarter after the warm-up and the least in the last.

        A service call or a look at the disk takes one for a moment; what grows keeps it.
        """
        values = self.warm(what)
        quarter = max(1, len(values) // 4)
        return int(values[:quarter].max()), int(values[-quarter:].min())


class Watch(threading.Thread):
    """Looks at processes once a second until it is told to end."""

    def __init__(self, processes: dict[str, int], on_look: Callable[[float], object]) -> None:
        """Watch `processes` (ids by name); `on_look` is told the time (s) of each look."""
        super().__init__(daemon=True)
        self.series = {name: Series(name) for name in processes}
        self._processes = processes
        self._on_look = on_look
        self._is_over = threading.Event()
        self.begin_s = time.monotonic()

    @property
    def ended(self) -> list[str]:
        return [name for name, series in self.series.items() if series.has_ended]

    def run(self) -> None:
        while not self._is_over.wait(PERIOD_S):
            at_s = time.monotonic() - self.begin_s
            for name, process in self._processes.items():
                held = look(process, at_s)
                if held is None:
                    self.series[name].has_ended = True
                else:
                    self.series[name].held.append(held)
            self._on_look(at_s)

    def end(self) -> None:
        """Look no more: the processes are about to be ended in order."""
        self._is_over.set()
        self.join()


def wrong(series: dict[str, Series], seconds: float) -> list[str]:
    """Return what may not be, as sentences; the gate's memory counts in a long run only."""
    found = []
    for each in series.values():
        if each.has_ended:
            found.append(f"{each.name} has ended")
        for what in ("fds", "threads") if each.held else ():
            first, last = each.ends(what)
            if last > first:
                found.append(f"{each.name}: {what} grew from {first} to {last}")
    slope = series["gate"].slope_mib_per_h
    if seconds >= LONG_S and slope > GOAL_MIB_PER_H:
        found.append(f"gate: memory grows by {slope:.2f} MiB/h, allowed {GOAL_MIB_PER_H:g}")
    return found


def table(series: dict[str, Series]) -> list[str]:
    """Return a row for every process."""
    lines = [
        "| process | samples | RSS MiB | RSS MiB/h | fds first, last | threads first, last |",
        "|" + "---|" * 6,
    ]
    for each in series.values():
        if not each.held:
            lines.append(f"| {each.name} | 0 | - | - | - | - |")
            continue
        fds, threads = (each.ends(what) for what in ("fds", "threads"))
        lines.append(
            f"| {each.name} | {len(each.held)} | {each.held[-1].rss_mib:.1f} "
            f"| {each.slope_mib_per_h:+.2f} | {fds[0]}, {fds[1]} | {threads[0]}, {threads[1]} |"
        )
    return lines


PLOTS = {
    "rss_mib": "RSS, MiB more than when warm",
    "fds": "file descriptors",
    "threads": "threads",
}


def draw(series: dict[str, Series], stops_s: list[float], file: Path) -> None:
    """Draw what each process held; a thin line for every stop of the gate."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, rows = plt.subplots(len(PLOTS), figsize=(9, 8), sharex=True, layout="constrained")
    shown = [each for each in series.values() if each.held]
    for axes, (what, title) in zip(rows, PLOTS.items(), strict=True):
        for at_s in stops_s:
            axes.axvline(at_s / 60, color="0.85", lw=0.6, zorder=0)
        for place, each in enumerate(shown):
            minutes, values = each.of("at_s") / 60, each.of(what)
            if what == "rss_mib":
                values = values - np.median(each.warm(what))
            # Two that hold the same lie on each other: the later one is thinner.
            axes.step(minutes, values, where="post", lw=4.5 - place, label=each.name)
        axes.set_title(title, loc="left", fontsize=10)
        axes.yaxis.get_major_locator().set_params(integer=what != "rss_mib")
        axes.margins(y=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    memory = rows[0]
    warm_minutes = [each.warm("at_s")[0] / 60 for each in shown]
    for axes in rows if warm_minutes else ():
        axes.axvspan(0, max(warm_minutes), color="0.95", zorder=-1)
    # What a process takes while it warms up would flatten everything after it.
    warm = [each.warm("rss_mib") - np.median(each.warm("rss_mib")) for each in shown]
    reach = max([1.0, *(1.3 * float(np.abs(values).max()) for values in warm)])
    memory.set_ylim(-reach, reach)
    gate = series["gate"]
    if gate.held:
        times = gate.warm("at_s")
        slope, begin = gate.line
        line = slope * times + begin - np.median(gate.warm("rss_mib"))
        memory.plot(times / 60, line, "k--", lw=1, label=f"gate {gate.slope_mib_per_h:+.2f} MiB/h")
    if shown:
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1)}
        memory.legend(frameon=False, ncols=5, fontsize=9, **place)
    rows[-1].set_xlabel("minutes (grey: warm-up, not counted; thin lines: stops)")
    figure.savefig(file, dpi=120)
    plt.close(figure)
