"""Parameters of a node, declared from the options that it takes."""

from __future__ import annotations

from typing import Any, TypeVar

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterUninitializedException
from rclpy.node import Node
from rclpy.parameter import Parameter

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.options import Option, Options

T = TypeVar("T", bound=Options)

_TYPES = {
    str: Parameter.Type.STRING,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    bool: Parameter.Type.BOOL,
}


def declare(node: Node, options: type[T]) -> T:
    """Declare every option as a parameter of the node and return the values.

    All are read-only: nothing that a node does changes behind its back, and no limit can be
    widened while a robot moves.

    Raises:
        QwenVlaError: A parameter has the wrong type, is not allowed, or is required and absent.
    """
    try:
        return options(**{each.name: _declare_one(node, each) for each in options.declared()})
    except QwenVlaError as error:
        raise QwenVlaError(f"{node.get_name()}: parameter {error}") from error


def _declare_one(node: Node, option: Option) -> Any:
    descriptor = ParameterDescriptor(
        name=option.name,
        description=option.description,
        additional_constraints=option.allowed,
        read_only=True,
    )
    initial = _TYPES[option.kind] if option.default is None else option.default
    try:
        value = node.declare_parameter(option.name, initial, descriptor).value
    except ParameterUninitializedException:
        value = None
    except Exception as error:
        raise QwenVlaError(f"{option.name}: {error}") from error
    if value is None:
        raise QwenVlaError(f"{option.name} is required: {option.description}")
    return value
