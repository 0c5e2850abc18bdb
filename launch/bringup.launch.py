"""Bring a robot up: its policy, its gate and, with backend mujoco, the robot itself.

    ros2 launch qwen_vla bringup.launch.py robot:=aloha_sim policy:=expert

Which nodes, parameters and remappings a robot needs is decided in `qwen_vla_ros.bringup`.
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from qwen_vla_ros.arguments import ARGUMENTS
from qwen_vla_ros.bringup import NodeSpec, bringup_from_words, environment


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the function that turns them into nodes."""
    arguments = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=argument.choices or None,
        )
        for argument in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_bring_up)])


def _bring_up(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    words = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in ARGUMENTS
    }
    bringup = bringup_from_words(words)
    variables = environment(one_host=bringup.backend == "mujoco")
    return [
        *(SetEnvironmentVariable(name, value) for name, value in variables.items()),
        *(_node(spec) for spec in bringup.nodes()),
    ]


def _node(spec: NodeSpec) -> Node:
    return Node(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        namespace=spec.namespace,
        parameters=[dict(spec.parameters)],
        remappings=list(spec.remappings),
        ros_arguments=spec.ros_flags,
        output="screen",
    )
