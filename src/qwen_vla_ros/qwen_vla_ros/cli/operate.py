"""`qwen-vla do`, `arm` and `stop`: the operator's commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from qwen_vla_ros.cli.session import gate_of, rclpy_session

if TYPE_CHECKING:
    from qwen_vla_msgs.action import ExecuteInstruction

    from qwen_vla_ros.ros.operator import Operator

console = Console()


def do(
    instruction: str, robot: str, namespace: str, time_limit_s: float, *, arm_first: bool
) -> int:
    """Carry out an instruction; returns 0 when it was done, 1 when not."""
    with _operator(robot, namespace) as operator, Live(console=console) as live:

        def show(feedback: ExecuteInstruction.Feedback) -> None:
            live.update(_progress(instruction, feedback))

        if arm_first:
            operator.arm()
        result = operator.execute(instruction, time_limit_s, show)
    words = {0: "succeeded", 1: "finished", 2: "aborted", 3: "canceled"}[result.outcome]
    console.print(
        f"[bold]{words}[/] after {result.duration_s:.1f} s, {result.chunks} chunks: {result.why}"
    )
    return 0 if result.outcome in (result.SUCCEEDED, result.FINISHED) else 1


def arm(robot: str, namespace: str) -> int:
    """Arm the robot's gate."""
    with _operator(robot, namespace) as operator:
        operator.arm()
    console.print("armed")
    return 0


def stop(robot: str, namespace: str) -> int:
    """Stop the robot."""
    with _operator(robot, namespace) as operator:
        operator.stop()
    console.print("stopped; arm it to let it move again")
    return 0


@contextmanager
def _operator(robot: str, namespace: str) -> Iterator[Operator]:
    gate, one_host = gate_of(robot)
    with rclpy_session(one_host=one_host):
        from qwen_vla_ros.ros.operator import Operator

        operator = Operator(gate, namespace)
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
