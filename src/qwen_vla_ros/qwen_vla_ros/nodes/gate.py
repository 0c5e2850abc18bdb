"""The gate process: the only one that speaks to a robot's controllers.

Messages come in and go out here; what they mean is decided by `safety.robot_gate`.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from nav_msgs.msg import Odometry
from qwen_vla_msgs.msg import ActionChunk as ActionChunkMessage
from rclpy.logging import get_logger
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from qwen_vla_ros.clock import ns_from_stamp
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.embodiment.profile import find_profile
from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.options import GateOptions
from qwen_vla_ros.ros.commands import gate_outputs
from qwen_vla_ros.ros.controller_clock import listen_to_clock
from qwen_vla_ros.ros.controller_switch import ControllerSwitch
from qwen_vla_ros.ros.conversions import chunk_from_message, planar_pose
from qwen_vla_ros.ros.graph import Publishers
from qwen_vla_ros.ros.lifecycle import ManagedNode
from qwen_vla_ros.ros.newest_chunks import newest_chunks
from qwen_vla_ros.ros.parameters import declare
from qwen_vla_ros.ros.priority import raise_priority, settle_memory
from qwen_vla_ros.ros.process import REST_TIMEOUT_S, main_of
from qwen_vla_ros.ros.qos import CHUNKS, SENSOR
from qwen_vla_ros.ros.safety_report import SafetyReport
from qwen_vla_ros.ros.state_source import StateSource
from qwen_vla_ros.ros.stop_inputs import StopInputs
from qwen_vla_ros.safety.arms import Arms
from qwen_vla_ros.safety.base import Base
from qwen_vla_ros.safety.joint_monitor import JointMonitor
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.robot_gate import RobotGate

CHUNK_TOPIC = "~/input/action_chunk"
LOOK = 0.125
"""In periods: how often the gate is asked whether a new slot of its grid has begun. The grid is of
ROS time and the timer of the steady clock, so that neither a slow nor a paused clock stops it."""
REPEAT_S = 0.2
"""The state is told this often: who waits for a gate notices within a second that it is gone."""


class GateNode(ManagedNode):
    """Hands messages to a robot's gate, ticks it, and says what it thinks."""

    def __init__(self) -> None:
        super().__init__("gate")
        self._settings = declare(self, GateOptions)
        self._made: RobotGate | None = None
        self._last_reject = ""
        self._left_s = 0.0

    @property
    def _gate(self) -> RobotGate:
        if self._made is None:
            raise ValueError("the gate is not configured")
        return self._made

    # Lifecycle -------------------------------------------------------------------------------

    def on_setup(self) -> None:
        """Read the limits and listen; nothing is sent before somebody arms."""
        self._embodiment = load_embodiment(self._settings.embodiment)
        self._made = RobotGate(self._embodiment, find_profile(self._settings.profile))
        self._outputs = gate_outputs(self, self._embodiment, self._made.stop)
        self._switch = ControllerSwitch(self, self._embodiment)
        self._listen_to_sensors(self._made.mechanism)
        lost = self._settings.restarted_after
        self._report = SafetyReport(self, self._embodiment.name, self._made, lost)
        self._chunks = self.create_attributed_subscription(ActionChunkMessage, CHUNK_TOPIC, CHUNKS)
        self._stops = StopInputs(self, self._embodiment, self._made)
        self._policies = Publishers(self, CHUNK_TOPIC)
        self._sources = [StateSource(self, each) for each in self._embodiment.file.state]
        self._hear_and_look = self.guarded(self._take_in)
        self.create_service(Trigger, "~/arm", self._on_arm)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_steady_timer(LOOK / self._embodiment.file.command.rate_hz, self._tick)
        self.create_steady_timer(REPEAT_S, self._repeat)
        settle_memory()

    def on_start(self) -> None:
        """Refuse unless the robot's driver is there, rests, and nobody else commands it."""
        self._stops.require_ready()
        for source in self._sources:
            source.require_ready()
        for output in self._outputs.values():
            output.require_ready()
        self._switch.require_ready()
        # What is stamped by another clock is not taken in, and would be called missing.
        why_not = self._gate.clock.why_not or self._gate.mechanism.missing(time.monotonic_ns())
        if why_not:
            raise NotReadyError(why_not)

    def on_stop(self) -> None:
        """Brake; the ticks go on until the robot rests."""
        self._left_s = time.monotonic()
        self._gate.stop(Cause("deactivated", "the gate was deactivated"))
        self._gate.mechanism.clear()

    def on_teardown(self) -> None:
        """Undo `on_setup`, unless the robot has not come to rest yet (F9).

        Raises:
            NotReadyError: It needs a moment.
        """
        if not self.at_rest() and time.monotonic() - self._left_s < REST_TIMEOUT_S:
            raise NotReadyError("the robot has not come to rest yet.")
        self._made = None

    def on_broken(self, what: str) -> None:
        """Stop: nobody knows what a callback that failed has left undone."""
        if self._made is not None:
            self._made.stop(Cause("internal", f"a callback failed: {what}"))
            self._tell_changes()

    def at_rest(self) -> bool:
        """Whether the robot rests, as commanded and as measured."""
        return self._made is None or self._made.mechanism.is_at_rest

    # Inputs ----------------------------------------------------------------------------------

    def _listen_to_sensors(self, mechanism: Arms | Base) -> None:
        self._max_age_s = {each.topic: each.max_age_s for each in self._embodiment.file.state}
        for output in self._embodiment.file.command.outputs:
            listen_to_clock(self, output, self._on_stamp)
        if isinstance(mechanism, Base):
            self.create_subscription(
                Odometry, mechanism.topic, partial(self._on_odometry, mechanism), SENSOR
            )
            return
        for monitor in mechanism.monitors:
            callback = partial(self._on_joint_state, monitor)
            self.create_subscription(JointState, monitor.topic, callback, SENSOR)

    def _on_stamp(self, topic: str, stamp_ns: int) -> None:
        self._gate.clock.hear(topic, stamp_ns, self.now_ns(), self._max_age_s.get(topic))

    def _on_joint_state(self, monitor: JointMonitor, message: JointState) -> None:
        stamp_ns = ns_from_stamp(message.header.stamp)
        self._on_stamp(monitor.topic, stamp_ns)
        monitor.observe(
            message.name,
            message.position,
            message.velocity,
            stamp_ns,
            self.now_ns(),
            time.monotonic_ns(),
        )

    def _on_odometry(self, base: Base, message: Odometry) -> None:
        twist = np.array([message.twist.twist.linear.x, message.twist.twist.angular.z])
        stamp_ns = ns_from_stamp(message.header.stamp)
        self._on_stamp(base.topic, stamp_ns)
        base.observe(planar_pose(message), twist, stamp_ns, self.now_ns(), time.monotonic_ns())

    def _take_in(self) -> None:
        """Hear what was said since the last tick, and look who is there."""
        self._gate.on_chunk_publishers(self._policies.look())
        self._stops.take()
        self._gate.on_outside(self._find_outside() if self.is_active else [])
        for chunk in newest_chunks(self._chunks.take()):
            self._on_chunk(chunk.message, chunk.source)

    def _find_outside(self) -> list[Cause]:
        causes = [cause for output in self._outputs.values() for cause in output.faults()]
        return causes + [cause for source in self._sources for cause in source.faults()]

    def _on_chunk(self, message: ActionChunkMessage, source: bytes) -> None:
        name = self._policies.name(source)
        self._gate.on_chunk_publishers(self._policies.look())  # after a look for a new name
        verdict = self._gate.on_chunk(
            chunk_from_message(message),
            self.now_ns(),
            time.monotonic_ns(),
            source=source,
            name=name,
        )
        if verdict.cause and verdict.cause != self._last_reject:
            # Once, until something else happens.
            self.get_logger().warning(f"chunk rejected: {verdict.cause}: {verdict.detail}")
        self._last_reject = verdict.cause
        if verdict.cause and self._gate.latch.is_armed:
            self._report.tell()  # the policy must not build on what is not played

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._gate.stop(Cause("stop_request", "somebody asked for a stop"))
        self._tell_changes()
        response.success = True
        response.message = "stopped; arm to let it move again"
        return response

    def _on_arm(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self.is_active:
            response.message = f"not armed: {self._inactive()}"
            return response
        why_not = self._gate.arm(time.monotonic_ns())
        response.success = not why_not
        response.message = f"not armed: {why_not}" if why_not else "armed"
        self._tell_changes()
        return response

    # Timers ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        now_ns, steady_ns = self.now_ns(), time.monotonic_ns()
        if not self._gate.is_due(now_ns, steady_ns):
            return
        self._hear_and_look()
        for output, command in self._gate.tick(now_ns, steady_ns):
            self._outputs[output.topic].publish(command)
        self._switch.look(self._gate.latch)
        self._tell_changes()

    def _repeat(self) -> None:
        self._stops.listen_for_latched()
        self._report.repeat(self._inactive())

    def _tell_changes(self) -> None:
        self._report.tell_changes(self._inactive())

    def _inactive(self) -> str:
        """Say why the gate is not active; empty when it is."""
        if self.is_active:
            return ""
        return f"the gate is not active; {self._refusal}".rstrip("; ")


def main() -> int:
    """Run the gate."""
    get_logger("gate").info(raise_priority())
    return main_of(GateNode)


if __name__ == "__main__":
    raise SystemExit(main())
