"""What is called growth, and what is not."""

import os
import subprocess
import sys

import numpy as np
import pytest

from faults.growth import Held, Series, draw, look, table, wrong

HOUR_S = 3600


STEADY = {"rss": lambda _: 200.0, "fds": lambda _: 22, "threads": lambda _: 15}


def gate(**changed):
    """A gate that holds always the same, but for what is a function of the time (s)."""
    rss, fds, threads = (STEADY | changed).values()
    times = np.arange(1.0, 2 * HOUR_S, 10.0)
    return {"gate": Series("gate", [Held(t, rss(t), fds(t), threads(t)) for t in times])}


def test_a_process_that_holds_what_it_held_is_in_order():
    series = gate()
    assert wrong(series, 2 * HOUR_S) == []
    assert series["gate"].slope_mib_per_h == pytest.approx(0.0)


def test_memory_that_grows_is_told_by_its_slope_and_only_in_a_long_run():
    series = gate(rss=lambda t: 200.0 + 1.5 * t / HOUR_S)
    assert series["gate"].slope_mib_per_h == pytest.approx(1.5)
    assert "1.50 MiB/h" in wrong(series, 2 * HOUR_S)[0]
    assert wrong(series, 60.0) == []


def test_what_a_process_takes_while_it_warms_up_does_not_count():
    series = gate(
        rss=lambda t: 100.0 if t < 290 else 200.0,
        fds=lambda t: 10 if t < 290 else 22,
        threads=lambda t: 3 if t < 290 else 15,
    )
    assert wrong(series, 2 * HOUR_S) == []


@pytest.mark.parametrize("what", ["fds", "threads"])
def test_one_more_that_stays_is_growth_and_one_for_a_moment_is_none(what):
    stays = gate(**{what: lambda t: 20 + (t > HOUR_S)})
    assert wrong(stays, 2 * HOUR_S) == [f"gate: {what} grew from 20 to 21"]
    passes = gate(**{what: lambda t: 20 + (t % 600 < 20)})
    assert wrong(passes, 2 * HOUR_S) == []


def test_a_process_that_has_ended_is_told_even_without_a_sample():
    series = {**gate(), "policy": Series("policy", has_ended=True)}
    assert wrong(series, 2 * HOUR_S) == ["policy has ended"]
    assert "| policy | 0 |" in "\n".join(table(series))


def test_a_look_at_a_process_counts_its_files_and_sees_its_end(tmp_path):
    me = look(os.getpid(), 0.0)
    with (tmp_path / "one").open("w"):
        assert look(os.getpid(), 0.0).fds == me.fds + 1
    assert me.rss_mib > 1
    assert me.threads >= 1
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert look(child.pid, 0.0) is None  # a zombie
    child.wait()
    assert look(child.pid, 0.0) is None


@pytest.mark.slow
def test_a_plot_is_drawn_of_whatever_was_seen(tmp_path):
    draw({**gate(), "policy": Series("policy")}, [30.0, 3000.0], tmp_path / "soak.png")
    assert (tmp_path / "soak.png").stat().st_size > 10_000
    draw({"gate": Series("gate")}, [], tmp_path / "nothing.png")
    assert (tmp_path / "nothing.png").exists()
