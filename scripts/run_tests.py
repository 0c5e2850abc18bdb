"""Run the tests on all processors: first what needs no ROS process, then the others.

A test that starts ROS processes judges by the clock what they do, so that it shares the processors
with its like only, and those of one file follow each other. The arguments are pytest's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROS_TESTS = ROOT / "test" / "ros"
AT_ONCE = ("-n", "logical", "--maxprocesses", "8", "--dist")
"""More than eight workers would spend their time with importing torch."""
OK, NONE_FOUND = 0, 5


def main() -> int:
    """Return pytest's status: of the first half that did not pass, if there is one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-m", default="")
    marks, rest = parser.parse_known_args()
    given = [argument for argument in rest if _place(argument).exists()]
    options = [argument for argument in rest if argument not in given]
    statuses = [_pytest(marks.m, "not ros", *AT_ONCE, "worksteal", *rest)]
    places = _below_ros_tests(given or [str(ROOT / "test")])
    if places and "not ros" not in marks.m:
        statuses.append(_pytest(marks.m, "ros", *AT_ONCE, "loadfile", *options, *places))
    wrong = [status for status in statuses if status not in (OK, NONE_FOUND)]
    return wrong[0] if wrong else min(statuses)


def _pytest(wanted: str, kind: str, *arguments: str) -> int:
    marks = f"({wanted}) and {kind}" if wanted else kind
    return subprocess.call([sys.executable, "-m", "pytest", *arguments, "-m", marks])


def _place(argument: str) -> Path:
    return Path(argument.partition("::")[0])


def _below_ros_tests(places: list[str]) -> list[str]:
    """Keep of the places what may hold ROS tests; the others are slow to look through."""
    kept = []
    for place in places:
        path = _place(place).resolve()
        if path.is_relative_to(ROS_TESTS):
            kept.append(place)
        elif ROS_TESTS.is_relative_to(path):
            kept.append(str(ROS_TESTS))
    return kept


if __name__ == "__main__":
    raise SystemExit(main())
