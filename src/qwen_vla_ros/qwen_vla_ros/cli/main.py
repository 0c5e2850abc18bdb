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
    device: Annotated[str, typer.Option(help="Where the model runs.")] = "cpu",
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
def serve(
    robot: Robot,
    policy: Annotated[str, typer.Option(help="qwen_vla, mock or replay.")] = "qwen_vla",
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint directory.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="LoRA adapter to merge.")] = None,
    device: Annotated[str, typer.Option(help="Where the model runs.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto: bf16 on a GPU.")] = "auto",
    continuation: Annotated[
        str, typer.Option(help="auto (as trained), prefix, guidance or none.")
    ] = "auto",
    steps: Annotated[int, typer.Option(help="Euler steps of a chunk.", min=1, max=100)] = 4,
    temperature: Annotated[
        float, typer.Option(help="Spread of the model's noise.", min=0.0, max=2.0)
    ] = 1.0,
    threads: Annotated[int, typer.Option(help="CPU threads of the model.", min=1, max=256)] = 1,
    seed: Annotated[int, typer.Option(help="Seed of every client's noise; -1 draws anew.")] = -1,
    host: Annotated[str, typer.Option(help="Address; all but loopback need a token.")] = (
        "127.0.0.1"
    ),
    listen: Annotated[
        str, typer.Option(help="Dialects and ports: openpi:8000,vla-eval:8001; 0 is any.")
    ] = "openpi:8000",
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that clients must send; 16 characters or more."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate, for wss.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of the certificate.")] = None,
    max_clients: Annotated[
        int, typer.Option(help="Most clients at a time; more are refused.", min=1, max=256)
    ] = 16,
    request_s: Annotated[
        float, typer.Option(help="Longest wait for an answer.", min=0.01, max=600.0)
    ] = 10.0,
    instruction: Annotated[
        str, typer.Option(help="What to do where an openpi client has no prompt.")
    ] = "",
    record: Annotated[Path | None, typer.Option(help="File to write all answers to.")] = None,
    recording: Annotated[Path | None, typer.Option(help="File to replay.")] = None,
    motion: Annotated[str, typer.Option(help="Of the mock: hold or sine.")] = "hold",
    latency_ms: Annotated[
        float, typer.Option(help="Median latency of the mock, in ms.", min=0)
    ] = 0.0,
    latency_p95_ms: Annotated[
        float,
        typer.Option(help="Latency of the mock that one answer in 20 exceeds, in ms.", min=0),
    ] = 0.0,
    fault: Annotated[
        str,
        typer.Option(
            help="Of the mock: nan, wrong_robot, slow, hang, drip, huge, garbage, close or "
            "half_open."
        ),
    ] = "",
    after: Annotated[int, typer.Option(help="Good answers before the first fault.", min=0)] = 0,
    every: Annotated[int, typer.Option(help="Then one answer of so many is bad.", min=1)] = 1,
) -> None:
    """Serve a policy to robots elsewhere, and to openpi's clients, until Ctrl-C."""
    from qwen_vla_ros.cli.serve import Wishes
    from qwen_vla_ros.cli.serve import serve as run

    wishes = Wishes(
        robot=robot,
        policy=policy,
        checkpoint=checkpoint,
        adapter=adapter,
        device=device,
        precision=precision,
        continuation=continuation,
        steps=steps,
        temperature=temperature,
        threads=threads,
        seed=seed,
        host=host,
        listen=listen,
        token_file=token_file,
        tls_cert=tls_cert,
        tls_key=tls_key,
        max_clients=max_clients,
        request_s=request_s,
        instruction=instruction,
        record=record,
        recording=recording,
        motion=motion,
        latency_ms=latency_ms,
        latency_p95_ms=latency_p95_ms,
        fault=fault,
        after=after,
        every=every,
    )
    raise typer.Exit(run(wishes))


@app.command()
def bench(
    robot: Robot,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint directory; without one, an untrained nano.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto: bf16 on a GPU.")] = "auto",
    steps: Annotated[int, typer.Option(help="Euler steps per chunk.", min=1, max=100)] = 4,
    runs: Annotated[int, typer.Option(help="Answers to measure.", min=1, max=100_000)] = 50,
    threads: Annotated[int, typer.Option(help="CPU threads of the model.", min=1, max=256)] = 1,
) -> None:
    """Measure how fast a model answers for a robot on this machine."""
    from qwen_vla_ros.cli.bench import bench as run

    raise typer.Exit(run(robot, checkpoint, device, precision, steps, runs, threads))


@app.command()
def up(
    robot: Robot,
    policy: Annotated[str, typer.Option(help="qwen_vla, expert or remote.")] = "qwen_vla",
    checkpoint: Annotated[str, typer.Option(help="Checkpoint directory of the model.")] = "",
    backend: Annotated[str, typer.Option(help="mujoco or hardware.")] = "mujoco",
    device: Annotated[str, typer.Option(help="Where the model runs.")] = "cpu",
    adapter: Annotated[str, typer.Option(help="LoRA adapter to merge, a directory.")] = "",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    continuation: Annotated[
        str,
        typer.Option(
            help="How chunks continue what is played: auto (as trained), prefix, guidance, none."
        ),
    ] = "auto",
    steps: Annotated[int, typer.Option(help="Steps of the flow.", min=1, max=100)] = 4,
    temperature: Annotated[
        float, typer.Option(help="Spread of the model's noise.", min=0.0, max=2.0)
    ] = 1.0,
    threads: Annotated[int, typer.Option(help="CPU threads of the model.", min=1, max=256)] = 1,
    use_sim_time: Annotated[bool, typer.Option(help="Take time from /clock.")] = False,
    namespace: Namespace = "",
    scene_seed: Annotated[int, typer.Option(help="Seed of the simulated scene.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the model's noise; -1 draws anew.")] = -1,
    server: Annotated[str, typer.Option(help="Policy server: ws://HOST:PORT.")] = "",
    server_protocol: Annotated[str, typer.Option(help="openpi or vla-eval.")] = "openpi",
    server_token_file: Annotated[str, typer.Option(help="Token of the server.")] = "",
    server_ca_file: Annotated[str, typer.Option(help="Certificates, for wss.")] = "",
    deadline_s: Annotated[float, typer.Option(help="Longest wait for the server.")] = 0.3,
) -> None:
    """Bring a robot up without ROS's launch: the same graph as bringup.launch.py."""
    from qwen_vla_ros.cli.up import up as run

    words = {
        "robot": robot,
        "policy": policy,
        "checkpoint": checkpoint,
        "backend": backend,
        "device": device,
        "adapter": adapter,
        "precision": precision,
        "continuation": continuation,
        "steps": str(steps),
        "temperature": str(temperature),
        "threads": str(threads),
        "use_sim_time": str(use_sim_time).lower(),
        "namespace": namespace,
        "scene_seed": str(scene_seed),
        "seed": str(seed),
        "server": server,
        "server_protocol": server_protocol,
        "server_token_file": server_token_file,
        "server_ca_file": server_ca_file,
        "deadline_s": str(deadline_s),
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
