"""`qwen-vla up`: the bringup as supervised subprocesses."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from qwen_vla_ros.bringup import bringup_from_words, environment
from qwen_vla_ros.supervisor import Supervisor

COLOURS = {"policy": "cyan", "arm_gate": "green", "base_gate": "green", "simulator": "magenta"}
console = Console(highlight=False)


def up(words: Mapping[str, str]) -> int:
    """Run the graph until Ctrl-C or SIGTERM, or until nothing of it is left."""
    bringup = bringup_from_words(words)
    supervisor = Supervisor(
        bringup.nodes(), environment(one_host=bringup.backend == "mujoco"), say
    )
    leaving = False

    def leave(*_: object) -> None:
        nonlocal leaving
        leaving = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    supervisor.start()
    robot = words["robot"]
    say("up", f'when all are active: qwen-vla do "..." --robot {robot} --arm    Ctrl-C ends all')
    told: set[str] = set()
    while supervisor.poll() and not leaving:
        for name in set(supervisor.exits) - told:
            # As with launch, the others go on: a gate without its policy holds the robot.
            say(name, f"ended with status {supervisor.exits[name]}; the others go on")
            told.add(name)
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
