"""The command `qwen-vla`. Every subcommand imports what it needs when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qwen_vla_ros.bringup import Bringup
from qwen_vla_ros.cli.flags import with_flags
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.options import BenchOptions, ServingOptions

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
    profile: Annotated[
        str, typer.Option(help="Under which the robot is to run: normal, commissioning.")
    ] = "normal",
) -> None:
    """Check an embodiment file against its URDF and show what it says."""
    from qwen_vla_ros.cli.check import check as run

    raise typer.Exit(run(file, profile))


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
    seed: Annotated[
        int, typer.Option(help="Seed of the random weights.", min=0, max=2**31 - 1)
    ] = 0,
    backbone: Annotated[
        str, typer.Option(help="Qwen3.5 to begin with: a folder, or an id on the model hub.")
    ] = "",
    revision: Annotated[str, typer.Option(help="Commit on the model hub, 40 digits.")] = "",
    random: Annotated[
        bool, typer.Option("--random", help="Random weights for a large model, to measure with.")
    ] = False,
) -> None:
    """Make a checkpoint directory with an untrained model."""
    from qwen_vla_ros.cli.init import init as run

    robots = robot or ["aloha_sim", "diffbot_sim"]
    raise typer.Exit(run(preset, out, robots, seed, backbone, revision, random=random))


@app.command("model-info")
def model_info(
    preset: Annotated[str, typer.Option(help="nano, 0.8b, 2b or 4b.")] = "",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint directory; shows what it was made of too.")
    ] = None,
) -> None:
    """Print the parameter table of a model, and the memory that it needs."""
    from qwen_vla_ros.cli.model_info import model_info as run

    raise typer.Exit(run(preset, checkpoint))


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What you want to know, in words.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint directory of the model.")],
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture to ask about; repeat for several.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where the model runs; auto is a GPU where torch sees one.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto: bf16 on a GPU.")] = "auto",
    max_new_tokens: Annotated[
        int, typer.Option(help="Where an answer that does not end is cut.", min=1, max=4096)
    ] = 64,
    adapter: Annotated[Path | None, typer.Option(help="LoRA adapter to merge.")] = None,
) -> None:
    """Ask a model what it sees in pictures; its language side answers."""
    from qwen_vla_ros.cli.ask import ask as run

    raise typer.Exit(
        run(checkpoint, question, image or [], device, precision, max_new_tokens, adapter)
    )


@app.command()
@with_flags(ServingOptions)
def serve(options: ServingOptions) -> int:
    """Serve a policy to robots elsewhere, and to openpi's clients, until Ctrl-C."""
    from qwen_vla_ros.cli.serve import serve as run

    return run(options)


@app.command()
@with_flags(BenchOptions)
def bench(options: BenchOptions) -> int:
    """Measure how fast a policy answers for a robot on this machine."""
    from qwen_vla_ros.cli.bench import bench as run

    return run(options)


@app.command()
@with_flags(Bringup)
def up(options: Bringup) -> int:
    """Bring a robot up without ROS's launch: the same graph as bringup.launch.py."""
    from qwen_vla_ros.cli.up import up as run

    return run(options)


@app.command()
def security(
    robot: Robot,
    backend: Annotated[str, typer.Option(help="mujoco, or hardware.")] = "mujoco",
    expert: Annotated[
        bool, typer.Option("--expert", help="The policy is the expert, who sees all objects.")
    ] = False,
    use_sim_time: Annotated[
        bool, typer.Option("--use-sim-time", help="Time is taken from /clock.")
    ] = False,
    namespace: Namespace = "",
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("security/policy.xml"),
) -> None:
    """Write who of a robot's graph may say what, for SROS2 to make keys of."""
    from qwen_vla_ros.cli.security import security as run

    bringup = Bringup(
        robot=robot,
        backend=backend,
        policy="expert" if expert else "mock",
        use_sim_time=use_sim_time,
        namespace=namespace,
    )
    raise typer.Exit(run(bringup, out))


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
def collect(
    robot: Robot,
    out: Annotated[Path, typer.Option(help="Folder for the shards; what is there is kept.")],
    episodes: Annotated[int, typer.Option(help="How many to run.", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the first scene.", min=0)] = 100_000,
    noise: Annotated[
        list[float] | None,
        typer.Option(
            help="Action noise, as a share of how far a channel may move in one row; repeat for "
            "several, which episodes take in turn. [default: 0, 0.1, 0.25]",
            min=0.0,
            max=1.0,
        ),
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Simulated seconds an episode may take.")] = 30,
    jobs: Annotated[int, typer.Option(help="Processes; 0 is one per core.", min=0)] = 0,
) -> None:
    """Collect demonstrations of a simulated robot's scripted expert, to learn from."""
    from qwen_vla_ros.cli.collect import collect as run

    noises = [0.0, 0.1, 0.25] if noise is None else noise
    raise typer.Exit(run(robot, episodes, out, seed, noises, time_limit, jobs))


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder of the run; one that is there goes on.")],
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe (YAML); else --robot and --data.")
    ] = None,
    robot: Annotated[str, typer.Option(help="Name or path of the embodiment file.")] = "",
    data: Annotated[Path | None, typer.Option(help="Folder of demonstrations.")] = None,
    device: Annotated[
        str, typer.Option(help="Where it is trained; auto is a GPU where torch sees one.")
    ] = "auto",
    steps: Annotated[int, typer.Option(help="Instead of the recipe's; 0 keeps them.", min=0)] = 0,
    workers: Annotated[
        int, typer.Option(help="Processes that draw pictures; 0: one per core but one.", min=0)
    ] = 0,
) -> None:
    """Train a model on demonstrations; the same command goes on where it was ended."""
    from qwen_vla_ros.cli.train import train as run

    raise typer.Exit(run(recipe, robot, data, out, device, steps, workers))


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
