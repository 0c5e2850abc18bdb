"""A policy, a gate and a simulated robot in one loop, without ROS: stepped as fast as it goes.

The timing is that of the real thing: sensors at their rates, answers that come late, commands at
the gate's rate. The gate is the true one; what is left out is the wire.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.backend import load_backend
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.execution.replanner import Replanner
from qwen_vla_ros.prompt.build import build_prompt, with_state
from qwen_vla_ros.safety.arms import Arms
from qwen_vla_ros.safety.base import Base
from qwen_vla_ros.safety.latch import WELL_NS, Cause, Level
from qwen_vla_ros.safety.robot_gate import RobotGate
from qwen_vla_ros.sim.pacing import Pace
from qwen_vla_ros.sim.robot import SimulatedArms, SimulatedBase, SimulatedRobot
from qwen_vla_ros.types import ActionChunk, Observation, Policy

LATENCY_S = (0.06, 0.10)
BEGIN_NS = 2 * NS_PER_S
SETTLE_S = 1.0
"""From the policy's last word to the judge's."""
SEEN_NS = NS_PER_S // 2 + WELL_NS
"""How long the gate looks at a robot at rest before it is armed."""
EPISODE = "rollout"
SOMEBODY = Cause("stop_request", "somebody asked for a stop")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one episode went.

    Attributes:
        seed: Of the scene.
        instruction: What was asked.
        success: The judge's last word.
        progress: The judge's, 0 to 1.
        duration_s: Simulated time until the robot had come to rest, or the limit.
        chunks: How many the policy made.
        commands: How many the gate sent.
        commands_limited: How many of these the gate had to change.
    """

    seed: int
    instruction: str
    success: bool
    progress: float
    duration_s: float
    chunks: int
    commands: int
    commands_limited: int


def run_episode(
    embodiment: Embodiment,
    robot: SimulatedRobot,
    policy: Policy,
    seed: int,
    time_limit_s: float,
    is_stopped: Callable[[float], bool] = lambda _: False,
    instruction: str = "",
    see: Callable[[Observation], None] = lambda _: None,
) -> Outcome:
    """Run one episode from a fresh scene.

    Args:
        embodiment: The robot's file.
        robot: Built from it.
        policy: Who decides.
        seed: Of the scene, and of the latencies.
        time_limit_s: Simulated time after which the episode ends.
        is_stopped: Whether somebody stops the robot at a time (s), who arms it again as soon as
            they do not; called once per command.
        instruction: What is asked; the world's own suggestion where it is empty.
        see: Called with every observation while the world is as it says.
    """
    robot.reset(seed)
    policy.reset()
    episode = _Episode(embodiment, robot, policy, seed, instruction, see)
    end_ns = BEGIN_NS + round(time_limit_s * NS_PER_S)
    while episode.now_ns < end_ns and not episode.is_over:
        episode.step(is_stopped)
    verdict = robot.world.judge(episode.prompt.instruction)
    return Outcome(
        seed=seed,
        instruction=episode.prompt.instruction,
        success=verdict.success,
        progress=verdict.progress,
        duration_s=(episode.now_ns - BEGIN_NS) / NS_PER_S,
        chunks=episode.chunks,
        commands=episode.gate.counters.ticks,
        commands_limited=episode.gate.counters.ticks_limited,
    )


class _Episode:
    """The state of one run."""

    def __init__(
        self,
        embodiment: Embodiment,
        robot: SimulatedRobot,
        policy: Policy,
        seed: int,
        instruction: str = "",
        see: Callable[[Observation], None] = lambda _: None,
    ) -> None:
        self._see = see
        self._embodiment = embodiment
        self._robot = robot
        self._policy = policy
        self._rng = np.random.default_rng(seed)
        self._period_ns = round(robot.world.period_s * NS_PER_S)
        self._camera_ns = round(NS_PER_S / embodiment.file.cameras[0].rate_hz)
        self._command_ns = round(NS_PER_S / embodiment.file.command.rate_hz)
        self._replanner = Replanner.from_embodiment(embodiment)
        self._pending: deque[tuple[int, ActionChunk, float]] = deque()
        self._rested_ns: int | None = None
        self._asked_ns = 0
        self._sources = [(source, Pace(source.rate_hz)) for source in embodiment.file.state]
        self._backends = {
            output.topic: load_backend(output.backend)
            for output in embodiment.file.command.outputs
        }
        self.gate = RobotGate(embodiment)
        self._arm()
        self.now_ns = BEGIN_NS
        self.chunks = 0
        self._observation = self._observe()
        self.prompt = build_prompt(
            embodiment,
            instruction or robot.world.suggest_instruction(),
            self._observation.state,
        )
        self._next_image_ns = self._next_command_ns = BEGIN_NS

    @property
    def is_over(self) -> bool:
        """Whether the policy rested a while ago."""
        return self._rested_ns is not None and self.now_ns - self._rested_ns > SETTLE_S * NS_PER_S

    def step(self, is_stopped: Callable[[float], bool]) -> None:
        """Advance by one period of the world."""
        now_ns = self.now_ns
        self._sense(now_ns)
        if now_ns >= self._next_image_ns:
            self._next_image_ns += self._camera_ns
            self._observation = self._observe()
        if not self._pending and self._rested_ns is None and self._replanner.is_due(now_ns):
            self._ask(self._observation)
        if self._pending and self._pending[0][0] <= now_ns:
            _, chunk, latency_s = self._pending.popleft()
            self._take(chunk, latency_s)
        if now_ns >= self._next_command_ns:
            self._next_command_ns += self._command_ns
            if is_stopped((now_ns - BEGIN_NS) / NS_PER_S):
                self.gate.stop(SOMEBODY)
            elif not self.gate.latch.is_armed:
                self.gate.arm(now_ns)
            self._command(now_ns)
            self._replanner.on_gate(
                is_playing=self.gate.latch.level < Level.HOLD,
                rejected=self.gate.admission.rejected,
            )
        self._robot.step(now_ns)
        self.now_ns += self._period_ns

    def _ask(self, observation: Observation) -> None:
        if observation.stamp_ns <= self._asked_ns:
            return  # the same pictures would only give the same answer
        self._asked_ns = observation.stamp_ns
        committed = self._replanner.committed(observation.stamp_ns)
        prompt = with_state(self._embodiment, self.prompt, observation.state)
        chunk = self._policy.infer(observation, prompt, committed)
        self.chunks += 1
        latency_s = self._rng.uniform(*LATENCY_S)
        self._pending.append((self.now_ns + round(latency_s * NS_PER_S), chunk, latency_s))

    def _take(self, chunk: ActionChunk, latency_s: float) -> None:
        self._replanner.on_chunk(chunk, self.now_ns, latency_s)
        ours = self._embodiment
        signed = replace(
            chunk,
            sequence=self.chunks,
            episode=EPISODE,
            embodiment=ours.name,
            embodiment_hash=ours.hash,
        )
        self.gate.on_chunk(signed, self.now_ns, self.now_ns)
        if self.gate.latch.is_armed and self.gate.mechanism.is_resting:
            self._rested_ns = self.now_ns

    def _arm(self) -> None:
        """Let the gate see for a while, before the episode, that the robot rests; then arm it."""
        for now_ns in range(BEGIN_NS - SEEN_NS, BEGIN_NS, self._command_ns):
            self._sense(now_ns)
            self._command(now_ns)
        if why_not := self.gate.arm(BEGIN_NS):
            raise ValueError(f"the gate of a robot at rest is not armed: {why_not}")

    def _sense(self, now_ns: int) -> None:
        """Tell the gate what the robot's driver would."""
        mechanism, robot = self.gate.mechanism, self._robot
        for source, pace in self._sources:
            if not pace.is_due(now_ns):
                continue
            if isinstance(mechanism, Arms) and isinstance(robot, SimulatedArms):
                positions = robot.measured(source.joints).tolist()
                velocities = robot.measured_velocity(source.joints).tolist()
                for monitor in mechanism.monitors:
                    if monitor.topic == source.topic:
                        monitor.observe(
                            source.joints, positions, velocities, now_ns, now_ns, now_ns
                        )
            elif isinstance(mechanism, Base) and isinstance(robot, SimulatedBase):
                odometry = robot.controller.odometry
                mechanism.observe(odometry.pose, np.array(odometry.twist), now_ns, now_ns, now_ns)

    def _command(self, now_ns: int) -> None:
        """Let the gate command the robot's controllers, by the messages that they would get."""
        for output, command in self.gate.tick(now_ns, now_ns):
            backend = self._backends[output.topic]
            message = backend.write(_plain_message, command, output)
            if why_not := self._robot.accept(output.topic, backend.read(message, output), now_ns):
                raise ValueError(why_not)

    def _observe(self) -> Observation:
        robot = self._robot
        if isinstance(robot, SimulatedArms):
            joints = robot.measured(self._embodiment.joints)
            state = self._embodiment.channels_from_joints(joints)
        else:
            state = robot.controller.odometry.pose
        observation = Observation(
            stamp_ns=self.now_ns, images={}, state=state, scene=robot.world.objects()
        )
        self._see(observation)
        return observation


def _plain_message(_: str, **fields: Any) -> Any:
    """Make what reads like a message where there is no ROS."""
    return SimpleNamespace(**fields)
