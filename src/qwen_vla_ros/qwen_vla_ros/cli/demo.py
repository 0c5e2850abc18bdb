"""`qwen-vla demo`: the whole stack on two simulated robots, with videos and figures."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from qwen_vla_ros.bringup import Bringup
from qwen_vla_ros.cli.live_robot import live_robot
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.evaluation.command_audit import CommandAudit

if TYPE_CHECKING:
    from qwen_vla_msgs.action import ExecuteInstruction

OUTCOMES = {0: "succeeded", 1: "finished", 2: "aborted", 3: "canceled"}
console = Console()


@dataclass(frozen=True, kw_only=True)
class Act:
    """One part of the show."""

    robot: str
    policy: str
    title: str
    time_limit_s: float


ACTS = (
    Act(robot="aloha_sim", policy="expert", title="ALOHA, scripted expert", time_limit_s=40),
    Act(robot="diffbot_sim", policy="expert", title="DiffBot, scripted expert", time_limit_s=40),
    Act(
        robot="aloha_sim",
        policy="qwen_vla",
        title="ALOHA, untrained nano model: random motion inside the envelope",
        time_limit_s=10,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What was seen in one act; the fields are those of summary.json."""

    title: str
    robot: str
    policy: str
    seed: int
    instruction: str
    outcome: str
    why: str
    duration_s: float
    chunks: int
    commands: int
    command_rate_hz: float
    longest_gap_ms: float
    ticks_limited: int
    ticks_late: int
    ticks: int
    violations: int
    stage_ms: dict[str, float]
    video: str


def demo(out: Path, seed: int) -> int:
    """Run every act; returns 0 when the experts succeeded and no limit was violated."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = _nano_checkpoint(out / "nano")
    scenes = []
    for number, act in enumerate(ACTS, start=1):
        console.rule(f"[bold]{number}/{len(ACTS)} {act.title}")
        scene = _play(act, out / f"{number}_{act.robot}_{act.policy}.mp4", seed, checkpoint)
        console.print(f"[bold]{scene.outcome}[/] in {scene.duration_s:.1f} s: {scene.why}")
        scenes.append(scene)
    summary = out / "summary.json"
    summary.write_text(json.dumps([asdict(scene) for scene in scenes], indent=2) + "\n")
    console.print(_table(scenes))
    console.print(f"videos and summary.json are in {out}/")
    good = all(
        scene.violations == 0 and (scene.policy != "expert" or scene.outcome == "succeeded")
        for scene in scenes
    )
    return 0 if good else 1


def _play(act: Act, video: Path, seed: int, checkpoint: Path) -> Scene:
    robot = load_embodiment(act.robot)
    bringup = Bringup(
        robot=robot, policy=act.policy, checkpoint=str(checkpoint), scene_seed=seed, seed=seed
    )
    audit = CommandAudit(robot)
    stages: dict[str, list[float]] = {}
    with live_robot(bringup, video.with_suffix(".log")) as (operator, _), _bar(act) as bar:
        from qwen_vla_ros.ros.film import Film
        from qwen_vla_ros.ros.wiretap import tap_commands

        cameras = tuple(camera.topic for camera in robot.file.cameras)
        with Film(operator.node, video, ("overview/image_raw", *cameras)) as film:
            operator.wait_for_policy(60)
            instruction = operator.reset(seed)
            operator.arm(30)
            tap_commands(operator.node, audit)
            task = bar.add_task(instruction, total=1.0)

            def show(feedback: ExecuteInstruction.Feedback) -> None:
                film.caption(f'"{instruction}"   {feedback.elapsed_s:4.1f} s')
                bar.update(task, completed=feedback.progress)
                for stage, seconds in zip(feedback.stages, feedback.stage_seconds, strict=True):
                    stages.setdefault(stage, []).append(seconds)

            result = operator.execute(instruction, act.time_limit_s, show)
            film.caption(f'"{instruction}"   {OUTCOMES[result.outcome]}')
            operator.spin(1.5)
        safety = operator.safety
    return Scene(
        title=act.title,
        robot=act.robot,
        policy=act.policy,
        seed=seed,
        instruction=instruction,
        outcome=OUTCOMES[result.outcome],
        why=result.why,
        duration_s=round(result.duration_s, 2),
        chunks=result.chunks,
        commands=audit.commands,
        command_rate_hz=round(audit.rate_hz() / len(robot.file.command.outputs), 2),
        longest_gap_ms=round(audit.longest_gap_s() * 1e3, 1),
        ticks_limited=safety.ticks_limited,
        ticks_late=safety.ticks_late,
        ticks=safety.ticks,
        violations=audit.total_violations + safety.violations,
        stage_ms={
            stage: round(1e3 * sorted(values)[len(values) // 2], 1)
            for stage, values in stages.items()
        },
        video=video.name,
    )


def _nano_checkpoint(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        from qwen_vla_ros.cli.init import init

        begin = time.monotonic()
        init("nano", folder, ["aloha_sim", "diffbot_sim"], 0)
        console.print(f"made an untrained nano model in {time.monotonic() - begin:.1f} s")
    return folder


def _bar(act: Act) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"of {act.time_limit_s:g} s or the judge's yes"),
        TimeElapsedColumn(),
        console=console,
    )


def _table(scenes: list[Scene]) -> Table:
    table = Table(title="what was seen")
    columns = ("act", "outcome", "time", "commands", "rate", "limited", "violations", "stages p50")
    for column in columns:
        table.add_column(column, overflow="fold")
    for scene in scenes:
        table.add_row(
            f"{scene.robot} / {scene.policy}",
            scene.outcome,
            f"{scene.duration_s:.1f} s",
            str(scene.commands),
            f"{scene.command_rate_hz:.1f} Hz",
            f"{scene.ticks_limited} of {scene.ticks}",
            str(scene.violations),
            "  ".join(f"{stage} {ms:.0f} ms" for stage, ms in scene.stage_ms.items()),
        )
    return table
