"""`qwen-vla up`: the bringup as supervised subprocesses."""

from __future__ import annotations

import os
import signal
import time

from rich.console import Console
from rich.markup import escape

from qwen_vla_ros.bringup import Bringup, environment
from qwen_vla_ros.security import require_enclaves
from qwen_vla_ros.supervisor import Supervisor

COLOURS = {"policy": "cyan", "gate": "green", "monitor": "blue", "simulator": "magenta"}
console = Console(highlight=False)


def up(bringup: Bringup) -> int:
    """Run the graph until Ctrl-C or SIGTERM, until one of it fails for good, or none is left.

    Returns:
        The exit status: 0 when every process came to rest and ended well.
    """
    require_enclaves(bringup.nodes(), os.environ)
    supervisor = Supervisor(bringup.nodes(), environment(one_host=bringup.is_simulated), say)
    leaving = False

    def leave(*_: object) -> None:
        nonlocal leaving
        leaving = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    supervisor.start()
    asking = f'qwen-vla do "..." --robot {bringup.robot} --arm'
    say("up", f"when all are active: {asking}    Ctrl-C ends all")
    while supervisor.poll() and not supervisor.is_over and not leaving:
        time.sleep(0.1)
    ended_well = supervisor.stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Somebody impatient may press again while the interpreter is on its way out.
        signal.signal(number, signal.SIG_IGN)
    say("up", "all down" if ended_well else f"ended with {dict(supervisor.exits)}")
    return 0 if ended_well else 1


def say(name: str, line: str) -> None:
    """Print one line of a process."""
    colour = COLOURS.get(name, "yellow")
    console.print(f"[{colour}]{name:>10}[/] {escape(line)}", soft_wrap=True)
