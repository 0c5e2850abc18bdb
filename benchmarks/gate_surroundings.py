"""A driver, a policy, a stop button and an operator around one gate, in one process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.serving.mock import MockPolicy
from qwen_vla_ros.sim.robot import SimulatedArms, SimulatedBase, make_robot
from qwen_vla_ros.types import FloatArray, Observation

if TYPE_CHECKING:
    from rclpy.node import Node

CHUNK_HZ = {"aloha_sim": 10.0, "diffbot_sim": 4.0}
STATE_HZ, STOP_HZ = 50.0, 10.0


class Surroundings:
    """Driver, policy, stop button and operator of one robot; each speaks at a rate of its own."""

    def __init__(self, node: Node, robot: str) -> None:
        from qwen_vla_msgs.msg import ActionChunk, SafetyState
        from std_msgs.msg import Bool
        from std_srvs.srv import Trigger

        from qwen_vla_ros.ros.commands import listen
        from qwen_vla_ros.ros.qos import COMMAND, LATCHED

        self.node = node
        self.is_armed = False
        self.is_over = threading.Event()
        self.said = dict.fromkeys(("state", "chunks", "stop"), 0)
        self.hz = {"state": STATE_HZ, "chunks": CHUNK_HZ[robot], "stop": STOP_HZ}
        self._embodiment = load_embodiment(robot)
        self._robot = make_robot(self._embodiment)
        self._robot.reset(0)
        self._policy = MockPolicy(self._embodiment, motion="sine")
        self._episode = self._sequence = 0
        self._stepped_ns = self.now_ns()
        self._lock = threading.Lock()
        for output in self._embodiment.file.command.outputs:
            listen(node, output, partial(self._on_command, output.topic))
        say_state = self._state_publisher()
        self._chunks = node.create_publisher(ActionChunk, "policy/output/action_chunk", COMMAND)
        self._stop, self._go = node.create_publisher(Bool, "stop", COMMAND), Bool(data=False)
        self._arm, self._ask = node.create_client(Trigger, "gate/arm"), Trigger.Request()
        node.create_subscription(SafetyState, "gate/output/safety_state", self._on_safety, LATCHED)
        node.create_timer(0.5, self._keep_armed)
        speakers = {"state": say_state, "chunks": self._say_chunk, "stop": self._say_go}
        for name, say in speakers.items():
            threading.Thread(target=self._speak, args=(name, say), daemon=True).start()

    def now_ns(self) -> int:
        """Return the ROS time."""
        return int(self.node.get_clock().now().nanoseconds)

    def _speak(self, name: str, say: Callable[[], None]) -> None:
        due_s = time.monotonic()
        while not self.is_over.is_set():
            # Who was kept from speaking does not make up for more than a moment of it.
            due_s = max(due_s + 1 / self.hz[name], time.monotonic() - 0.02)
            time.sleep(max(0.0, due_s - time.monotonic()))
            say()
            self.said[name] += 1

    def _keep_armed(self) -> None:
        if not self.is_armed and self._arm.service_is_ready():
            self._arm.call_async(self._ask)

    def _on_safety(self, message: Any) -> None:
        if message.armed and not self.is_armed:
            self._policy.reset()
            self._episode += 1
        self.is_armed = message.armed

    def _on_command(self, topic: str, command: Any) -> None:
        with self._lock:
            self._robot.accept(topic, command, self.now_ns())

    def _say_go(self) -> None:
        self._stop.publish(self._go)

    def _say_chunk(self) -> None:
        from qwen_vla_ros.ros.conversions import chunk_to_message

        if not self.is_armed:
            return
        self._sequence += 1
        seen = Observation(stamp_ns=self.now_ns(), images={}, state=self._channels)
        chunk = self._policy.infer(seen, None)  # type: ignore[arg-type]
        chunk = replace(chunk, sequence=self._sequence, episode=f"episode {self._episode}")
        self._chunks.publish(chunk_to_message(chunk))

    @property
    def _channels(self) -> FloatArray:
        if isinstance(self._robot, SimulatedBase):
            return np.zeros(len(self._embodiment.channels))
        joints = self._robot.measured(self._embodiment.joints)
        return self._embodiment.channels_from_joints(joints)

    def _step(self) -> int:
        """Let the robot go on to now; returns the time (ns)."""
        now_ns, period_ns = self.now_ns(), round(self._robot.world.period_s * 1e9)
        with self._lock:
            while self._stepped_ns + period_ns <= now_ns:
                self._stepped_ns += period_ns
                self._robot.step(self._stepped_ns)
        return now_ns

    def _state_publisher(self) -> Callable[[], None]:
        """Return what steps the robot and says how it stands."""
        from nav_msgs.msg import Odometry
        from sensor_msgs.msg import JointState

        from qwen_vla_ros.ros.conversions import stamp_from_ns
        from qwen_vla_ros.ros.qos import STATE

        robot, topic = self._robot, self._embodiment.file.state[0].topic
        if isinstance(robot, SimulatedArms):
            joints = self._embodiment.joints
            states = self.node.create_publisher(JointState, topic, STATE)
            state = JointState(name=list(joints))

            def say_joints() -> None:
                state.header.stamp = stamp_from_ns(self._step())
                state.position = robot.measured(joints).tolist()
                state.velocity = robot.measured_velocity(joints).tolist()
                states.publish(state)

            return say_joints
        odometries = self.node.create_publisher(Odometry, topic, STATE)
        said = Odometry(child_frame_id="base_link")

        def say_odometry() -> None:
            said.header.stamp = stamp_from_ns(self._step())
            odometry = robot.controller.odometry
            x, y, yaw = odometry.pose.tolist()
            said.pose.pose.position.x, said.pose.pose.position.y = x, y
            said.pose.pose.orientation.z = math.sin(yaw / 2)
            said.pose.pose.orientation.w = math.cos(yaw / 2)
            said.twist.twist.linear.x, said.twist.twist.angular.z = odometry.twist
            odometries.publish(said)

        return say_odometry
