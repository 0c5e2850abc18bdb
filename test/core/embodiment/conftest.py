"""The good files, and broken variants of them made by editing their text."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
Write = Callable[..., Path]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A copy of the robots: the same layout, free to be broken."""
    shutil.copytree(ROOT / "config" / "embodiments", tmp_path / "config" / "embodiments")
    shutil.copytree(ROOT / "urdf", tmp_path / "urdf")
    return tmp_path


@pytest.fixture
def edit(tmp_path: Path) -> Write:
    """Replace the first occurrence of a text in a robot's file and return its path.

    The file gets its description from here, unless the test has a workspace.
    """

    def write(robot: str, old: str, new: str) -> Path:
        path = tmp_path / "config" / "embodiments" / f"{robot}.yaml"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "config" / "embodiments" / path.name, path)
        text = path.read_text()
        assert old in text, f"the test is out of date: {old!r} is not in {path.name}"
        path.write_text(text.replace(old, new, 1))
        return path

    return write
