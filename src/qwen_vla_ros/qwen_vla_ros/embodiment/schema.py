"""The embodiment file, as types. Strict: an unknown key is an error, and nothing is coerced.

Checks that need one value only live here; those that compare values (limits against the URDF,
channels against outputs) live in `cross_check`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from qwen_vla_ros.plugins import plugin_names

_NAME = r"^[a-z][a-z0-9_]{0,63}$"
_TOPIC = r"^/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*$"
_FRAME = r"^([A-Za-z0-9_][A-Za-z0-9_/.-]{0,254})?$"
_URDF = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.(urdf|xacro)$"
_TYPE = r"^[a-z][a-z0-9_]*/msg/[A-Z][A-Za-z0-9]*$"
_FIELD = r"^[a-z][a-z0-9_]*(\.([a-z][a-z0-9_]*|[0-9]{1,3}))*$"
_LINE = r"^[^\x00-\x1f\x7f-\x9f]+$"
_TAG = r"^[^\x00-\x1f<>|]+$"
PATTERNS = {
    _NAME: "is no name. Allowed: lower-case letters, digits and _, a letter first, at most 64.",
    _TOPIC: "is no topic name. Allowed: words of letters, digits and _ with / between them.",
    _FRAME: "is no frame name. Allowed: letters, digits and _ / . - in it.",
    _URDF: "is no URDF file. Allowed: a file name without folder, ending in .urdf or .xacro.",
    _TYPE: "is no message type. Allowed: package/msg/Name, such as std_msgs/msg/Bool.",
    _FIELD: "is no field of a message. Allowed: names and places with . between, as buttons.4",
    _LINE: "holds a control character; it is one line of text.",
    _TAG: "holds a control character or one of < > |, which the prompt is built with.",
}
"""What is said of a text that does not match."""

Name = Annotated[str, Field(pattern=_NAME)]
RosTopic = Annotated[str, Field(pattern=_TOPIC, max_length=255)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
Vector = tuple[Finite, Finite, Finite]
LinkName = Annotated[str, Field(min_length=1, max_length=255, pattern=_LINE)]
Pixels = Annotated[int, Field(ge=16, le=4096)]
Fit = Literal["stretch", "crop", "pad"]

BACKENDS = "qwen_vla_ros.embodiment.backends"
WORLDS = "qwen_vla_ros.sim.worlds"


def _one_of(package: str) -> AfterValidator:
    """Allow the names of a package's plugins."""

    def check(name: str) -> str:
        known = plugin_names(package)
        if name not in known:
            raise PydanticCustomError("literal_error", "", {"expected": ", ".join(known)})
        return name

    return AfterValidator(check)


def _true_false_or_whole(value: object) -> object:
    if not isinstance(value, bool | int):
        raise PydanticCustomError("literal_error", "", {"expected": "true, false, a whole number"})
    return value


JOINT_KINDS = ("joint_position", "gripper")
WAYPOINT_KINDS = ("waypoint_x", "waypoint_y", "waypoint_yaw")


class Section(BaseModel):
    """A block of the file: frozen once loaded, no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PromptSpec(Section):
    """What the prompt says about the robot (the paper's template has a place for each).

    `state_text` puts the measured state before the instruction, as numbers from 0 to 255.
    """

    robot_tag: Annotated[str, Field(min_length=1, max_length=64, pattern=_TAG)]
    arms: Literal["none", "single", "dual"]
    waist: bool = False
    mobile_base: bool = False
    task: Literal["manipulation", "navigation"]
    control_frequency_hz: Rate
    action_horizon: Annotated[int, Field(ge=1, le=64)]
    execution_horizon: Annotated[int, Field(ge=1, le=64)]
    state_text: bool = False


class HistorySpec(Section):
    """How many images from before the newest one the model sees, and how far apart."""

    frames: Annotated[int, Field(ge=1, le=8)]
    spacing_s: Annotated[float, Field(ge=0.05, le=10, allow_inf_nan=False)]


class CameraSpec(Section):
    """One camera; `view` is its tag in the prompt, `input_*_px` the size that the model sees.

    `fit` says how an image of another shape gets to that size: `stretch` keeps the whole view,
    `crop` its middle in its own shape, `pad` the whole view in its own shape with black borders.
    Where a `frame_id` is declared, pictures with another one are not taken.
    """

    name: Name
    view: Name
    topic: RosTopic
    type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"]
    frame_id: Annotated[str, Field(pattern=_FRAME)] = ""
    width_px: Pixels
    height_px: Pixels
    input_width_px: Pixels
    input_height_px: Pixels
    fit: Fit = "stretch"
    history: HistorySpec | None = None
    rate_hz: Rate
    max_age_s: Seconds


class StateSpec(Section):
    """One source of proprioception; `joints` names what a JointState must hold."""

    topic: RosTopic
    type: Literal["sensor_msgs/msg/JointState", "nav_msgs/msg/Odometry"]
    joints: tuple[Name, ...] = ()
    rate_hz: Rate
    max_age_s: Seconds


class ChannelSpec(Section):
    """One column of the action.

    A `joint_position` channel is the joint's own value times `scale` (which may be negative) plus
    `offset`; a `gripper` channel is 0 at the joint value `closed` and 1 at `open`; waypoint
    channels belong to the base and have no joint.
    """

    name: Name
    kind: Literal["joint_position", "gripper", "waypoint_x", "waypoint_y", "waypoint_yaw"]
    unit: Literal["rad", "m", "1"]
    joint: Name | None = None
    scale: Finite | None = None
    offset: Finite | None = None
    closed: Finite | None = None
    open: Finite | None = None


class OutputSpec(Section):
    """One topic that a controller listens to."""

    backend: Annotated[str, _one_of(BACKENDS)]
    topic: RosTopic
    joints: tuple[Name, ...] = ()
    frame_id: Annotated[str, Field(pattern=_FRAME)] = ""


class CommandSpec(Section):
    """How commands leave the gate.

    `timeout_s` is how long after its last command the driver of a base stops by itself, where it
    cannot be asked for that. `controller_manager` is who is asked to deactivate the controllers of
    a robot that moves on although it is held (absent: nobody).
    """

    rate_hz: Rate
    timeout_s: Seconds | None = None
    controller_manager: RosTopic | None = None
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1)]


class JointLimits(Section):
    """The envelope of one joint; rad or m as the URDF has it. Never wider than the URDF."""

    lower: Finite
    upper: Finite
    velocity: Positive
    acceleration: Positive
    start_jump: Positive
    tracking: Positive
    jerk: Positive | None = None


class BaseLimits(Section):
    """The envelope of a planar base, in m/s, rad/s and their rates."""

    linear_velocity: Positive
    angular_velocity: Positive
    linear_acceleration: Positive
    angular_acceleration: Positive


class StopSpec(Section):
    """A topic that stops the robot: an emergency stop's state, a button that must be held.

    `field` is where the message says so, `runs_when` the one value with which the robot may run:
    any other stops it, and so does silence for `max_age_s`.
    """

    name: Name
    topic: RosTopic
    type: Annotated[str, Field(pattern=_TYPE, max_length=255)]
    field: Annotated[str, Field(pattern=_FIELD, max_length=255)]
    runs_when: Annotated[bool | int, BeforeValidator(_true_false_or_whole)]
    rate_hz: Rate
    max_age_s: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class BoxSpec(Section):
    """A box beside the robot, in m, along the axes of the URDF's root link: a table, a wall."""

    center: Vector
    size: tuple[Positive, Positive, Positive]


class CollisionSpec(Section):
    """How near the robot's links may come to each other, and to the boxes beside it.

    `margin` (m) is what a command leaves between two shapes at least. A pair in `may_touch` is not
    watched: fingers that grasp. Its names are links, or boxes of `surroundings`.
    """

    margin: Annotated[float, Field(gt=0, le=0.2, allow_inf_nan=False)]
    may_touch: Annotated[tuple[tuple[LinkName, LinkName], ...], Field(max_length=1000)] = ()
    surroundings: Annotated[dict[Name, BoxSpec], Field(max_length=64)] = Field(
        default_factory=dict
    )


class WorkspaceSpec(Section):
    """The box that a tool stays in, in m, along the axes of the URDF's root link."""

    lower: Vector
    upper: Vector


class ToolSpec(Section):
    """A point that works: `point` (m) in the frame of `link`, and what it may do.

    `speed` (m/s) is how fast it may be.
    """

    link: LinkName
    point: Vector = (0.0, 0.0, 0.0)
    speed: Positive | None = None
    workspace: WorkspaceSpec | None = None


class SafetySpec(Section):
    """What the gate never lets pass.

    `max_observation_age_s` is how long after its observation a chunk may still be played;
    `stop_heartbeat_s` is how old the stop input may grow before it counts as asserted (absent: the
    stop input is listened to, but need not be alive); `stops` are further stop inputs.
    """

    joints: dict[Name, JointLimits] = Field(default_factory=dict)
    base: BaseLimits | None = None
    collision: CollisionSpec | None = None
    tools: Annotated[dict[Name, ToolSpec], Field(max_length=16)] = Field(default_factory=dict)
    max_observation_age_s: Annotated[float, Field(gt=0, le=2, allow_inf_nan=False)]
    stop_heartbeat_s: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    stops: Annotated[tuple[StopSpec, ...], Field(max_length=16)] = ()


class SimulationSpec(Section):
    """Which simulated world stands in for the robot."""

    world: Annotated[str, _one_of(WORLDS)]


class GripperNumbers(Section):
    """What a gripper's number is when it is closed and when it is open."""

    closed: Finite = 0.0
    open: Finite = 1.0


class OpenpiSpec(Section):
    """How the robot appears in the observation dictionaries of openpi's clients and servers.

    `images` says which image of the dictionary feeds which camera; `state` which channel each
    number of its state is, in order, or `unused` (absent: the channels themselves).
    """

    format: Literal["aloha", "libero", "droid"]
    images: dict[Name, Name]
    state: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    gripper_state: GripperNumbers = GripperNumbers()
    gripper_action: GripperNumbers = GripperNumbers()


class EmbodimentFile(Section):
    """One robot, whole."""

    schema_version: Annotated[int, Field(ge=1, le=1)]
    name: Name
    description: Annotated[str, Field(min_length=1, max_length=200, pattern=_LINE)]
    urdf: Annotated[str, Field(pattern=_URDF)]
    prompt: PromptSpec
    cameras: Annotated[tuple[CameraSpec, ...], Field(min_length=1, max_length=16)]
    state: Annotated[tuple[StateSpec, ...], Field(min_length=1, max_length=16)]
    action: Annotated[tuple[ChannelSpec, ...], Field(min_length=1, max_length=64)]
    command: CommandSpec
    safety: SafetySpec
    normalization: Name
    simulation: SimulationSpec | None = None
    openpi: OpenpiSpec | None = None

    @property
    def moves_base(self) -> bool:
        """Whether any channel is a waypoint."""
        return any(channel.kind in WAYPOINT_KINDS for channel in self.action)

    @property
    def joints(self) -> tuple[str, ...]:
        """Joints that the action names, in its order, each once; '' where one is missing."""
        named = (channel.joint or "" for channel in self.action if channel.kind in JOINT_KINDS)
        return tuple(dict.fromkeys(named))
