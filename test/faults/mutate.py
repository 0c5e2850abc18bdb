"""How many small mistakes in safety/ the tests of the core notice.

    make mutate MUTATE="--every 10 --only latch.py"

Each mutant is one change in one file of a copy of the package: a comparison or an operator that is
another, a `not` that is gone, a constant that is off by one, a statement that is missing. The
tests of that file run against it, then all of the core; a mutant that they pass has survived, and
is listed. What was found is kept: a run that was ended goes on where it was, as long as neither
the core nor its tests have changed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from faults.rig import ROOT

SOURCE = ROOT / "src" / "qwen_vla_ros"
PART = Path("qwen_vla_ros/safety")
TESTS = ROOT / "test" / "core" / "safety"
PATIENCE = 4.0
"""Times as long as without a mutant, a mutant may take; then it is noticed, too."""
LONGEST_S = 900.0
COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
REVERSED = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
LOGIC = {ast.And: ast.Or, ast.Or: ast.And}


@dataclass(frozen=True)
class Mutant:
    """One mistake: the file, its line, what was done, and the text of the file with it."""

    file: str
    line: int
    what: str
    source: str


def mutants(path: Path) -> Iterator[Mutant]:
    """Return every mutant of a file, in the order of its lines."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    found = []
    for number, node in enumerate(ast.walk(tree)):
        for what, change in _changes(node):
            changed = copy.deepcopy(tree)
            target = next(n for k, n in enumerate(ast.walk(changed)) if k == number)
            change(target)
            source = ast.unparse(ast.fix_missing_locations(changed))
            if source != ast.unparse(tree):
                found.append(Mutant(path.name, getattr(node, "lineno", 0), what, source))
    yield from sorted(found, key=lambda mutant: mutant.line)


def _changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    if isinstance(node, ast.Compare):
        for k, operator in enumerate(node.ops):
            for table in (COMPARISONS, REVERSED):
                other = table.get(type(operator))
                if other is not None:
                    what = f"{type(operator).__name__} to {other.__name__}"
                    yield what, lambda n, k=k, other=other: n.ops.__setitem__(k, other())
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        other = ARITHMETIC[type(node.op)]
        what = f"{type(node.op).__name__} to {other.__name__}"
        yield what, lambda n, other=other: setattr(n, "op", other())
    elif isinstance(node, ast.BoolOp):
        other = LOGIC[type(node.op)]
        what = f"{type(node.op).__name__} to {other.__name__}"
        yield what, lambda n, other=other: setattr(n, "op", other())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped", _drop_not
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for step in (1, -1):
            what = f"{node.value} to {node.value + step}"
            yield what, lambda n, step=step: setattr(n, "value", n.value + step)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield f"{node.value} to {not node.value}", lambda n: setattr(n, "value", not n.value)
    for name in ("body", "orelse"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield from _removals(node, name, block)


def _removals(node: ast.AST, name: str, block: list[ast.stmt]) -> Iterator[tuple[str, object]]:
    if isinstance(node, ast.Module | ast.ClassDef):
        return
    for k, statement in enumerate(block):
        is_removable = isinstance(statement, ast.Expr | ast.Assign | ast.AugAssign | ast.Return)
        is_removable |= isinstance(statement, ast.If | ast.Raise)
        is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not is_removable or is_text:
            continue
        short = ast.unparse(statement).splitlines()[0][:50]

        def remove(n: ast.AST, k: int = k) -> None:
            getattr(n, name)[k] = ast.Pass()

        yield f"removed at {statement.lineno}: {short}", remove


def _drop_not(node: ast.AST) -> None:
    # Twice no is yes; the node itself must stay where it is.
    node.operand = ast.UnaryOp(ast.Not(), node.operand)


def is_noticed(mutant: Mutant, limit_s: float, tests: Path = TESTS) -> bool:
    """Run tests against one mutant, in a copy of the package: first those of its file."""
    with tempfile.TemporaryDirectory() as place:
        package = Path(place) / "src" / "qwen_vla_ros"
        shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / PART / mutant.file).write_text(mutant.source, encoding="utf-8")
        for name in ("config", "urdf", "test", "benchmarks", "pyproject.toml"):
            (Path(place) / name).symlink_to(ROOT / name)
        own = TESTS / f"test_{mutant.file}"
        return (own.is_file() and _fails(own, place, limit_s)) or _fails(tests, place, limit_s)


def _fails(tests: Path, place: str, limit_s: float) -> bool:
    """Run some tests on the package in a folder; one that takes too long has failed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(place) / "src/qwen_vla_ros"), str(ROOT / "test")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "QWEN_VLA_CONFIG_PATH": str(ROOT / "config" / "embodiments"),
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(tests)]
    try:
        done = subprocess.run(
            [*command, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")],
            cwd=place,
            env=environment,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


class Memory:
    """What was found of the mutants, on disk."""

    def __init__(self, path: Path) -> None:
        """Remember what `path` holds of the core and its tests as they are now."""
        self._path = path
        sources = [*(SOURCE / PART).glob("*.py"), *TESTS.glob("*.py")]
        code = b"\0".join(each.read_bytes() for each in sorted(sources))
        self._code = hashlib.sha256(code).hexdigest()[:16]
        lines = path.read_text().splitlines() if path.is_file() else []
        kept = [json.loads(line) for line in lines]
        self._known = {each["key"]: each["noticed"] for each in kept if each["code"] == self._code}

    def find(self, mutant: Mutant) -> bool | None:
        """Return whether a mutant is noticed; None where that is not known."""
        return self._known.get(self._key(mutant))

    def add(self, mutant: Mutant, *, noticed: bool) -> None:
        """Keep what was found."""
        kept = {"code": self._code, "key": self._key(mutant), "noticed": noticed}
        with self._path.open("a") as file:
            file.write(json.dumps(kept) + "\n")

    @staticmethod
    def _key(mutant: Mutant) -> str:
        digest = hashlib.sha256(mutant.source.encode()).hexdigest()[:16]
        return f"{mutant.file}:{mutant.line}: {mutant.what} {digest}"


def main() -> None:
    """Make the mutants, run the tests, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="take every n-th mutant")
    parser.add_argument("--offset", type=int, default=0, help="begin with this one")
    parser.add_argument("--only", nargs="*", default=[], help="names of files")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/faults"))
    options = parser.parse_args()
    files = [
        path
        for path in sorted((SOURCE / PART).glob("*.py"))
        if not options.only or path.name in options.only
    ]
    everything = [mutant for path in files for mutant in mutants(path)]
    chosen = everything[options.offset :: options.every]
    clean = Mutant("latch.py", 0, "nothing", (SOURCE / PART / "latch.py").read_text())
    begin = time.monotonic()
    if is_noticed(clean, LONGEST_S):
        raise SystemExit("the tests fail without any mutant")
    limit_s = PATIENCE * (time.monotonic() - begin) + 20.0
    options.out.mkdir(parents=True, exist_ok=True)
    memory = Memory(options.out / "mutants.jsonl")

    def judge(mutant: Mutant) -> bool:
        known = memory.find(mutant)
        if known is None:
            known = is_noticed(mutant, limit_s)
            memory.add(mutant, noticed=known)
        return known

    noticed = []
    bar = tqdm(total=len(chosen), unit="mutant")
    with ThreadPoolExecutor(options.jobs) as pool:
        found = pool.map(judge, chosen)
        for mutant, seen in zip(chosen, found, strict=True):
            noticed.append(seen)
            bar.update()
            if not seen:
                bar.write(f"survived: {mutant.file}:{mutant.line}: {mutant.what}")
    bar.close()
    lines = [f"{sum(noticed)} of {len(chosen)} mutants noticed ({len(everything)} in all): "]
    lines[0] += f"{sum(noticed) / max(1, len(chosen)):.1%}"
    for path in files:
        mine = [seen for m, seen in zip(chosen, noticed, strict=True) if m.file == path.name]
        if mine:
            lines.append(f"  {path.name}: {sum(mine)} of {len(mine)}")
    lines += ["", "Survivors:"]
    lines += [
        f"  {m.file}:{m.line}: {m.what}"
        for m, seen in zip(chosen, noticed, strict=True)
        if not seen
    ]
    text = "\n".join(lines) + "\n"
    (options.out / "mutants.txt").write_text(text, encoding="utf-8")
    print(f"\n{text}\n{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
