"""A plugin is a file: it is there as soon as it lies in its folder."""

from __future__ import annotations

import sys

import pytest

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.plugins import load_plugin, plugin_names


@pytest.fixture
def kind(tmp_path, monkeypatch):
    """A package `colours` with one plugin, which would fail if it were imported."""
    folder = tmp_path / "colours"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "dark_blue.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("colours")]:
        del sys.modules[name]


@pytest.mark.usefixtures("kind")
def test_names_are_known_without_importing_anything():
    assert plugin_names("colours") == ("dark_blue",)


def test_a_file_that_is_added_is_found(kind):
    (kind / "red.py").write_text("HUE = 0\n")
    assert plugin_names("colours") == ("dark_blue", "red")
    assert load_plugin("colours", "red").HUE == 0


def test_a_dash_stands_for_an_underscore(kind):
    (kind / "dark_blue.py").write_text("HUE = 240\n")
    assert load_plugin("colours", "dark-blue").HUE == 240


@pytest.mark.usefixtures("kind")
def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(QwenVlaError, match=r"unknown name 'dark_blu'. Did you mean 'dark_blue'"):
        load_plugin("colours", "dark_blu")
