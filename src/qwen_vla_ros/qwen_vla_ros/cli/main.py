"""The command `qwen-vla`. Every subcommand imports what it needs when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qwen_vla_ros.errors import QwenVlaError

app = typer.Typer(
    name="qwen-vla",
    help="Qwen-VLA for ROS 2: one model, any robot, through a safety gate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Robot = Annotated[str, typer.Option(help="Name or path of the embodiment file.")]
Instruction = Annotated[str, typer.Argument(help="What the robot is to do, in words.")]
Namespace = Annotated[str, typer.Option(help="Namespace of the robot.")]


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="Name or path of an embodiment file.")],
) -> None:
    """Check an embodiment file against its URDF and show what it says."""
    from qwen_vla_ros.cli.check import check as run

    raise typer.Exit(run(file))


@app.command()
def prompt(
    robot: Robot, instruction: Annotated[str, typer.Option(help="What the robot is to do.")]
) -> None:
    """Print the exact text that the model would read."""
    from qwen_vla_ros.cli.prompt import prompt as run

    raise typer.Exit(run(robot, instruction))


@app.command()
def init(
    out: Annotated[Path, typer.Option(help="Directory to make; it must not hold anything.")],
    preset: Annotated[str, typer.Option(help="Size of the model: nano, 0.8b, 2b or 4b.")] = "nano",
    robot: Annotated[
        list[str] | None,
        typer.Option(help="Robots whose normalisation goes in; repeat for several."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
) -> None:
    """Make a checkpoint directory with fresh, untrained weights."""
    from qwen_vla_ros.cli.init import init as run

    raise typer.Exit(run(preset, out, robot or ["aloha_sim", "diffbot_sim"], seed))


@app.command("model-info")
def model_info(
    preset: Annotated[str, typer.Option(help="nano, 0.8b, 2b or 4b.")] = "4b",
) -> None:
    """Print the parameter table of a model size."""
    from qwen_vla_ros.cli.init import model_info as run

    raise typer.Exit(run(preset))


@app.command()
def up(
    robot: Robot,
    policy: Annotated[str, typer.Option(help="qwen_vla or expert.")] = "qwen_vla",
    checkpoint: Annotated[str, typer.Option(help="Checkpoint directory of the model.")] = "",
    backend: Annotated[str, typer.Option(help="mujoco or hardware.")] = "mujoco",
    device: Annotated[str, typer.Option(help="Where the model runs.")] = "cpu",
    use_sim_time: Annotated[bool, typer.Option(help="Take time from /clock.")] = False,
    namespace: Namespace = "",
    scene_seed: Annotated[int, typer.Option(help="Seed of the simulated scene.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the model's noise; -1 draws anew.")] = -1,
) -> None:
    """Bring a robot up without ROS's launch: the same graph as bringup.launch.py."""
    from qwen_vla_ros.cli.up import up as run

    words = {
        "robot": robot,
        "policy": policy,
        "checkpoint": checkpoint,
        "backend": backend,
        "device": device,
        "use_sim_time": str(use_sim_time).lower(),
        "namespace": namespace,
        "scene_seed": str(scene_seed),
        "seed": str(seed),
    }
    raise typer.Exit(run(words))


@app.command()
def do(
    instruction: Instruction,
    robot: Robot,
    arm: Annotated[bool, typer.Option("--arm", help="Arm the gate first.")] = False,
    time_limit: Annotated[float, typer.Option(help="Seconds it may take.")] = 30.0,
    namespace: Namespace = "",
) -> None:
    """Have an instruction carried out and show how it goes; Ctrl-C cancels it.

    Exit status: 0 done, 3 ended without anybody judging it, 1 aborted or canceled, 2 refused.
    """
    from qwen_vla_ros.cli.operate import do as run

    raise typer.Exit(run(instruction, robot, namespace, time_limit, arm_first=arm))


@app.command()
def arm(robot: Robot, namespace: Namespace = "") -> None:
    """Let the robot move again after a start or a stop."""
    from qwen_vla_ros.cli.operate import arm as run

    raise typer.Exit(run(robot, namespace))


@app.command()
def stop(robot: Robot, namespace: Namespace = "") -> None:
    """Bring the robot to rest; it stays there until it is armed. Not an emergency stop."""
    from qwen_vla_ros.cli.operate import stop as run

    raise typer.Exit(run(robot, namespace))


@app.command()
def status(robot: Robot, namespace: Namespace = "") -> None:
    """Show whether the robot may move, and what holds or stopped it."""
    from qwen_vla_ros.cli.operate import status as run

    raise typer.Exit(run(robot, namespace))


@app.command()
def reset(
    robot: Robot,
    seed: Annotated[int, typer.Option(help="Seed of the scene.", min=0)] = 0,
    namespace: Namespace = "",
) -> None:
    """Stop a simulated robot and put its scene back to the start."""
    from qwen_vla_ros.cli.operate import reset as run

    raise typer.Exit(run(robot, namespace, seed))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where videos and summary.json go.")] = Path(
        "out/demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the first scene.")] = 0,
) -> None:
    """Show the whole stack on two simulated robots."""
    from qwen_vla_ros.cli.demo import demo as run

    raise typer.Exit(run(out, seed))


def main() -> int:
    """Run the command line; a user's mistake is one sentence and exit status 2."""
    try:
        app()
    except QwenVlaError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
