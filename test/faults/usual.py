"""What the field does instead of a gate, under the same attacks and before the same judge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from faults.judge import Floats, S
from faults.rig import BEGIN_NS, Rig
from qwen_vla_ros.types import ActionChunk

ARM_RULES = ("position clamp", "max relative step", "velocity clamp", "controller's spline alone")
BASE_RULES = ("velocity clamp", "controller alone")
RELATIVE_STEP = 0.5
"""Of a joint's start jump: 0.1 rad, which is what drivers are usually set to."""
_TIME = SimpleNamespace(sec=0, nanosec=0)


class UsualRobot(Rig):
    """A robot before which stands one rule of the field. It is always armed."""

    rule = ARM_RULES[0]
    _chunk: ActionChunk | None = None

    def give(self, chunk: ActionChunk | None) -> None:
        """Play this chunk from now on."""
        if chunk is None or chunk.rest:
            self._chunk = None
            return
        self._chunk = chunk
        if self.rule == ARM_RULES[3]:
            self._send_whole(chunk)

    def tick(self, *, late_ns: int = 0, deliver_ns: int = 0, gate: bool = True) -> None:
        """Command what the rule leaves of what is wanted."""
        self.ticks += 1
        self.advance(BEGIN_NS + self.ticks * self.period_ns + late_ns)
        if not gate or self._chunk is None or self.rule == ARM_RULES[3]:
            return
        row = max(0.0, (self.true_ns - self._chunk.stamp_ns) / S / self._chunk.dt)
        if row >= len(self._chunk.actions):
            return
        received_ns = self.true_ns + deliver_ns
        with np.errstate(all="ignore"):
            if self.is_base:
                self._drive(self._chunk.actions[int(row)] / self._chunk.dt, received_ns)
            else:
                self._move(self._wanted(row), received_ns)

    def _wanted(self, row: float) -> Floats:
        rows = self.embodiment.joints_from_channels(self._chunk.actions)
        low = min(int(row), len(rows) - 1)
        high = min(low + 1, len(rows) - 1)
        return rows[low] + (row - low) * (rows[high] - rows[low])

    def _move(self, wanted: Floats, received_ns: int) -> None:
        lim, (q, _) = self.limits, self.setpoint
        period = self.period_ns / S
        if self.rule == "max relative step":
            jump = np.array([self.safety["joints"][name]["start_jump"] for name in self.names])
            wanted = np.clip(wanted, q - RELATIVE_STEP * jump, q + RELATIVE_STEP * jump)
        elif self.rule == "velocity clamp":
            wanted = np.clip(wanted, q - lim.velocity * period, q + lim.velocity * period)
        self._send(np.clip(wanted, lim.lower, lim.upper)[None], self.period_ns, received_ns)

    def _send_whole(self, chunk: ActionChunk) -> None:
        rows = self.embodiment.joints_from_channels(chunk.actions)
        ahead_ns = round(chunk.dt * S)
        age = max(0, int((self.true_ns - chunk.stamp_ns) / ahead_ns))
        if age < len(rows):
            self._send(rows[age:], ahead_ns, self.true_ns)

    def _send(self, rows: Floats, every_ns: int, received_ns: int) -> None:
        for output in self.embodiment.file.command.outputs:
            part = [self.names.index(joint) for joint in output.joints]
            points = [
                SimpleNamespace(
                    positions=row[part],
                    velocities=(),
                    accelerations=(),
                    time_from_start=_duration((k + 1) * every_ns),
                )
                for k, row in enumerate(rows)
            ]
            header = SimpleNamespace(stamp=_TIME)
            message = SimpleNamespace(header=header, joint_names=output.joints, points=points)
            self.deliver(output.topic, message, received_ns)

    def _drive(self, speed: Floats, received_ns: int) -> None:
        v, w = speed[0], speed[2]
        if self.rule == "velocity clamp":
            v, w = np.clip([v, w], -self.limits.velocity, self.limits.velocity)
        message = SimpleNamespace(linear=SimpleNamespace(x=v), angular=SimpleNamespace(z=w))
        for topic in self.players:
            self.deliver(topic, message, received_ns)


def _duration(ns: int) -> Any:
    return SimpleNamespace(sec=ns // S, nanosec=ns % S)
