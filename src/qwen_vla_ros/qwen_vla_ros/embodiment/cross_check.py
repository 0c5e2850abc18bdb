"""Does the file agree with itself and with the robot description? Every disagreement is reported.

Checks of single values live in `schema`.
"""

from __future__ import annotations

from qwen_vla_ros.embodiment.channels_check import check_channels, check_outputs, check_sources
from qwen_vla_ros.embodiment.collision_check import check_collision
from qwen_vla_ros.embodiment.limits_check import check_limits
from qwen_vla_ros.embodiment.openpi import check_openpi
from qwen_vla_ros.embodiment.schema import WAYPOINT_KINDS, EmbodimentFile
from qwen_vla_ros.embodiment.urdf import Urdf
from qwen_vla_ros.problems import Loc, Problems

STOP_TOPIC = "stop"
"""What bringup calls the stop input that every gate has."""


def cross_check(file: EmbodimentFile, robot: Urdf, problems: Problems) -> None:
    """Add a sentence to `problems` for everything that does not fit together."""
    _check_names(file, problems)
    _check_task(file, problems)
    _check_timing(file, problems)
    check_channels(file, robot, problems)
    check_sources(file, robot, problems)
    check_outputs(file, robot, problems)
    check_limits(file, robot, problems)
    check_collision(file, robot, problems)
    check_openpi(file, problems)


def _check_names(file: EmbodimentFile, problems: Problems) -> None:
    cameras = list(enumerate(file.cameras))
    problems.refuse_twice(((("cameras", i, "name"), c.name) for i, c in cameras))
    problems.refuse_twice(((("cameras", i, "view"), c.view) for i, c in cameras))
    problems.refuse_twice(
        ((("cameras", i, "frame_id"), c.frame_id) for i, c in cameras if c.frame_id)
    )
    channels = enumerate(file.action)
    problems.refuse_twice(((("action", i, "name"), c.name) for i, c in channels))
    # `/joint_states` and `joint_states` are one topic unless a namespace is given.
    topics: list[tuple[Loc, str]] = [
        *((("cameras", i, "topic"), c.topic.lstrip("/")) for i, c in cameras),
        *((("state", i, "topic"), s.topic.lstrip("/")) for i, s in enumerate(file.state)),
        *(
            (("command", "outputs", i, "topic"), o.topic.lstrip("/"))
            for i, o in enumerate(file.command.outputs)
        ),
    ]
    problems.refuse_twice(topics)
    _check_stops(file, {topic for _, topic in topics}, problems)


def _check_stops(file: EmbodimentFile, others: set[str], problems: Problems) -> None:
    stops = list(enumerate(file.safety.stops))
    problems.refuse_twice(((("safety", "stops", i, "name"), stop.name) for i, stop in stops))
    types: dict[str, str] = {}
    for i, stop in stops:
        loc: Loc = ("safety", "stops", i)
        topic = stop.topic.lstrip("/")
        if topic in others:
            problems.add((*loc, "topic"), f"'{stop.topic}' is that of a camera, state or output.")
        if topic == STOP_TOPIC:
            problems.add(
                (*loc, "topic"),
                f"'{stop.topic}' is what every gate listens to: leave this stop out, and give "
                "safety.stop_heartbeat_s if that topic is never silent.",
            )
        if types.setdefault(topic, stop.type) != stop.type:
            problems.add(
                (*loc, "type"), f"'{stop.topic}' is {types[topic]} for another stop already."
            )


def _check_task(file: EmbodimentFile, problems: Problems) -> None:
    prompt = file.prompt
    kinds = [channel.kind for channel in file.action]
    if file.moves_base and tuple(kinds) != WAYPOINT_KINDS:
        problems.add(
            ("action",),
            f"a base has exactly the channels {', '.join(WAYPOINT_KINDS)}, in this order; "
            f"found {', '.join(kinds)}. Arms and a base are commanded by one file each.",
        )
    if file.moves_base != (prompt.task == "navigation"):
        having = "has" if file.moves_base else "has no"
        problems.add(
            ("prompt", "task"),
            f"'{prompt.task}' does not fit: the action {having} waypoint channels. "
            "Navigation is waypoints, manipulation is joints.",
        )
    if prompt.task == "navigation" and not prompt.mobile_base:
        problems.add(("prompt", "mobile_base"), "navigation needs a mobile base: set it to true.")
    if prompt.task == "manipulation" and prompt.arms == "none":
        problems.add(("prompt", "arms"), "manipulation needs an arm. Allowed: single, dual.")
    if prompt.state_text and file.moves_base:
        problems.add(
            ("prompt", "state_text"),
            "true does not fit: the state of a base is its odometry's pose, which begins anywhere "
            "and has no range to cut into 256 parts. Allowed: false.",
        )


def _check_timing(file: EmbodimentFile, problems: Problems) -> None:
    prompt = file.prompt
    if prompt.execution_horizon > prompt.action_horizon:
        problems.add(
            ("prompt", "execution_horizon"),
            f"{prompt.execution_horizon} rows cannot be played of the {prompt.action_horizon} "
            "that action_horizon predicts.",
        )
    if file.command.rate_hz < prompt.control_frequency_hz:
        problems.add(
            ("command", "rate_hz"),
            f"{file.command.rate_hz:g} Hz would skip rows of a {prompt.control_frequency_hz:g} Hz "
            "policy; it must be at least prompt.control_frequency_hz.",
        )
    needed = (prompt.execution_horizon + 1) / prompt.control_frequency_hz
    if file.safety.max_observation_age_s < needed - 1e-9:
        problems.add(
            ("safety", "max_observation_age_s"),
            f"{file.safety.max_observation_age_s:g} s would end every chunk early: the execution "
            f"horizon and one step last {needed:g} s.",
        )
    streams: list[tuple[Loc, float, float]] = [
        (("cameras", i), c.rate_hz, c.max_age_s) for i, c in enumerate(file.cameras)
    ]
    streams += [(("state", i), s.rate_hz, s.max_age_s) for i, s in enumerate(file.state)]
    stops = enumerate(file.safety.stops)
    streams += [(("safety", "stops", i), s.rate_hz, s.max_age_s) for i, s in stops]
    for loc, rate_hz, max_age_s in streams:
        if max_age_s < 1 / rate_hz:
            problems.add(
                (*loc, "max_age_s"),
                f"{max_age_s:g} s is shorter than one period of {rate_hz:g} Hz: every sample "
                "would be stale.",
            )
    for i, camera in enumerate(file.cameras):
        period = 1 / camera.rate_hz
        if camera.history is not None and camera.history.spacing_s < period:
            problems.add(
                ("cameras", i, "history", "spacing_s"),
                f"{camera.history.spacing_s:g} s is shorter than one period of "
                f"{camera.rate_hz:g} Hz: images would repeat. Allowed: at least {period:.3g}.",
            )
