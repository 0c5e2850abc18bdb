"""Kinds of which there may be many: each is one file in its kind's folder; nothing lists them.

A backend, a world, an expert, a policy or a dialect is a module of one package. Its name is the
name of its file; adding one is adding a file. Names are read from the folder, so that knowing
them imports nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from qwen_vla_ros.errors import QwenVlaError, suggest


def plugin_names(package: str) -> tuple[str, ...]:
    """Return the names of the plugins of a package, sorted, without importing any of them."""
    folders = importlib.import_module(package).__path__
    return tuple(sorted(module.name for module in pkgutil.iter_modules(folders)))


def load_plugin(package: str, name: str) -> ModuleType:
    """Import one plugin; a dash in its name stands for an underscore.

    Raises:
        QwenVlaError: There is none of that name.
    """
    known = plugin_names(package)
    module = name.replace("-", "_")
    if module not in known:
        kind = package.rsplit(".", 1)[-1]
        raise QwenVlaError(f"{kind}: unknown name '{name}'.{suggest(name, known)}")
    return importlib.import_module(f"{package}.{module}")
