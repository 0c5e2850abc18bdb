"""Where the files of the package `qwen_vla` lie: launch/, config/, urdf/."""

from __future__ import annotations

import os
from pathlib import Path

from qwen_vla_ros.errors import QwenVlaError

_SOURCE_TREE = Path(__file__).parents[3]


def share_folder() -> Path:
    """Return the folder that holds config/: the source tree's, else the installed package's.

    Raises:
        QwenVlaError: The package `qwen_vla` is not installed.
    """
    prefixes = filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    installed = (Path(prefix, "share", "qwen_vla") for prefix in prefixes)
    for folder in (_SOURCE_TREE, *installed):
        if (folder / "config" / "embodiments").is_dir():
            return folder
    raise QwenVlaError(
        "the package 'qwen_vla' is not installed: no share/qwen_vla in AMENT_PREFIX_PATH. "
        "Source the workspace's install/setup.bash."
    )
