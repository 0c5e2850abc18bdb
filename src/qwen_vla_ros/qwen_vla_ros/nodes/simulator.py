"""A simulated robot with the topics of a real one: driver, controllers, cameras, and a judge."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from functools import partial

from qwen_vla_msgs.msg import TaskStatus
from qwen_vla_msgs.srv import ResetScene
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.backend import Command
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.options import MOST_SEED, NodeOptions, option
from qwen_vla_ros.ros.commands import listen
from qwen_vla_ros.ros.conversions import stamp_from_ns
from qwen_vla_ros.ros.driver_cameras import DriverCameras
from qwen_vla_ros.ros.driver_outputs import DriverOutputs
from qwen_vla_ros.ros.lifecycle import STEADY
from qwen_vla_ros.ros.parameters import declare
from qwen_vla_ros.ros.priority import raise_priority
from qwen_vla_ros.ros.process import main_of
from qwen_vla_ros.ros.qos import LATCHED, SENSOR, STATE
from qwen_vla_ros.sim.pacing import Pace, StepBudget
from qwen_vla_ros.sim.robot import make_robot

TICK_S = 0.02
MOST_STEPS_PER_TICK = 50
"""Half a second of 10 ms each, which takes about 15 ms: after a stall the robot has to have done
what it would have done, instead of jumping there."""

FIRST_STAMP_NS = NS_PER_S
"""Where simulated time begins: in messages, a stamp of zero means now, or nothing."""

MAX_LAG_NS = 30_000_000
STATUS_HZ = 5.0
REFUSAL_LOG_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Parameters(NodeOptions):
    """Parameters of the simulator."""

    seed: int = option(
        "Seed of the scene; it fixes where everything stands.", default=0, bounds=(0, MOST_SEED)
    )
    publish_clock: bool = option(
        "Publish simulated time on /clock, for nodes with use_sim_time.", default=False
    )
    real_time_factor: float = option(
        "Simulated seconds per second; other than 1 only with publish_clock.",
        default=1.0,
        bounds=(0.01, 10.0),
    )


class SimulatorNode(Node):
    """Steps one robot in real time and speaks for its driver."""

    def __init__(self) -> None:
        super().__init__("simulator")
        parameters = declare(self, Parameters)
        if parameters.real_time_factor != 1.0 and not parameters.publish_clock:
            raise QwenVlaError(
                "simulator: parameter 'real_time_factor' other than 1 needs 'publish_clock'."
            )
        embodiment = load_embodiment(parameters.embodiment)
        self._seed = parameters.seed
        self._robot = make_robot(embodiment, self._seed)
        self._world = self._robot.world
        self._step_ns = round(self._world.period_s * NS_PER_S)
        self._budget = StepBudget(
            self._world.period_s, parameters.real_time_factor, MOST_STEPS_PER_TICK
        )
        self._time_ns = FIRST_STAMP_NS
        self._arrived: deque[tuple[int, str, Command]] = deque()
        self._clock_output: Publisher | None = None
        if parameters.publish_clock:
            self._clock_output = self.create_publisher(Clock, "/clock", SENSOR)
        self._instruction = ""
        self._status_pace = Pace(STATUS_HZ)
        self._status = self.create_publisher(TaskStatus, "scene/status", STATE)
        self.create_subscription(String, "~/input/instruction", self._on_instruction, LATCHED)
        self.create_service(ResetScene, "~/reset", self._on_reset)
        self._outputs = DriverOutputs(self, embodiment, self._robot)
        self._cameras = DriverCameras(self, self._world, embodiment.file.cameras)
        for output in embodiment.file.command.outputs:
            listen(self, output, partial(self._on_command, output.topic))
        self.create_timer(TICK_S, self._tick, clock=STEADY)
        self.get_logger().info(
            f"{embodiment.name}, scene {self._seed}: '{self._world.suggest_instruction()}'"
        )

    def begin_leaving(self) -> None:
        """Go on: the gates are still braking."""

    def at_rest(self) -> bool:
        """Say whether nothing of the robot moves."""
        return self._robot.is_at_rest()

    def destroy_node(self) -> None:
        """End the cameras' thread first, since it publishes."""
        self._cameras.close()
        super().destroy_node()

    def _tick(self) -> None:
        steps = self._budget.take(time.monotonic_ns())
        if steps == 0:
            return
        if self._clock_output is None:
            self._follow_ros_time(steps * self._step_ns)
        for _ in range(steps):
            self._hand_over()
            self._robot.step(self._time_ns)
            self._time_ns += self._step_ns
            if self._clock_output is not None:
                self._clock_output.publish(Clock(clock=stamp_from_ns(self._time_ns)))
        self._speak()

    def _follow_ros_time(self, ahead_ns: int) -> None:
        # In even steps while that stays near the truth: a controller whose clock trembled with
        # this process's scheduling would make the arms tremble.
        now_ns = int(self.get_clock().now().nanoseconds)
        if not 0 <= now_ns - (self._time_ns + ahead_ns) <= MAX_LAG_NS:
            self._time_ns = now_ns - ahead_ns

    def _speak(self) -> None:
        """Publish what the robot senses now; everything of one moment has one stamp."""
        now_ns = self._time_ns
        self._cameras.take(now_ns)
        self._outputs.publish(now_ns)
        if self._status_pace.is_due(now_ns):
            self._publish_status(now_ns)

    def _publish_status(self, now_ns: int) -> None:
        verdict = self._world.judge(self._instruction)
        message = TaskStatus(
            seed=self._seed,
            instruction=self._instruction,
            target=verdict.target,
            success=verdict.success,
            progress=verdict.progress,
        )
        message.header.stamp = stamp_from_ns(now_ns)
        self._status.publish(message)

    def _on_instruction(self, message: String) -> None:
        self._instruction = message.data

    def _on_command(self, topic: str, command: Command) -> None:
        is_master = self._clock_output is not None
        now_ns = self._time_ns if is_master else int(self.get_clock().now().nanoseconds)
        self._arrived.append((now_ns, topic, command))

    def _hand_over(self) -> None:
        """Give the controllers what has come by their time: they are stepped behind it."""
        while self._arrived and self._arrived[0][0] <= self._time_ns:
            _, topic, command = self._arrived.popleft()
            if reason := self._robot.accept(topic, command, self._time_ns):
                self.get_logger().error(f"{topic}: {reason}", throttle_duration_sec=REFUSAL_LOG_S)

    def _on_reset(
        self, request: ResetScene.Request, response: ResetScene.Response
    ) -> ResetScene.Response:
        if request.seed < 0:
            response.message = f"seed {request.seed} is negative; 0 and more are scenes"
            return response
        self._seed = request.seed
        self._robot.reset(self._seed)
        response.success = True
        response.instruction = self._world.suggest_instruction()
        response.message = f"scene {self._seed}"
        self.get_logger().info(f"scene {self._seed}: '{response.instruction}'")
        return response


def main() -> int:
    """Run the simulator."""
    # A robot's driver does not compete with its policy for a processor; neither must this one.
    get_logger("simulator").info(raise_priority())
    return main_of(SimulatorNode)


if __name__ == "__main__":
    raise SystemExit(main())
