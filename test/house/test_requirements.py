"""The pins are complete, and they are what is installed."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BARE = ("torch", "arrays", "ros-jazzy", "runtime", "build", "dev")
WITH_ROS = ("torch", "arrays-ros-installation", "runtime", "dev")

MODELS_ONLY = {"gym-aloha"}
"""Installed for the files inside; what their own code imports is not needed."""

OVERRULED = {("cmeel-boost", "numpy"), ("openpi-client", "numpy")}
"""One asks for NumPy 2 and, like everything that was compiled with it, also runs on 1.26; the
other asks for NumPy 1 and, being Python of a few lines, also runs on 2."""

FOR_A_GPU = ("cuda-", "nvidia-", "triton")
"""What a torch that was built for a GPU brings; pip resolves that one file of pins."""


def pins(root, names) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        for line in (root / "requirements" / f"{name}.txt").read_text().splitlines():
            if line and not line.startswith("#"):
                match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
                assert match, f"requirements/{name}.txt: '{line}' is not <name>==<version>"
                key = canonicalize_name(match[1])
                assert key not in found, f"{key} is pinned twice"
                found[key] = match[2]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("names", [BARE, WITH_ROS], ids=["bare", "with ROS"])
def test_pins_are_a_closed_set(root, names):
    pinned = pins(root, names)
    wrong = set()
    for name in set(pinned) - MODELS_ONLY:
        for requirement in requirements_of(name, pinned[name]):
            key = canonicalize_name(requirement.name)
            if (name, key) in OVERRULED or (name == "torch" and key.startswith(FOR_A_GPU)):
                continue
            if key not in pinned or pinned[key] not in requirement.specifier:
                wrong.add(f"{name} needs {requirement}, pinned is {pinned.get(key, 'nothing')}")
    assert wrong == set()


def requirements_of(name: str, version: str) -> list[Requirement]:
    """What a package needs, if it is installed here in that version."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return []  # belongs to the other kind of machine
    if distribution.version.partition("+")[0] != version:
        return []  # so does this version
    wanted = map(Requirement, distribution.requires or [])
    return [need for need in wanted if not need.marker or need.marker.evaluate({"extra": ""})]


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="not in .venv")
def test_what_is_installed_is_what_is_pinned(root):
    pinned = pins(root, WITH_ROS if os.environ.get("ROS_DISTRO") else BARE)
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in pinned}
    assert installed == pinned


def test_ros_wheels_are_pinned_by_the_name_that_all_distributions_share(root):
    pinned = pins(root, ["ros-jazzy"])
    for name, version in pinned.items():
        if name.startswith("ros-jazzy-"):
            assert pinned[name.replace("ros-jazzy-", "ros-")] == version
