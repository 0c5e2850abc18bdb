"""`qwen-vla do`, `arm`, `stop`, `status` and `reset`: the operator's commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from qwen_vla_ros.cli.session import rclpy_session
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.security import operator_of

if TYPE_CHECKING:
    from qwen_vla_msgs.action import ExecuteInstruction

    from qwen_vla_ros.ros.operator import Operator

OUTCOMES = {0: "succeeded", 1: "finished", 2: "aborted", 3: "canceled"}
EXITS = {0: 0, 1: 3, 2: 1, 3: 1}
"""Exit status by outcome; 3 says that it ended and that nobody judged whether it was done."""
LEVELS = ("OK", "LIMITED", "HOLD", "STOP")
PATIENCE_S = 20.0

console = Console(highlight=False)


def do(
    instruction: str, robot: str, namespace: str, time_limit_s: float, *, arm_first: bool
) -> int:
    """Carry out an instruction; returns one of `EXITS`."""
    with _operator(robot, namespace) as operator:
        console.print("waiting for the policy ...", end="\n" if console.is_terminal else " ")
        operator.wait_for_policy(PATIENCE_S)
        operator.require_robot(PATIENCE_S)
        if arm_first:
            operator.arm()
        # A table that redraws itself is for eyes; a log gets the result only.
        with Live(console=console) if console.is_terminal else nullcontext() as live:

            def show(feedback: ExecuteInstruction.Feedback) -> None:
                if live is not None:
                    live.update(_progress(instruction, feedback))

            result = operator.execute(instruction, time_limit_s, show)
    console.print(
        f"[bold]{OUTCOMES[result.outcome]}[/] after {result.duration_s:.1f} s, "
        f"{result.chunks} chunks: {result.why}"
    )
    return EXITS[result.outcome]


def arm(robot: str, namespace: str) -> int:
    """Arm the robot's gate."""
    with _operator(robot, namespace) as operator:
        operator.arm()
    console.print("armed")
    return 0


def stop(robot: str, namespace: str) -> int:
    """Stop the robot, whichever one it is."""
    with _operator(robot, namespace) as operator:
        operator.stop()
    console.print("stopped; arm it to let it move again")
    return 0


def status(robot: str, namespace: str) -> int:
    """Show what the robot's gate thinks, and why."""
    with _operator(robot, namespace) as operator:
        operator.require_robot(PATIENCE_S)
        safety, policy = operator.safety, operator.ask_policy()
        profile = operator.profile()
    table = Table.grid(padding=(0, 2))
    table.add_row("level", LEVELS[safety.level])
    table.add_row("armed", "yes" if safety.armed else "no")
    table.add_row("profile", profile)
    table.add_row("cause", f"{safety.cause}: {safety.detail}" if safety.cause else "-")
    table.add_row("policy", policy)
    table.add_row(
        "chunks", f"{safety.chunks_accepted} accepted, {safety.chunks_rejected} rejected"
    )
    table.add_row(
        "commands",
        f"{safety.ticks}, of which {safety.ticks_limited} limited and {safety.ticks_late} late",
    )
    console.print(table)
    return 0


def reset(robot: str, namespace: str, seed: int) -> int:
    """Stop a simulated robot and put its scene back."""
    with _operator(robot, namespace) as operator:
        operator.require_robot(PATIENCE_S)
        instruction = operator.reset(seed)
    console.print(f'scene {seed}, for example: "{instruction}"')
    return 0


@contextmanager
def _operator(robot: str, namespace: str) -> Iterator[Operator]:
    embodiment = load_embodiment(robot)
    enclave = operator_of(namespace).enclave
    with rclpy_session(one_host=embodiment.file.simulation is not None, enclave=enclave):
        from qwen_vla_ros.ros.operator import Operator
        from qwen_vla_ros.ros.secure_start import explained_security

        with explained_security():
            operator = Operator(embodiment.name, namespace)
        try:
            yield operator
        finally:
            operator.close()


def _progress(instruction: str, feedback: ExecuteInstruction.Feedback) -> Table:
    table = Table.grid(padding=(0, 2))
    filled = round(20 * feedback.progress)
    stages = "  ".join(
        f"{stage} {seconds * 1e3:.0f} ms"
        for stage, seconds in zip(feedback.stages, feedback.stage_seconds, strict=True)
    )
    table.add_row("instruction", instruction)
    table.add_row(
        "progress",
        f"[green]{'━' * filled}[/][dim]{'━' * (20 - filled)}[/] {feedback.progress:.0%}   "
        f"{feedback.elapsed_s:.1f} s   {feedback.chunks} chunks",
    )
    table.add_row("stages", stages or "-")
    table.add_row("held by", feedback.hold_reason or "-")
    return table
