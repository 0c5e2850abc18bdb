"""The gate process of a robot's joints: the only one that speaks to their controllers."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from rclpy.logging import get_logger
from sensor_msgs.msg import JointState

from qwen_vla_ros.clock import NS_PER_S, ns_from_stamp
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.execution.chunk_player import ChunkPlayer
from qwen_vla_ros.execution.seam import SeamLimits
from qwen_vla_ros.ros.commands import Output
from qwen_vla_ros.ros.gate_node import GateNode
from qwen_vla_ros.ros.priority import raise_priority
from qwen_vla_ros.ros.process import main_of
from qwen_vla_ros.ros.qos import SENSOR
from qwen_vla_ros.safety.arm_gate import ArmGate
from qwen_vla_ros.safety.interlock import Interlock
from qwen_vla_ros.safety.joint_monitor import JointMonitor
from qwen_vla_ros.safety.latch import Level
from qwen_vla_ros.safety.policy_monitor import OUT_OF_REACH
from qwen_vla_ros.types import ActionChunk


class Arms:
    """All commanded joints of a robot: their chunk player, their gate, and their controllers."""

    def __init__(self, node: GateNode, embodiment: Embodiment) -> None:
        file = embodiment.file
        self._period_s = 1.0 / file.command.rate_hz
        self._node = node
        self._embodiment = embodiment
        self._period_ns = round(self._period_s * NS_PER_S)
        self._gate = ArmGate.from_embodiment(embodiment)
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
        self.outputs = [Output(node, output) for output in file.command.outputs]
        for monitor in self._gate.monitors:
            callback = partial(self._on_joint_state, monitor)
            node.create_subscription(JointState, monitor.topic, callback, SENSOR)

    @property
    def interlock(self) -> Interlock:
        """Level, cause and counters."""
        return self._gate.interlock

    @property
    def is_at_rest(self) -> bool:
        """Whether no joint moves, neither as commanded nor as measured."""
        return self._gate.is_at_rest

    def missing(self) -> str:
        """Say what is missing or moving."""
        for monitor in self._gate.monitors:
            if monitor.position is None:
                causes = monitor.stops(time.monotonic_ns())
                return "; ".join(cause.detail for cause in causes)
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

    def tick(self, now_ns: int, steady_ns: int) -> None:
        """Command where the joints are to be one period from now."""
        wanted = self._player.at(now_ns + self._period_ns)
        is_silent = wanted is None and not self._player.is_resting
        command = self._gate.tick(now_ns, steady_ns, wanted, is_silent=is_silent)
        if self.interlock.latch.level >= Level.HOLD:
            self._player.interrupt()
        if command is not None:
            envelope, period_s = self._gate.envelope, self._period_s
            for output in self.outputs:
                output.publish(command.trajectory(output.spec.joints, envelope, period_s))

    def _on_joint_state(self, monitor: JointMonitor, message: JointState) -> None:
        monitor.observe(
            message.name,
            message.position,
            message.velocity,
            ns_from_stamp(message.header.stamp),
            self._node.now_ns(),
            time.monotonic_ns(),
        )


class ArmGateNode(GateNode):
    """Plays chunks of joint positions through the gate."""

    def __init__(self) -> None:
        super().__init__("arm_gate", Arms)


def main() -> int:
    """Run the arm gate."""
    get_logger("arm_gate").info(raise_priority())
    return main_of(ArmGateNode)


if __name__ == "__main__":
    raise SystemExit(main())
