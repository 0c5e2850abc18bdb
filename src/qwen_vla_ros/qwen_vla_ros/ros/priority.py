"""Asks the operating system to let this process go first."""

from __future__ import annotations

import gc
import os

REAL_TIME_PRIORITY = 10
NICENESS = -10


def raise_priority() -> str:
    """Raise the priority of this thread and of all that it starts, as far as it is permitted.

    To be called before ROS starts its threads: they inherit it.

    Returns:
        What was reached, as a sentence.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REAL_TIME_PRIORITY))
    except (OSError, AttributeError):
        pass
    else:
        return f"runs with real-time priority {REAL_TIME_PRIORITY}"
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    except (OSError, AttributeError):
        return "runs with normal priority: neither real-time scheduling nor niceness is permitted"
    return f"runs with niceness {NICENESS}: real-time scheduling is not permitted"


def lower_priority() -> None:
    """Give this thread, and those that it starts, a normal priority again."""
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except (OSError, AttributeError):
        return  # it was never raised


def settle_memory() -> None:
    """Take what exists now out of garbage collection, so that it no longer pauses the process."""
    gc.collect()
    gc.freeze()
