"""Finds and loads embodiment files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from qwen_vla_ros.data_file import read_yaml
from qwen_vla_ros.embodiment.cross_check import cross_check
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.schema import PATTERNS, EmbodimentFile
from qwen_vla_ros.embodiment.urdf import load_urdf
from qwen_vla_ros.errors import EmbodimentError, suggest
from qwen_vla_ros.problems import Problems, label, printable

SEARCH_VARIABLE = "QWEN_VLA_CONFIG_PATH"
_SOURCE_TREE = Path(__file__).parents[4]


def load_embodiment(name_or_path: str | Path) -> Embodiment:
    """Load a robot by its name (`aloha_sim`) or by the path of its file.

    Raises:
        EmbodimentError: With one line for everything that is wrong with the file.
    """
    path = find_embodiment(str(name_or_path))
    source = read_yaml(path)
    problems = Problems(path, source.lines)
    try:
        file = EmbodimentFile.model_validate(source.data)
    except ValidationError as error:
        problems.explain(error, EmbodimentFile, PATTERNS)
        raise problems.error() from None
    robot = load_urdf(_find_urdf(path, file.urdf, problems))
    cross_check(file, robot, problems)
    problems.raise_if_any()
    return Embodiment(file=file, path=path, robot=robot)


def find_embodiment(name_or_path: str) -> Path:
    """Return the file of a robot.

    What looks like a path is one. A bare name is looked up in the folders of
    $QWEN_VLA_CONFIG_PATH, then in the source tree, then in the installed package `qwen_vla`.

    Raises:
        EmbodimentError: There is no such file; the known robots are named.
    """
    if name_or_path.endswith((".yaml", ".yml")) or os.sep in name_or_path:
        path = Path(name_or_path)
        if not path.is_file():
            raise EmbodimentError(f"{printable(label(path))}: there is no such file.")
        return path
    known: set[str] = set()
    for folder in _search_folders():
        files = {path.stem: path for path in folder.glob("*.yaml")}
        if name_or_path in files:
            return files[name_or_path]
        known.update(files)
    asked = printable(name_or_path)
    raise EmbodimentError(f"unknown robot '{asked}'.{suggest(asked, known)}")


def _search_folders() -> Iterator[Path]:
    for folder in os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep):
        if folder:
            yield Path(folder).absolute()
    yield _SOURCE_TREE / "config" / "embodiments"
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix:
            yield Path(prefix) / "share" / "qwen_vla" / "config" / "embodiments"


def _find_urdf(path: Path, filename: str, problems: Problems) -> Path:
    """Find the description beside the file, in `../../urdf`, or where the known robots have it."""
    folders = [path.absolute().parent]
    folders += [home.parent.parent / "urdf" for home in (folders[0], *_search_folders())]
    for folder in folders:
        if (folder / filename).is_file():
            return folder / filename
    known = {found.name for folder in folders for found in folder.glob("*.urdf*")}
    problems.add(("urdf",), f"there is no file '{filename}'.{suggest(filename, known)}")
    raise problems.error()
