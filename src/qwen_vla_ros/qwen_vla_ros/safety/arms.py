"""All commanded joints of a robot: their chunk player and their gate."""

from __future__ import annotations

from dataclasses import replace

from qwen_vla_ros.embodiment.backend import Commands
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.profile import NORMAL, Profile
from qwen_vla_ros.execution.chunk_player import ChunkPlayer
from qwen_vla_ros.execution.seam import SeamLimits
from qwen_vla_ros.safety.arm_gate import ArmGate
from qwen_vla_ros.safety.interlock import Interlock
from qwen_vla_ros.safety.joint_monitor import JointMonitor
from qwen_vla_ros.safety.latch import Level
from qwen_vla_ros.safety.policy_monitor import OUT_OF_REACH
from qwen_vla_ros.types import ActionChunk


class Arms:
    """Plays chunks of joint positions through the joints' gate."""

    def __init__(self, embodiment: Embodiment, profile: Profile = NORMAL) -> None:
        """Make the gate of one robot's joints, no faster than a profile allows.

        Raises:
            EmbodimentError: No joint is commanded, one has no limits, or nothing reports it.
        """
        file = embodiment.file
        self._embodiment = embodiment
        self._outputs = file.command.outputs
        self._period_s = 1.0 / file.command.rate_hz
        self._gate = ArmGate.from_embodiment(embodiment, profile)
        envelope = self._gate.envelope
        # What the gate would stop for must come to it as it is, and not step by step.
        limits = SeamLimits(
            lower=envelope.lower,
            upper=envelope.upper,
            velocity=envelope.velocity,
            acceleration=envelope.acceleration,
            reach=OUT_OF_REACH * envelope.start_jump,
        )
        self._player = ChunkPlayer(file.safety.max_observation_age_s, limits)

    @property
    def monitors(self) -> tuple[JointMonitor, ...]:
        """What takes in the joint states, one per source."""
        return self._gate.monitors

    @property
    def interlock(self) -> Interlock:
        """Level, cause and counters."""
        return self._gate.interlock

    @property
    def is_at_rest(self) -> bool:
        """Whether no joint moves, neither as commanded nor as measured."""
        return self._gate.is_at_rest

    @property
    def is_resting(self) -> bool:
        """Whether the newest chunk asked for rest."""
        return self._player.is_resting

    def missing(self, steady_ns: int) -> str:
        """Say what is missing or moving."""
        for monitor in self.monitors:
            if monitor.position is None:
                return "; ".join(cause.detail for cause in monitor.stops(steady_ns))
        return "" if self._gate.is_still else "the arm moves; the gate activates only at rest"

    def accept(self, chunk: ActionChunk, steady_ns: int) -> str:
        """Play a chunk from now on."""
        joints = self._embodiment.joints_from_channels(chunk.actions)
        self._player.accept(replace(chunk, actions=joints))
        self._gate.on_chunk(joints, steady_ns)
        return ""

    def clear(self) -> None:
        """Drop the chunk being played."""
        self._player.clear()

    def arm(self, steady_ns: int) -> str:
        """Let commands pass, beginning where the joints are."""
        return self._gate.arm(steady_ns)

    def tick(self, now_ns: int, steady_ns: int) -> Commands:
        """Command how the joints' curve goes on, two periods from now."""
        wanted = self._player.at(self._gate.wanted_at(now_ns))
        # What is planned runs out before the chunk does: until then the joints only brake, and a
        # chunk that comes now goes on at once.
        is_silent = self._player.is_over(now_ns)
        command = self._gate.tick(now_ns, steady_ns, wanted, is_silent=is_silent)
        if self.interlock.latch.level >= Level.HOLD:
            self._player.interrupt()
        if command is None:
            return []
        envelope, period_s = self._gate.envelope, self._period_s
        return [
            (output, command.trajectory(output.joints, envelope, period_s))
            for output in self._outputs
        ]
