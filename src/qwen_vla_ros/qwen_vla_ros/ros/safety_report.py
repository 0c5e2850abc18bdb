"""What a gate thinks, told to programs, to people, and to whoever watches the whole system."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus
from qwen_vla_msgs.msg import SafetyState
from rclpy.node import Node

from qwen_vla_ros.ros.diagnostics import Diagnostics
from qwen_vla_ros.ros.qos import LATCHED
from qwen_vla_ros.safety.latch import NOT_ARMED, Cause, Level
from qwen_vla_ros.safety.robot_gate import RobotGate

DIAGNOSTIC_LEVELS = {
    Level.OK: DiagnosticStatus.OK,
    Level.LIMITED: DiagnosticStatus.WARN,
    Level.HOLD: DiagnosticStatus.WARN,
    Level.STOP: DiagnosticStatus.ERROR,
}
DIAGNOSTICS_EVERY = 5
"""The diagnostics are told at every change, and at one in so many repetitions."""


class SafetyReport:
    """Tells the state of a gate: as SafetyState, on /diagnostics, and once in the log."""

    def __init__(self, node: Node, robot: str, gate: RobotGate, lost: str = "") -> None:
        """Tell what `gate` thinks.

        Args:
            node: Who speaks.
            robot: Name of the robot.
            gate: The gate.
            lost: How the gate before this one ended, where it was started again.
        """
        self._lost = lost
        self._node = node
        self._robot = robot
        self._gate = gate
        self._told: tuple[Level, str] | None = None
        self._repetitions = 0
        self._state = node.create_publisher(SafetyState, "~/output/safety_state", LATCHED)
        self._diagnostics = Diagnostics(node, robot)

    def tell_changes(self, inactive: str = "") -> None:
        """Tell the state if its level or cause has changed.

        Args:
            inactive: Why the gate is not active, as a sentence; empty when it is.
        """
        level, cause = self._gate.latch.level, self._cause(inactive)
        if (level, cause.name) == self._told:
            return
        before = Level.OK if self._told is None else self._told[0]
        self._told = level, cause.name
        self.tell(inactive)
        self._tell_diagnostics(cause)
        self._log(before, cause)

    def repeat(self, inactive: str = "") -> None:
        """Tell the state again, for those who must see that the gate lives."""
        self.tell(inactive)
        self._repetitions += 1
        if self._repetitions % DIAGNOSTICS_EVERY == 0:
            self._tell_diagnostics(self._cause(inactive))

    def tell(self, inactive: str = "") -> None:
        """Publish the state."""
        latch, counters, admission = self._gate.latch, self._gate.counters, self._gate.admission
        cause = self._cause(inactive)
        message = SafetyState(
            embodiment=self._robot,
            level=int(latch.level),
            armed=latch.is_armed,
            cause=cause.name,
            detail=cause.detail,
            chunks_accepted=admission.accepted,
            chunks_rejected=admission.rejected,
            ticks=counters.ticks,
            ticks_limited=counters.ticks_limited,
            ticks_late=counters.ticks_late,
            violations=counters.violations,
        )
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._state.publish(message)

    def _cause(self, inactive: str) -> Cause:
        """Return the cause in force, with all that is known about it."""
        latch = self._gate.latch
        if latch.cause is NOT_ARMED:
            again = f"the gate was started again after it ended with {self._lost}"
            if inactive:
                return Cause("not_active", f"{inactive}; {again}" if self._lost else inactive)
            if self._lost:
                return Cause("restarted", f"{again}: arm it to let it move")
        return Cause(latch.cause.name, latch.detail)

    def _tell_diagnostics(self, cause: Cause) -> None:
        latch, counters, admission = self._gate.latch, self._gate.counters, self._gate.admission
        # A gate that only waits for a person is in order.
        is_waiting = latch.cause is NOT_ARMED
        level = DiagnosticStatus.WARN if is_waiting else DIAGNOSTIC_LEVELS[latch.level]
        values = {
            "level": latch.level.name,
            "cause": cause.name,
            "detail": cause.detail,
            "armed": latch.is_armed,
            "profile": self._gate.profile.name,
            "chunks accepted": admission.accepted,
            "chunks rejected": admission.rejected,
            "commands": counters.ticks,
            "commands limited": counters.ticks_limited,
            "ticks late": counters.ticks_late,
            "violations": counters.violations,
        }
        sentence = f"{latch.level.name} {cause.name}: {cause.detail}" if cause.name else "OK"
        self._diagnostics.publish(sentence, values, level)

    def _log(self, before: Level, cause: Cause) -> None:
        latch, logger = self._gate.latch, self._node.get_logger()
        sentence = f"{latch.level.name} {cause.name}: {cause.detail}"
        if cause.name == "not_active":
            return  # the refusal has been logged
        if latch.cause is NOT_ARMED:
            logger.info("waiting to be armed")
        elif latch.level is Level.STOP:
            logger.error(sentence)
        elif latch.level is Level.HOLD:
            logger.warning(sentence)
        elif before >= Level.HOLD:
            logger.info("commands pass")
