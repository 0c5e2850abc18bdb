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
from qwen_vla_ros.cli.operate import OUTCOMES
from qwen_vla_ros.cli.policy_server import policy_server
from qwen_vla_ros.evaluation.command_audit import CommandAudit

if TYPE_CHECKING:
    from qwen_vla_msgs.action import ExecuteInstruction

console = Console()


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One robot, moved by one policy for a while."""

    robot: str
    policy: str
    title: str
    time_limit_s: float


SCENARIOS = (
    Scenario(robot="aloha_sim", policy="expert", title="ALOHA, scripted expert", time_limit_s=40),
    Scenario(
        robot="diffbot_sim", policy="expert", title="DiffBot, scripted expert", time_limit_s=40
    ),
    Scenario(
        robot="diffbot_sim",
        policy="qwen_vla",
        title="DiffBot, untrained nano model: random motion, kept inside the envelope",
        time_limit_s=10,
    ),
    Scenario(
        robot="aloha_sim",
        policy="qwen_vla",
        title="ALOHA, the same weights: what they ask does not fit, and the gate holds",
        time_limit_s=10,
    ),
    Scenario(
        robot="diffbot_sim",
        policy="remote",
        title="DiffBot again, the same weights on a server in a process of its own",
        time_limit_s=10,
    ),
)


@dataclass(frozen=True, kw_only=True)
class ScenarioResult:
    """What was seen in one scenario; the fields are those of summary.json."""

    title: str
    robot: str
    policy: str
    seed: int
    instruction: str
    outcome: str
    why: str
    duration_s: float
    chunks: int
    commands_checked: int
    ticks: int
    tick_rate_hz: float
    ticks_limited: int
    ticks_late: int
    violations: int
    stage_ms: dict[str, float]
    video: str


def demo(out: Path, seed: int) -> int:
    """Run every scenario; returns 0 when the experts succeeded and no limit was violated."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = _nano_checkpoint(out / "nano")
    results = []
    for number, scenario in enumerate(SCENARIOS, start=1):
        console.rule(f"[bold]{number}/{len(SCENARIOS)} {scenario.title}")
        result = _play(
            scenario, out / f"{number}_{scenario.robot}_{scenario.policy}.mp4", seed, checkpoint
        )
        console.print(f"[bold]{result.outcome}[/] in {result.duration_s:.1f} s: {result.why}")
        stages = (f"{stage} {ms:g} ms" for stage, ms in result.stage_ms.items())
        console.print(f"{result.chunks} chunks; p50 of each stage: {', '.join(stages)}")
        results.append(result)
    summary = out / "summary.json"
    summary.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    console.print(_table(results))
    console.print(f"videos and summary.json are in {out}/")
    good = all(
        result.violations == 0 and (result.policy != "expert" or result.outcome == "succeeded")
        for result in results
    )
    return 0 if good else 1


def _play(scenario: Scenario, video: Path, seed: int, checkpoint: Path) -> ScenarioResult:
    if scenario.policy == "expert":
        return _film(scenario, video, seed)
    if scenario.policy == "qwen_vla":
        return _film(scenario, video, seed, checkpoint=str(checkpoint))
    with policy_server(
        scenario.robot, checkpoint, seed, video.with_suffix(".server.log")
    ) as server:
        return _film(scenario, video, seed, server=server)


def _film(
    scenario: Scenario, video: Path, seed: int, *, checkpoint: str = "", server: str = ""
) -> ScenarioResult:
    bringup = Bringup(
        robot=scenario.robot,
        policy=scenario.policy,
        checkpoint=checkpoint,
        server=server,
        scene_seed=seed,
        seed=seed,
    )
    robot = bringup.embodiment
    audit = CommandAudit(robot)
    stages: dict[str, list[float]] = {}
    with live_robot(bringup, video.with_suffix(".log")) as (operator, _), _bar(scenario) as bar:
        from qwen_vla_ros.ros.commands import listen
        from qwen_vla_ros.ros.film import Film
        from qwen_vla_ros.ros.qos import EVERYTHING

        cameras = tuple(camera.topic for camera in robot.file.cameras)
        with Film(operator.node, video, ("overview/image_raw", *cameras)) as film:
            operator.wait_for_policy(60)
            instruction = operator.reset(seed)
            for output in robot.file.command.outputs:
                listen(operator.node, output, audit.on_command, EVERYTHING)
            operator.arm(30)
            before, begin = operator.safety, time.monotonic()
            task = bar.add_task(instruction, total=1.0)

            def show(feedback: ExecuteInstruction.Feedback) -> None:
                film.caption(f'"{instruction}"   {feedback.elapsed_s:4.1f} s')
                bar.update(task, completed=feedback.progress)
                for stage, seconds in zip(feedback.stages, feedback.stage_seconds, strict=True):
                    stages.setdefault(stage, []).append(seconds)

            result = operator.execute(instruction, scenario.time_limit_s, show)
            operator.spin(0.6)  # the gate tells its counters twice a second
            after, seconds = operator.safety, time.monotonic() - begin
            film.caption(f'"{instruction}"   {OUTCOMES[result.outcome]}')
            operator.spin(1.0)
    ticks = after.ticks - before.ticks
    return ScenarioResult(
        title=scenario.title,
        robot=scenario.robot,
        policy=scenario.policy,
        seed=seed,
        instruction=instruction,
        outcome=OUTCOMES[result.outcome],
        why=result.why,
        duration_s=round(result.duration_s, 2),
        chunks=result.chunks,
        commands_checked=audit.commands,
        ticks=ticks,
        tick_rate_hz=round(ticks / seconds, 2),
        ticks_limited=after.ticks_limited - before.ticks_limited,
        ticks_late=after.ticks_late - before.ticks_late,
        violations=audit.total_violations + after.violations,
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


def _bar(scenario: Scenario) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn(f"at most {scenario.time_limit_s:g} s"),
        TimeElapsedColumn(),
        console=console,
    )


def _table(results: list[ScenarioResult]) -> Table:
    table = Table(title="what was seen")
    table.add_column("scenario", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    for column in ("time", "limited", "late", "violations"):
        table.add_column(column, justify="right")
    for result in results:
        table.add_row(
            f"{result.robot} {result.policy}",
            result.outcome,
            f"{result.duration_s:.1f} s",
            f"{result.ticks_limited}/{result.ticks}",
            str(result.ticks_late),
            str(result.violations),
        )
    return table
