"""Folders of weights: written whole or not at all, and read only when nothing in them can run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qwen_vla_ros.errors import CheckpointError

EXECUTABLE_SUFFIXES = frozenset(
    (
        ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5",
        ".keras", ".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".exe", ".sh",
    )
)  # fmt: skip
"""Files that run code when they are read, or may."""


def refuse_executables(directory: Path) -> None:
    """Refuse a folder with a file that could run code.

    Raises:
        CheckpointError: Naming the first such file.
    """
    for path in sorted(directory.rglob("*")):
        if path.suffix.lower() in EXECUTABLE_SUFFIXES:
            raise CheckpointError(
                f"{path}: {path.suffix} files can run code when they are read; weights are kept "
                "in .safetensors and .json only. Remove it, or convert it."
            )


def refuse_existing(out: Path) -> None:
    """Refuse a place where something is already.

    Raises:
        CheckpointError: When `out` exists and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out}: exists already; name a folder that is new or empty.")


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """Yield a folder to write to, which becomes `out` when everything went well.

    Raises:
        CheckpointError: When `out` exists and is not an empty folder, or cannot be made.
    """
    refuse_existing(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        place = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be made: {error}.") from error
    # Written beside its place and renamed: whoever finds the folder finds all of it.
    with place as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        yield folder
        _open_to_readers(folder)
        folder.replace(out)


def _open_to_readers(folder: Path) -> None:
    """Give every file the mode that the process gives to new ones; safetensors takes it away."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
