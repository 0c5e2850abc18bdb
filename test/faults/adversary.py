"""The whole gate under attack, before a judge that shares no code with it.

    make adversary ADVERSARY="--steps 1000000 --usual-steps 0 --rates 1000"

A gate holds a robot whose servos are ideal; a policy attacks with chunks that admission has to
take seriously; ticks and deliveries come late. What is judged is the set-point that controllers
make of the messages, at their update rates. The same attacks go through the rules of the field.
What was done is kept, run by run: a campaign that was ended goes on where it was, as long as
neither the gate nor the judge has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from faults.attacks import Adversary, Pace
from faults.contact import ContactJudge
from faults.judge import RATES_HZ
from faults.rig import ROOT, Rig, all_robots, robots
from faults.usual import ARM_RULES, BASE_RULES, UsualRobot

GATE = "this gate"
MISSED = 0.03
"""Share of the late ticks that do not come at all."""
CHUNK = 2_000
"""Steps that are run between two looks at the progress."""


@dataclass
class Result:
    """What became of one robot under attack.

    Attributes:
        ratios: Worst by (rate, quantity).
        beyond: Furthest outside a limit of position, rad or m.
        not_finite: Set-points, or twists, that held a value that is no number.
        armed: Steps in which the gate let commands pass.
        stops: How often it stopped, by cause.
        looks: Poses of arms that were looked at for contacts.
        touching: In how many of them links overlapped that must not touch.
        deepest: How far at most, in m, and where.
        where: At 1 kHz, the seed, time (s) and axis of each worst ratio.
    """

    robot: str
    rule: str
    pace: str
    steps: int = 0
    seeds: tuple[int, ...] = ()
    armed: int = 0
    moving: int = 0
    beyond: float = 0.0
    not_finite: int = 0
    ratios: dict[tuple[int, str], float] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)
    attacks: dict[str, int] = field(default_factory=dict)
    chunks: int = 0
    looks: int = 0
    touching: int = 0
    deepest: tuple[float, str] = (0.0, "")

    def ratio(self, quantity: str, hz: int = 1000) -> float:
        return self.ratios.get((hz, quantity), 0.0)

    def add(self, other: Result) -> None:
        """Take the worst of both."""
        self.steps += other.steps
        self.seeds = tuple(sorted({*self.seeds, *other.seeds}))
        self.armed += other.armed
        self.moving += other.moving
        self.chunks += other.chunks
        self.not_finite += other.not_finite
        self.looks += other.looks
        self.touching += other.touching
        self.deepest = max(self.deepest, other.deepest)
        self.beyond = max(self.beyond, other.beyond)
        for key, value in other.ratios.items():
            if value > self.ratios.get(key, 0.0):
                self.ratios[key] = value
                if key[0] == RATES_HZ[0]:
                    self.where[key[1]] = other.where[key[1]]
        for mine, theirs in ((self.stops, other.stops), (self.attacks, other.attacks)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count


def attack(
    name: str, rule: str, pace: str, steps: int, seed: int, rates: tuple[int, ...] = RATES_HZ
) -> Result:
    """Attack one robot for some steps."""
    with np.errstate(all="ignore"):  # 1e308 is one of the attacks
        return _attack(name, rule, pace, steps, seed, rates)


def _attack(
    name: str, rule: str, pace: str, steps: int, seed: int, rates: tuple[int, ...]
) -> Result:
    rng = np.random.default_rng(seed)
    rig = (Rig if rule == GATE else UsualRobot)(name, rates=rates, keeps=False)
    rig.rule = rule
    contact = ContactJudge(name) if name in robots() and not rig.is_base else None
    if contact is not None:
        rig.watch = contact.look
    adversary = Adversary(rig, rng)
    timing = Pace(rng, is_exact=pace == "exact")
    result = Result(name, rule, pace, steps=steps, seeds=(seed,))
    was_armed = False
    for _ in range(steps):
        is_armed = rule != GATE or rig.gate.latch.is_armed
        if is_armed:
            chunk = adversary.chunk()
            if chunk is not None:
                rig.give(chunk)
        else:
            if was_armed:
                result.stops[rig.cause] = result.stops.get(rig.cause, 0) + 1
            rig.gate.arm(rig.steady_ns)
        was_armed = is_armed
        late_ns, deliver_ns = timing.draw()
        is_missed = pace != "exact" and rng.random() < MISSED
        rig.tick(late_ns=late_ns, deliver_ns=deliver_ns, gate=not is_missed)
        result.armed += is_armed
    if contact is not None:
        result.looks, result.touching = contact.looks, contact.touching
        result.deepest = (contact.deepest, f"seed {seed}, {contact.pair}")
    result.attacks, result.chunks = adversary.used, adversary.chunks
    result.beyond, result.not_finite = max(0.0, rig.beyond), rig.not_finite
    for hz, accounts in rig.accounts.items():
        for account in accounts:
            if hz == RATES_HZ[0]:
                result.moving = max(result.moving, account.moving)
            for quantity, worst in account.worst.items():
                if worst.ratio > result.ratios.get((hz, quantity), 0.0):
                    result.ratios[hz, quantity] = worst.ratio
                    if hz == RATES_HZ[0]:
                        at = f"seed {seed}, {worst.at_s - 1e6:.3f} s, {worst.name}"
                        result.where[quantity] = at
    return result


def rules_of(name: str) -> tuple[str, ...]:
    return (GATE, *(BASE_RULES if Rig(name).is_base else ARM_RULES))


class Memory:
    """The runs that were done, on disk."""

    def __init__(self, path: Path) -> None:
        """Remember what `path` holds of runs with the code as it is now."""
        self._path = path
        self._code = fingerprint()
        self._known: dict[str, Result] = {}
        for line in path.read_text().splitlines() if path.is_file() else ():
            kept = json.loads(line)
            if kept["code"] == self._code:
                self._known[kept["key"]] = _result(kept["result"])

    def find(self, item: tuple) -> Result | None:
        return self._known.get(repr(item))

    def add(self, item: tuple, result: Result) -> None:
        found = asdict(result)
        found["ratios"] = [[*key, value] for key, value in result.ratios.items()]
        kept = {"code": self._code, "key": repr(item), "result": found}
        with self._path.open("a") as file:
            file.write(json.dumps(kept) + "\n")


def _result(kept: dict) -> Result:
    ratios = {(hz, quantity): value for hz, quantity, value in kept["ratios"]}
    tuples = {"seeds": tuple(kept["seeds"]), "deepest": tuple(kept["deepest"])}
    return Result(**{**kept, **tuples, "ratios": ratios})


def fingerprint() -> str:
    """Return a hash of all that a result depends on."""
    package = ROOT / "src" / "qwen_vla_ros" / "qwen_vla_ros"
    parts = [package / room for room in ("safety", "execution", "embodiment")]
    parts += [ROOT / "test" / "faults", ROOT / "test" / "robots", ROOT / "config" / "embodiments"]
    paths = [path for part in parts for path in sorted(part.rglob("*")) if path.is_file()]
    code = [path.read_bytes() for path in paths if path.suffix in (".py", ".yaml", ".urdf")]
    return hashlib.sha256(b"\0".join(code)).hexdigest()[:16]


def campaign(
    names: list[str],
    steps: int,
    usual: int,
    seed: int,
    jobs: int,
    rates: tuple[int, ...] = RATES_HZ,
    memory: Path | None = None,
) -> Iterator[list[Result]]:
    """Attack every robot, with every rule and both paces; yields what is known after each run."""
    results: dict[tuple[str, str, str], Result] = {}
    work = []
    longest = max(steps, usual) // 2
    for begin in range(0, longest, CHUNK):
        for name in names:
            for rule in rules_of(name):
                for pace in ("exact", "late"):
                    share = (steps if rule == GATE else usual) // 2
                    if begin < share:
                        results.setdefault((name, rule, pace), Result(name, rule, pace))
                        count = min(CHUNK, share - begin)
                        work.append((name, rule, pace, count, seed + begin // CHUNK, rates))
    known = None if memory is None else Memory(memory)
    bar = tqdm(total=sum(item[3] for item in work), unit="step", mininterval=1.0)
    left = []
    for item in work:
        found = None if known is None else known.find(item)
        if found is None:
            left.append(item)
        else:
            results[item[:3]].add(found)
            bar.update(item[3])
    with ProcessPoolExecutor(jobs) as pool:
        runs = pool.map(attack, *zip(*left, strict=True)) if left else ()
        for item, found in zip(left, runs, strict=True):
            results[item[:3]].add(found)
            if known is not None:
                known.add(item, found)
            bar.update(item[3])
            yield list(results.values())
    bar.close()
    yield list(results.values())


def shown(value: float) -> str:
    return f"{value:.4f}" if 0.001 < value < 100 else f"{value:.2g}"


def table(results: list[Result]) -> str:
    """Return the results as a table."""
    lines = [
        "| robot | rule | ticks | steps | seeds | position | beyond | speed | acceleration "
        "| acc. 200 Hz | acc. 100 Hz | jerk | burst | not finite | contacts | stops |",
        "|" + "---|" * 16,
    ]
    for r in results:
        seeds = f"{r.seeds[0]} to {r.seeds[-1]}" if r.seeds else "-"
        values = (
            r.ratio("position"),
            r.beyond,
            r.ratio("speed"),
            *(r.ratio("acceleration", hz) for hz in RATES_HZ),
            r.ratio("jerk"),
            r.ratio("burst"),
        )
        numbers = " | ".join(shown(value) for value in values)
        lines.append(
            f"| {r.robot} | {r.rule} | {r.pace} | {r.steps} | {seeds} | {numbers} "
            f"| {r.not_finite} | {r.touching} of {r.looks} | {sum(r.stops.values())} |"
        )
    return "\n".join(lines)


def details(results: list[Result]) -> str:
    """Return what was done, and where the worst was, of the gate's own runs."""
    lines = []
    for r in results:
        if r.rule != GATE:
            continue
        lines += [
            f"\n{r.robot}, {r.pace} ticks: {r.chunks} chunks; armed in {r.armed} steps; "
            f"the set-point moved at {r.moving} updates of 1 kHz.",
            "  attacks: " + ", ".join(f"{name} {n}" for name, n in sorted(r.attacks.items())),
            "  stops: " + (", ".join(f"{c} {n}" for c, n in sorted(r.stops.items())) or "none"),
            f"  deepest contact: {r.deepest[0]:.4f} m {r.deepest[1]}",
            *(f"  worst {q}: {r.ratio(q):.6g} ({where})" for q, where in sorted(r.where.items())),
        ]
    return "\n".join(lines)


def main() -> None:
    """Run the attacks and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=40_000, help="per robot, for the gate")
    parser.add_argument("--usual-steps", type=int, default=8_000, help="per rule of the field")
    parser.add_argument("--robots", nargs="*", default=all_robots())
    parser.add_argument("--seed", type=int, default=0, help="the first; each run of 2000 has one")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/faults"))
    parser.add_argument("--rates", type=int, nargs="*", default=RATES_HZ, help="of controllers")
    options = parser.parse_args()
    begin = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    runs = campaign(
        options.robots,
        options.steps,
        options.usual_steps,
        options.seed,
        options.jobs,
        tuple(options.rates),
        options.out / "adversary.jsonl",
    )
    for results in runs:
        text = f"{table(results)}\n{details(results)}\n"
        (options.out / "adversary.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nbefore the judge for {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
