"""What the house rules look at: the files of the tree that are ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {".git", ".venv", "build", "install", "log", "out"} | {
    f".{tool}" for tool in ("hypothesis", "pytest_cache", "mypy_cache", "ruff_cache")
}


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def our_files() -> list[Path]:
    """Tracked files and those that wait to be added; without git, everything not built."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
        return [path for path in paths if path.is_file()]
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and path.relative_to(ROOT).parts[0] not in NOT_OURS
        and "__pycache__" not in path.parts
        and not any(part.endswith(".egg-info") for part in path.parts)
    ]


@pytest.fixture(scope="session")
def texts(our_files: list[Path]) -> dict[str, str]:
    """Content of every text file of ours, by its path from the root."""
    texts = {}
    for path in our_files:
        try:
            texts[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return texts


@pytest.fixture(scope="session")
def modules(texts: dict[str, str]) -> dict[str, str]:
    """Source of every module of the package, by its path from the root."""
    package = "src/qwen_vla_ros/qwen_vla_ros/"
    return {
        name: text
        for name, text in texts.items()
        if name.startswith(package) and name.endswith(".py")
    }
