"""A policy server for the length of a `with`, as a process beside this one."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from qwen_vla_ros.errors import NotReadyError

SHUTDOWN_S = 5.0


@contextmanager
def policy_server(robot: str, checkpoint: Path, seed: int, log: Path) -> Iterator[str]:
    """Start `qwen-vla serve` on a free port of this machine and yield its address.

    Its output goes to the file `log`.

    Raises:
        NotReadyError: The server ends before it serves; the sentence is its last one.
    """
    command = [sys.executable, "-m", "qwen_vla_ros.cli.main", "serve", "--listen", "openpi:0"]
    command += ["--robot", robot, "--checkpoint", str(checkpoint), "--seed", str(seed)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        with log.open("w") as lines:
            yield _address(process.stdout, lines)
    finally:
        process.terminate()
        try:
            process.wait(SHUTDOWN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(output: IO[str], lines: IO[str]) -> str:
    """Read until the server says where it is; what comes later is kept in `lines` only."""
    line = ""
    for line in output:
        lines.write(line)
        found = re.search(r" on (wss?://\S+) ", line)
        if found:
            threading.Thread(target=_copy, args=(output, lines), daemon=True).start()
            return found[1]
    raise NotReadyError(f"the policy server ended: {line.strip()}")


def _copy(output: IO[str], lines: IO[str]) -> None:
    for line in output:
        if not lines.closed:
            lines.write(line)
            lines.flush()
