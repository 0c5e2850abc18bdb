"""Parameters of a node as a frozen dataclass: declared once, with unit, bounds and reason."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterUninitializedException
from rclpy.node import Node
from rclpy.parameter import Parameter

from qwen_vla_ros.errors import QwenVlaError, suggest

P = TypeVar("P")

_TYPES = {
    str: Parameter.Type.STRING,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    bool: Parameter.Type.BOOL,
}


def parameter(
    description: str,
    *,
    default: Any = dataclasses.MISSING,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Describe one field of a parameter dataclass.

    Args:
        description: One sentence for people; it is shown by `ros2 param describe`.
        default: Value when none is given. What depends on the robot has none.
        unit: Unit of a number, appended to the description.
        minimum: Smallest value allowed; needs `maximum`.
        maximum: Largest value allowed; needs `minimum`.
        choices: The words allowed, for a string.
    """
    text = f"{description} [{unit}]" if unit else description
    metadata = {
        "description": text,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)


def declare(node: Node, parameters: type[P]) -> P:
    """Declare every field of a parameter dataclass on the node and return the values.

    All are read-only: nothing that a node does changes behind its back, and no limit can be
    widened while a robot moves.

    Raises:
        QwenVlaError: A parameter has the wrong type, is out of bounds, or is required and absent.
    """
    hints = get_type_hints(parameters)
    values = {
        field.name: _declare_one(node, field, hints[field.name])
        for field in dataclasses.fields(parameters)  # type: ignore[arg-type]
    }
    return parameters(**values)


def _declare_one(node: Node, field: dataclasses.Field[Any], hint: type) -> Any:
    required = field.default is dataclasses.MISSING
    initial = _TYPES[hint] if required else field.default
    try:
        value = node.declare_parameter(field.name, initial, _descriptor(field, hint)).value
    except ParameterUninitializedException:
        value = None
    except Exception as error:
        raise QwenVlaError(f"{node.get_name()}: parameter '{field.name}': {error}") from error
    if value is None and required:
        raise QwenVlaError(
            f"{node.get_name()}: parameter '{field.name}' is required: "
            f"{field.metadata['description']}"
        )
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise QwenVlaError(
            f"{node.get_name()}: parameter '{field.name}': unknown value '{value}'."
            + suggest(str(value), choices)
        )
    return value


def _descriptor(field: dataclasses.Field[Any], hint: type) -> ParameterDescriptor:
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    descriptor = ParameterDescriptor(
        name=field.name, description=field.metadata["description"], read_only=True
    )
    if field.metadata["choices"]:
        descriptor.additional_constraints = "one of: " + ", ".join(field.metadata["choices"])
    if low is not None and high is not None:
        if hint is int:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        else:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(low), to_value=float(high))
            ]
    return descriptor
