"""Stages of a long job that are done once, and again only when what went into them changed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 20.0
"""A stage that is silent for longer than this says that it is still alive."""


class SetupError(Exception):
    """Something that a person has to mend, told in one sentence."""


@dataclass(frozen=True)
class Stage:
    """One stage: its title, what to do, and what decides whether it is still good.

    Attributes:
        inputs: Files (by content) and words. A change of any makes the stage run again.
        always: The stage is cheap and looks for itself whether there is something to do.
    """

    title: str
    run: Callable[[], object]
    inputs: Sequence[Path | str] = ()
    always: bool = False

    def key(self) -> str:
        """A hash of the inputs."""
        digest = hashlib.sha256(self.title.encode())
        for item in self.inputs:
            digest.update(item.read_bytes() if isinstance(item, Path) else item.encode())
            digest.update(b"\0")
        return digest.hexdigest()


def run_stages(stamps: Path, stages: Sequence[Stage]) -> None:
    """Run those stages that have no valid stamp, in order, and say so.

    A stage that runs takes the stamps of all later ones away first: they build on it.
    """
    for number, stage in enumerate(stages):
        head = f"[{number + 1}/{len(stages)}] {stage.title}"
        key, stamp = stage.key(), stamps / f"{number + 1:02}"
        if not stage.always and stamp.is_file() and stamp.read_text(encoding="utf-8") == key:
            print(f"{head}: unchanged", flush=True)
            continue
        if not stage.always:
            for later in range(number, len(stages)):
                (stamps / f"{later + 1:02}").unlink(missing_ok=True)
        print(f"{head} ...", flush=True)
        start = time.monotonic()
        stage.run()
        print(f"{head}: {time.monotonic() - start:.1f} s", flush=True)
        if not stage.always:
            stamps.mkdir(parents=True, exist_ok=True)
            stamp.write_text(key, encoding="utf-8")


def call(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command in the root of the tree and return its output, which is shown when it fails.

    Raises:
        SetupError: The command ended with an error.
    """
    words = [str(word) for word in command]
    # A Python of ROS wheels that started us would make the next one believe that its libraries
    # are already in place.
    clean = {k: v for k, v in (env or os.environ).items() if k != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    with ended_with_us(process):
        start = time.monotonic()
        while True:
            try:
                output, _ = process.communicate(timeout=PATIENCE_S)
                break
            except subprocess.TimeoutExpired:
                print(f"      still working ({time.monotonic() - start:.0f} s)", flush=True)
    if process.returncode:
        tail = "\n".join(output.splitlines()[-40:])
        raise SetupError(f"{tail}\n`{' '.join(words)}` ended with {process.returncode}.")
    return output


@contextmanager
def ended_with_us(process: subprocess.Popen[str]) -> Iterator[None]:
    """End the process when we are interrupted, so that nothing writes into `.venv` after us."""
    try:
        yield
    except BaseException:
        process.terminate()
        process.wait()
        raise
