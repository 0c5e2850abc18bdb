"""`make setup` does what changed, and nothing else."""

from __future__ import annotations

import importlib.util
import sys

import pytest


@pytest.fixture
def stages(root, monkeypatch):
    spec = importlib.util.spec_from_file_location("stages", root / "scripts" / "stages.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "stages", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def job(stages, tmp_path):
    """Three stages that note when they run; the second reads a file."""
    ran = []
    file = tmp_path / "input.txt"
    file.write_text("one")

    def run_all():
        ran.clear()
        inputs = {"first": (), "second": (file,), "third": ()}
        todo = [stages.Stage(t, lambda t=t: ran.append(t), i) for t, i in inputs.items()]
        stages.run_stages(tmp_path / "stamps", todo)
        return list(ran)

    return run_all, file, tmp_path / "stamps"


def test_a_second_run_does_nothing(job):
    run_all, _, _ = job
    assert run_all() == ["first", "second", "third"]
    assert run_all() == []


def test_a_changed_input_runs_its_stage_and_all_that_build_on_it(job):
    run_all, file, _ = job
    run_all()
    file.write_text("two")
    assert run_all() == ["second", "third"]


def test_an_interrupted_run_goes_on_where_it_stopped(job, stages):
    run_all, _, stamps = job
    run_all()

    def fail():
        raise stages.SetupError("the network is gone")

    broken = [stages.Stage("first", fail, ("changed",)), stages.Stage("second", fail)]
    with pytest.raises(stages.SetupError):
        stages.run_stages(stamps, broken)
    assert run_all() == ["first", "second", "third"]


def test_a_command_that_fails_shows_what_it_said(stages):
    with pytest.raises(stages.SetupError, match=r"(?s)went wrong.*ended with 3"):
        stages.call("sh", "-c", "echo went wrong; exit 3")


def test_a_stage_that_looks_for_itself_always_runs(stages, tmp_path):
    ran = []
    always = [stages.Stage("look", lambda: ran.append(1), always=True)]
    stages.run_stages(tmp_path, always)
    stages.run_stages(tmp_path, always)
    assert ran == [1, 1]
