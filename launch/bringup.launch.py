"""Bring a robot up: its policy, its gate and, with backend mujoco, the robot itself.

    ros2 launch qwen_vla bringup.launch.py robot:=aloha_sim policy:=expert

Which nodes, parameters and remappings a robot needs is decided in `qwen_vla_ros.bringup`.
"""

import os
import time

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    TimerAction,
)
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from qwen_vla_ros.bringup import Bringup, NodeSpec, environment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.options import to_text
from qwen_vla_ros.restarts import DELAY_S, Next, Restarts
from qwen_vla_ros.security import require_enclaves


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the function that turns them into nodes."""
    arguments = [
        DeclareLaunchArgument(
            option.name,
            default_value=None if option.default is None else to_text(option.default),
            description=option.description,
            choices=option.choices or None,
        )
        for option in Bringup.declared()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_bring_up)])


def _bring_up(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    words = {
        option.name: LaunchConfiguration(option.name).perform(context)
        for option in Bringup.declared()
    }
    bringup = Bringup.from_strings(words)
    require_enclaves(bringup.nodes(), os.environ)
    variables = environment(one_host=bringup.is_simulated)
    restarts = Restarts()
    return [
        *(SetEnvironmentVariable(name, value) for name, value in variables.items()),
        *(_node(spec, restarts) for spec in bringup.nodes()),
    ]


def _node(spec: NodeSpec, restarts: Restarts) -> Node:
    """Return a node that follows on itself when it dies, as far as that is of use.

    Launch's own respawn would also start again what somebody stopped, or what can never work.
    """

    def follow(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        if context.is_shutdown:
            return []
        verdict = restarts.judge(spec, event.returncode, time.monotonic())
        sentence = f"{spec.name} {verdict.sentence}"
        if verdict.next is Next.END:
            # Launch's Shutdown would end it all with status 0.
            raise QwenVlaError(sentence)
        told = LogInfo(msg=sentence)
        if verdict.next is Next.AGAIN:
            again = _node(spec.again(event.returncode), restarts)
            return [told, TimerAction(period=DELAY_S, actions=[again])]
        return [told]

    return Node(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        namespace=spec.namespace,
        parameters=[dict(spec.parameters)],
        remappings=list(spec.remappings),
        ros_arguments=spec.ros_flags,
        additional_env=dict(spec.environment),
        output="screen",
        on_exit=follow,
    )
