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
def edit(workspace: Path) -> Write:
    """Replace the first occurrence of a text in a robot's file and return its path."""

    def write(robot: str, old: str, new: str) -> Path:
        path = workspace / "config" / "embodiments" / f"{robot}.yaml"
        text = path.read_text()
        assert old in text, f"the test is out of date: {old!r} is not in {path.name}"
        path.write_text(text.replace(old, new, 1))
        return path

    return write
