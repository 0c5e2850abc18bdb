"""What the gates share on the ROS side: chunks, the stop input, arming, telling the state."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from qwen_vla_msgs.msg import ActionChunk as ActionChunkMessage
from qwen_vla_msgs.msg import SafetyState
from rclpy.qos import DurabilityPolicy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.options import NodeOptions
from qwen_vla_ros.ros.commands import Output
from qwen_vla_ros.ros.conversions import chunk_from_message
from qwen_vla_ros.ros.graph import require_publisher
from qwen_vla_ros.ros.lifecycle import ManagedNode
from qwen_vla_ros.ros.parameters import declare
from qwen_vla_ros.ros.priority import settle_memory
from qwen_vla_ros.ros.qos import COMMAND, LATCHED, SENSOR
from qwen_vla_ros.safety.admission import Admission
from qwen_vla_ros.safety.interlock import Interlock
from qwen_vla_ros.safety.latch import NOT_ARMED, Cause, Level
from qwen_vla_ros.types import ActionChunk

STOP_TOPIC = "~/input/stop"
REPEAT_S = 0.5
"""The state is told this often, and the graph is looked at as often."""


class Limb(Protocol):
    """What a gate drives: the part that differs between arms and bases."""

    @property
    def interlock(self) -> Interlock:
        """Level, cause and counters."""
        ...

    @property
    def outputs(self) -> Sequence[Output]:
        """The command topics."""
        ...

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing moves, neither as commanded nor as measured."""
        ...

    def missing(self) -> str:
        """Say what the limb needs before the gate may activate; empty when nothing."""
        ...

    def accept(self, chunk: ActionChunk, steady_ns: int) -> str:
        """Play a chunk that was admitted; returns why it cannot be played, or nothing."""
        ...

    def clear(self) -> None:
        """Drop what was asked for so far."""
        ...

    def arm(self, steady_ns: int) -> str:
        """Let commands pass from now on; returns why not, or nothing."""
        ...

    def tick(self, now_ns: int, steady_ns: int) -> None:
        """Decide and send one command."""
        ...


class GateNode(ManagedNode):
    """A gate process: judges chunks, ticks its limb, and says what it thinks."""

    def __init__(self, name: str, make_limb: Callable[[GateNode, Embodiment], Limb]) -> None:
        super().__init__(name)
        self._settings = declare(self, NodeOptions)
        self._make_limb = make_limb
        self._made: Limb | None = None
        self._told = (Level.OK, "")
        self._last_reject = ""

    @property
    def _limb(self) -> Limb:
        if self._made is None:
            raise ValueError("the gate is not configured")
        return self._made

    # Lifecycle -------------------------------------------------------------------------------

    def on_setup(self) -> None:
        """Read the limits and listen; nothing is sent before somebody arms."""
        self._embodiment = load_embodiment(self._settings.embodiment)
        self._admission = Admission.from_embodiment(self._embodiment)
        self._made = self._make_limb(self, self._embodiment)
        self._state = self.create_publisher(SafetyState, "~/output/safety_state", LATCHED)
        self.create_subscription(
            ActionChunkMessage, "~/input/action_chunk", self._on_chunk, COMMAND
        )
        # The quality of service of the sensors matches every publisher of a stop.
        self.create_subscription(Bool, STOP_TOPIC, self._on_stop_input, SENSOR)
        self._hears_latched_stop = False
        self.create_service(Trigger, "~/arm", self._on_arm)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_steady_timer(1.0 / self._embodiment.file.command.rate_hz, self._tick)
        self.create_steady_timer(REPEAT_S, self._repeat)
        settle_memory()

    def on_start(self) -> None:
        """Refuse unless the robot's driver is there, rests, and nobody else commands it."""
        self._listen_for_latched_stop()
        for source in self._embodiment.file.state:
            require_publisher(self, source.topic, source.type)
        for output in self._limb.outputs:
            output.require_ready()
        if missing := self._limb.missing():
            raise NotReadyError(missing)

    def on_stop(self) -> None:
        """Brake; the ticks go on until the robot rests."""
        self._limb.interlock.latch.trip(Cause("deactivated", "the gate was deactivated"))
        self._limb.clear()

    def on_teardown(self) -> None:
        """Undo `on_setup`."""
        self._made = None

    def at_rest(self) -> bool:
        """Whether the robot rests, as commanded and as measured."""
        return self._made is None or self._made.is_at_rest

    # Inputs ----------------------------------------------------------------------------------

    def _on_chunk(self, message: ActionChunkMessage) -> None:
        steady_ns = time.monotonic_ns()
        verdict = self._admission.judge(chunk_from_message(message), self.now_ns(), steady_ns)
        if verdict.chunk is not None:
            unplayable = self._limb.accept(verdict.chunk, steady_ns)
            self._say_reject("unplayable" if unplayable else "", unplayable)
            return
        self._say_reject(verdict.cause, verdict.detail)
        if self._limb.interlock.latch.is_armed:
            self._tell()  # the policy must not build on what is not played
        if self._admission.is_exhausted(steady_ns):
            detail = f"too many chunks were rejected; the last one: {verdict.detail}"
            self._limb.interlock.latch.trip(Cause("chunks_rejected", detail))

    def _on_stop_input(self, message: Bool) -> None:
        self._limb.interlock.on_stop_input(is_asserted=message.data, steady_ns=time.monotonic_ns())
        self._tell_changes()

    def _listen_for_latched_stop(self) -> None:
        """Hear what a latched publisher said before this node was there (G5).

        Only once there is one: with any other publisher such a subscription does not match, and
        both sides would complain.
        """
        topic = self.resolve_topic_name(STOP_TOPIC)
        publishers = self.get_publishers_info_by_topic(topic)
        is_latched = any(
            info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for info in publishers
        )
        if is_latched and not self._hears_latched_stop:
            self._hears_latched_stop = True
            self.create_subscription(Bool, STOP_TOPIC, self._on_stop_input, LATCHED)

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._limb.interlock.latch.trip(Cause("stop_request", "somebody asked for a stop"))
        self._tell_changes()
        response.success = True
        response.message = "stopped; arm to let it move again"
        return response

    def _on_arm(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self.is_active:
            response.message = f"not armed: the gate is not active; {self._refusal}".rstrip("; ")
            return response
        if not self._limb.interlock.latch.is_armed:
            # What was said before somebody armed must not move anything.
            self._limb.clear()
            self._admission.forget()
        why_not = self._limb.arm(time.monotonic_ns())
        response.success = not why_not
        response.message = f"not armed: {why_not}" if why_not else "armed"
        self._tell_changes()
        return response

    # Timers ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._limb.tick(self.now_ns(), time.monotonic_ns())
        self._tell_changes()

    def _repeat(self) -> None:
        self._listen_for_latched_stop()
        causes: list[Cause] = []
        if self.is_active:
            for output in self._limb.outputs:
                causes += output.faults()
            for source in self._embodiment.file.state:
                count = self.count_publishers(self.resolve_topic_name(source.topic))
                if count > 1:
                    detail = f"{count} publishers report on '{source.topic}'"
                    causes.append(Cause("state_conflict", detail))
        self._limb.interlock.outside = tuple(causes)
        self._tell()

    # State -----------------------------------------------------------------------------------

    def _tell_changes(self) -> None:
        latch = self._limb.interlock.latch
        level_before, cause_before = self._told
        if (latch.level, latch.cause.name) == (level_before, cause_before):
            return
        self._told = latch.level, latch.cause.name
        self._tell()
        sentence = f"{latch.level.name} {latch.cause.name}: {latch.detail}"
        if latch.cause is NOT_ARMED:
            self.get_logger().info("waiting to be armed")
        elif latch.level is Level.STOP:
            self.get_logger().error(sentence)
        elif latch.level is Level.HOLD:
            self.get_logger().warning(sentence)
        elif level_before >= Level.HOLD:
            self.get_logger().info("commands pass")

    def _tell(self) -> None:
        latch, counters = self._limb.interlock.latch, self._limb.interlock.counters
        message = SafetyState(
            embodiment=self._embodiment.name,
            level=int(latch.level),
            armed=latch.is_armed,
            cause=latch.cause.name,
            detail=latch.detail,
            chunks_accepted=self._admission.accepted,
            chunks_rejected=self._admission.rejected,
            ticks=counters.ticks,
            ticks_limited=counters.ticks_limited,
            ticks_late=counters.ticks_late,
            violations=counters.violations,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._state.publish(message)

    def _say_reject(self, cause: str, detail: str) -> None:
        """Log a reject once, until something else happens."""
        if cause and cause != self._last_reject:
            self.get_logger().warning(f"chunk rejected: {cause}: {detail}")
        self._last_reject = cause
