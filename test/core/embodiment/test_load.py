from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen_vla_ros.embodiment.load import SEARCH_VARIABLE, find_embodiment, load_embodiment
from qwen_vla_ros.errors import EmbodimentError

ALOHA = (Path(__file__).parents[3] / "config" / "embodiments" / "aloha_sim.yaml").read_text()
WAIST = "left_waist:\n      {lower: -3.14, upper: 3.14, velocity: 2.0, acceleration: 16.0"
LAST = "max_observation_age_s: 0.5"
COMMAND = "rate_hz: 50\n  outputs"
LEFT = "left_waist, kind: joint_position, unit: rad, joint: left_waist}"
RIGHT_OUTPUT = "right_finger,\n      ]\n\nsafety"
SEEN = "input_height_px: 128"
BASE = "{linear_velocity: 1, angular_velocity: 1, linear_acceleration: 9, angular_acceleration: 9}"

STOPS = (
    "  stops:\n    - {name: estop, topic: /estop, type: std_msgs/msg/Bool, field: data, "
    "runs_when: false, rate_hz: 20, max_age_s: 0.2}\n"
)
JOY = (
    "    - {name: deadman, topic: joy, type: sensor_msgs/msg/Joy, field: buttons.4, "
    "runs_when: 1, rate_hz: 20, max_age_s: 0.2}\n"
)

# (what is replaced, by what, the sentence that its owner reads, with its dotted path)
BROKEN_ALOHA = {
    "unknown key": (
        "arms: dual",
        "arms: dual\n  wiast: true",
        "prompt.wiast: unknown key. Did you mean 'waist'? Known: action_horizon, arms,",
    ),
    "misspelt safety key": (
        WAIST,
        WAIST.replace("velocity", "velocty"),
        "safety.joints.left_waist.velocty: unknown key. Did you mean 'velocity'? Known: accel",
    ),
    "missing limit": (
        "acceleration: 16.0, ",
        "",
        "safety.joints.left_waist.acceleration: is missing.",
    ),
    "missing version": ("schema_version: 1\n", "", "schema_version: is missing."),
    "boolean version": (
        "schema_version: 1",
        "schema_version: true",
        "schema_version: true does not fit; a whole number is needed.",
    ),
    "future version": (
        "schema_version: 1",
        "schema_version: 2",
        "schema_version: 2 must be at most 1.",
    ),
    "wrong choice": (
        "arms: dual",
        "arms: both",
        "prompt.arms: 'both' is not allowed. Known: dual",
    ),
    "wrong type": (
        "velocity: 2.0",
        "velocity: fast",
        "velocity: 'fast' does not fit; a number is",
    ),
    "fraction of a pixel": (
        "width_px: 320",
        "width_px: 320.5",
        "cameras[0].width_px: 320.5 does not fit; a whole number is needed.",
    ),
    "block for a number": (
        "rate_hz: 15",
        "rate_hz: {a: 1}",
        "a block of keys does not fit; a num",
    ),
    "unquoted unit": (
        'unit: "1"',
        "unit: 1",
        'action[6].unit: 1 is a number here; put it in quotes: "1".',
    ),
    "tag in the tag": (
        "robot_tag: ALOHA",
        'robot_tag: "<|image|>"',
        "prompt.robot_tag: '<|image|>' holds a control character or one of < > |",
    ),
    "misspelt fit": (
        "fit: crop",
        "fit: letterbox",
        "cameras[0].fit: 'letterbox' is not allowed. Known: crop, pad, stretch.",
    ),
    "nearly a fit": (
        "fit: crop",
        "fit: stretchd",
        "cameras[0].fit: 'stretchd' is not allowed. Did you mean 'stretch'? Known: crop, pad",
    ),
    "misspelt history key": (
        SEEN,
        f"{SEEN}\n    history: {{frame: 2, spacing_s: 1}}",
        "cameras[0].history.frame: unknown key. Did you mean 'frames'? Known: frames, spacing_s.",
    ),
    "history without a spacing": (
        SEEN,
        f"{SEEN}\n    history: {{frames: 2}}",
        "cameras[0].history.spacing_s: is missing.",
    ),
    "long history": (
        SEEN,
        f"{SEEN}\n    history: {{frames: 9, spacing_s: 1}}",
        "cameras[0].history.frames: 9 must be at most 8.",
    ),
    "history of nothing": (
        SEEN,
        f"{SEEN}\n    history: {{frames: 0, spacing_s: 1}}",
        "cameras[0].history.frames: 0 must be at least 1.",
    ),
    "distant history": (
        SEEN,
        f"{SEEN}\n    history: {{frames: 2, spacing_s: 11}}",
        "cameras[0].history.spacing_s: 11 must be at most 10.",
    ),
    "history for a number": (
        SEEN,
        f"{SEEN}\n    history: 3",
        "cameras[0].history: 3 does not fit; a block of keys is needed.",
    ),
    "history denser than the camera": (
        SEEN,
        f"{SEEN}\n    history: {{frames: 2, spacing_s: 0.05}}",
        "cameras[0].history.spacing_s: 0.05 s is shorter than one period of 15 Hz: images would r",
    ),
    "state text in words": (
        "arms: dual",
        "arms: dual\n  state_text: always",
        "prompt.state_text: 'always' does not fit; true or false is needed.",
    ),
    "topic with a space": (
        "topic: joint_states",
        "topic: joint states",
        "state[0].topic: 'joint states' is no topic name. Allowed: words of letters,",
    ),
    "endless chunk": (
        "action_horizon: 16",
        "action_horizon: 1000000000",
        "prompt.action_horizon: 1000000000 must be at most 64.",
    ),
    "no cameras": (re.search(r"cameras:.*?\n\n", ALOHA, re.S)[0], "cameras: []\n\n", "too short"),
    "urdf elsewhere": (
        "urdf: aloha_sim.urdf.xacro",
        "urdf: ../aloha_sim.urdf.xacro",
        "urdf: '../aloha_sim.urdf.xacro' is no URDF file. Allowed: a file name without folder",
    ),
    "absent urdf": (
        "urdf: aloha_sim.urdf.xacro",
        "urdf: aloha_sin.urdf.xacro",
        "urdf: there is no file 'aloha_sin.urdf.xacro'. Did you mean 'aloha_sim.urdf.xacro'?",
    ),
    "unknown joint": (
        "joint: left_elbow}",
        "joint: left_elbw}",
        "action[2].joint: unknown joint 'left_elbw'. Did you mean 'left_elbow'? Known: left_el",
    ),
    "mimic joint": (
        "joint: left_elbow}",
        "joint: left_finger_opposite}",
        "joint 'left_finger_opposite' only follows 'left_finger'; command 'left_finger' instead.",
    ),
    "fixed joint": (
        "joint: left_elbow}",
        "joint: left_mount}",
        "action[2].joint: joint 'left_mount' is fixed and cannot be commanded.",
    ),
    "joint twice": (
        "joint: left_elbow}",
        "joint: left_waist}",
        "action[2].joint: 'left_waist' is already taken by action[0].joint.",
    ),
    "channel twice": (
        "name: left_elbow",
        "name: left_waist",
        "action[2].name: 'left_waist' is already taken by action[0].name.",
    ),
    "view twice": (
        "view: ego",
        "view: cam_left_wrist",
        "cameras[1].view: 'cam_left_wrist' is already taken by cameras[0].view.",
    ),
    "camera twice": (
        "name: cam_left_wrist",
        "name: cam_high",
        "cameras[1].name: 'cam_high' is already taken by cameras[0].name.",
    ),
    "topic twice": (
        "topic: left_arm_controller/joint_trajectory",
        "topic: /joint_states",
        "command.outputs[0].topic: 'joint_states' is already taken by state[0].topic.",
    ),
    "wrong unit": (
        LEFT,
        LEFT.replace("rad", "m"),
        "action[0].unit: 'm' does not fit a joint_position channel of joint 'left_waist'. Allow",
    ),
    "scale zero": (
        LEFT,
        LEFT.replace("}", ", scale: 0}"),
        "action[0].scale: 0 would freeze the joint; it must not be 0.",
    ),
    "scale of nothing": (
        LEFT,
        LEFT.replace("}", ", scale: 0.00001}"),
        "action[0].scale: 1e-05 lies between no two units of one quantity. Allowed: 0.001 to 1000",
    ),
    "enormous scale": (
        LEFT,
        LEFT.replace("}", ", scale: -4096000}"),
        "action[0].scale: -4.096e+06 lies between no two units of one quantity. Allowed: 0.001",
    ),
    "offset in degrees": (
        LEFT,
        LEFT.replace("}", ", offset: -90}"),
        "action[0].offset: -90 rad is more than a turn. Degrees? -90 deg is -1.5708 rad.",
    ),
    "unread key": (
        LEFT,
        LEFT.replace("}", ", open: 1}"),
        "action[0].open: a joint_position channel does not read it. Allowed: joint, scale, off",
    ),
    "gripper half told": (
        "closed: 0.021, ",
        "",
        "action[6].closed: is missing; a gripper channel needs it.",
    ),
    "gripper outside": (
        "closed: 0.021",
        "closed: 0.01",
        "action[6].closed: 0.01 is outside safety.joints.left_finger. Allowed: 0.021 to 0.057.",
    ),
    "gripper that does not open": (
        "closed: 0.021, open: 0.057",
        "closed: 0.03, open: 0.03",
        "action[6].open: is the same position as closed.",
    ),
    "degrees": (
        WAIST,
        WAIST.replace("-3.14", "-180"),
        "left_waist.lower: -180 rad is more than a turn. Degrees? -180 deg is -3.1416 rad.",
    ),
    "degrees per second": (
        WAIST,
        WAIST.replace("2.0", "115"),
        "left_waist.velocity: 115 rad/s is very fast. Degrees? 115 deg/s is 2.0071 rad/s.",
    ),
    "millimetres": (
        "lower: 0.021, upper: 0.057",
        "lower: 0.021, upper: 57",
        "left_finger.upper: 57 m is very far. Millimetres? 57 mm is 0.057 m.",
    ),
    "wider than the urdf": (
        WAIST,
        WAIST.replace("-3.14", "-3.2"),
        "left_waist.lower: -3.2 is outside the URDF's limits. Allowed: -3.14158 to 3.14158.",
    ),
    "faster than the urdf": (
        WAIST,
        WAIST.replace("2.0", "3.5"),
        "left_waist.velocity: 3.5 is above the URDF's limit. Allowed: up to 3.14159.",
    ),
    "lower above upper": (
        WAIST,
        WAIST.replace("-3.14", "3.15"),
        "left_waist.lower: 3.15 is not below the upper limit 3.14.",
    ),
    "too slow to stop": (
        WAIST,
        WAIST.replace("16.0", "8.0"),
        "a stop from 2 with 8 takes 0.290 s, more than 0.2 s. Allowed: an acceleration of at lea",
    ),
    "acceleration in degrees": (
        WAIST,
        WAIST.replace("16.0", "917"),
        "left_waist.acceleration: 917 rad/s^2 is more than a robot can do. Degrees? 917 deg/s^2 "
        "is 16.0047 rad/s^2. Allowed: up to 200.",
    ),
    "acceleration in millimetres": (
        "acceleration: 1.6, start_jump: 0.03",
        "acceleration: 1600, start_jump: 0.03",
        "left_finger.acceleration: 1600 m/s^2 is more than a robot can do. Millimetres? 1600 mm/s"
        "^2 is 1.6 m/s^2. Allowed: up to 50.",
    ),
    "endless acceleration": (
        WAIST,
        WAIST.replace("16.0", "1000000000.0"),
        "left_waist.acceleration: 1e+09 rad/s^2 is more than a robot can do. ",
    ),
    "zero acceleration": (
        WAIST,
        WAIST.replace("16.0", "0"),
        "safety.joints.left_waist.acceleration: 0 must be above 0.",
    ),
    "jump limit that never acts": (
        "start_jump: 0.03",
        "start_jump: 0.2",
        "left_finger.start_jump: 0.2 would never act: the whole range of the joint is 0.036.",
    ),
    "no limits": (
        re.search(r"    left_finger:\n.*\n", ALOHA)[0],
        "",
        "safety.joints: joint 'left_finger' is commanded but has no limits.",
    ),
    "limits of nobody": (
        "    left_finger:\n",
        "    left_fingr:\n",
        "left_fingr: nothing would read it: no channel commands this joint. Did you mean 'left_f",
    ),
    "time-out of nobody": (
        "command:\n",
        "command:\n  timeout_s: 0.2\n",
        "command.timeout_s: nothing would read it: no base is commanded.",
    ),
    "base limits of nobody": (
        LAST,
        f"{LAST}\n  base: {BASE}",
        "safety.base: nothing would read it: the action has no waypoint channels.",
    ),
    "safety key without value": (
        LAST,
        f"{LAST}\n  stop_heartbeat_s:",
        "safety.stop_heartbeat_s: has no value; give it one, or leave the key out.",
    ),
    "stop that never comes in time": (
        LAST,
        f"{LAST}\n{STOPS}".replace("max_age_s: 0.2", "max_age_s: 0.04"),
        "safety.stops[0].max_age_s: 0.04 s is shorter than one period of 20 Hz: every sample",
    ),
    "stop that is silent for long": (
        LAST,
        f"{LAST}\n{STOPS}".replace("max_age_s: 0.2", "max_age_s: 2"),
        "safety.stops[0].max_age_s: 2 must be at most 1.",
    ),
    "stop that need not be alive": (
        LAST,
        f"{LAST}\n{STOPS}".replace(", max_age_s: 0.2", ""),
        "safety.stops[0].max_age_s: is missing.",
    ),
    "stop of no polarity": (
        LAST,
        f"{LAST}\n{STOPS}".replace("runs_when: false", "runs_when: released"),
        "safety.stops[0].runs_when: 'released' is not allowed. Known: a whole number, fal",
    ),
    "stop without a field": (
        LAST,
        f"{LAST}\n{STOPS}".replace("field: data", "field: Data"),
        "safety.stops[0].field: 'Data' is no field of a message. Allowed: names and places",
    ),
    "stop of no type": (
        LAST,
        f"{LAST}\n{STOPS}".replace("std_msgs/msg/Bool", "std_msgs/Bool"),
        "safety.stops[0].type: 'std_msgs/Bool' is no message type. Allowed: package/msg/Name",
    ),
    "two stops of one name": (
        LAST,
        f"{LAST}\n{STOPS}{JOY}".replace("name: deadman", "name: estop"),
        "safety.stops[1].name: 'estop' is already taken by safety.stops[0].name.",
    ),
    "one stop topic of two types": (
        LAST,
        f"{LAST}\n{STOPS}{JOY}".replace("topic: joy", "topic: /estop"),
        "safety.stops[1].type: '/estop' is std_msgs/msg/Bool for another stop already.",
    ),
    "stop that the gate has anyway": (
        LAST,
        f"{LAST}\n{STOPS}".replace("topic: /estop", "topic: stop"),
        "safety.stops[0].topic: 'stop' is what every gate listens to: leave this stop out, and",
    ),
    "stop on the joint states": (
        LAST,
        f"{LAST}\n{STOPS}".replace("topic: /estop", "topic: joint_states"),
        "safety.stops[0].topic: 'joint_states' is that of a camera, state or output.",
    ),
    "command into the gate's own topic": (
        "topic: left_arm_controller/joint_trajectory",
        "topic: policy/output/action_chunk",
        "command.outputs[0].topic: 'policy/output/action_chunk' is not a controller's: this stack",
    ),
    "command into a camera": (
        "topic: left_arm_controller/joint_trajectory",
        "topic: cam_high/image_raw",
        "command.outputs[0].topic: 'cam_high/image_raw' is not a controller's: this stack",
    ),
    "endless observation": (LAST, "max_observation_age_s: 60", "60 must be at most 2."),
    "chunk that always ends early": (
        LAST,
        "max_observation_age_s: 0.1",
        "0.1 s would end every chunk early: the execution horizon and one step last 0.18 s.",
    ),
    "horizon beyond the chunk": (
        "execution_horizon: 8",
        "execution_horizon: 17",
        "prompt.execution_horizon: 17 rows cannot be played of the 16 that action_horizon pre",
    ),
    "slow gate": (
        COMMAND,
        COMMAND.replace("50", "20"),
        "command.rate_hz: 20 Hz would skip rows of a 50 Hz policy",
    ),
    "gate without time": (
        COMMAND,
        COMMAND.replace("50", "4"),
        "command.rate_hz: 4 Hz leaves no time to stop a joint within 0.2 s",
    ),
    "always stale": (
        "max_age_s: 0.2",
        "max_age_s: 0.01",
        "state[0].max_age_s: 0.01 s is shorter than one period of 50 Hz: every sample would be",
    ),
    "joint not sent": (
        RIGHT_OUTPUT,
        RIGHT_OUTPUT.replace("right_finger,", ""),
        "command.outputs: joint 'right_finger' is commanded but not sent by any entry.",
    ),
    "joint sent twice": (
        RIGHT_OUTPUT,
        RIGHT_OUTPUT.replace("right_finger", "right_finger, left_finger"),
        "'left_finger' is already taken by command.outputs[0].joints[6].",
    ),
    "joint not measured": (
        "left_wrist_rotate, left_finger,\n      right_waist",
        "left_wrist_rotate, right_waist",
        "state: joint 'left_finger' is commanded but not measured by any entry.",
    ),
    "arms on wheels": (
        "backend: joint_trajectory",
        "backend: twist",
        "command.outputs[0].backend: 'twist' cannot command joints. Allowed: forward_position,",
    ),
    "misspelt backend": (
        "backend: joint_trajectory",
        "backend: joint_trajectry",
        "command.outputs[0].backend: 'joint_trajectry' is not allowed. Did you mean 'joint_traj",
    ),
    "misspelt world": (
        "world: aloha_cell",
        "world: aloha_sell",
        "simulation.world: 'aloha_sell' is not allowed. Did you mean 'aloha_cell'? Known: aloha_",
    ),
    "odometry of arms": (
        "sensor_msgs/msg/JointState",
        "nav_msgs/msg/Odometry",
        "state[0].type: nothing reads it: joints need sensor_msgs/msg/JointState.",
    ),
    "state without joints": (
        re.search(r"    joints: \[\n(      .*\n)+    \]\n    rate", ALOHA)[0],
        "    rate",
        "state[0].joints: is missing; name what the JointState must hold.",
    ),
    "state of a stranger": (
        "left_wrist_rotate, left_finger,\n      right_waist",
        "left_wrist_rotate, left_finger, left_thumb,\n      right_waist",
        "state[0].joints[7]: unknown joint 'left_thumb'. ",
    ),
    "state of a fixed joint": (
        "left_wrist_rotate, left_finger,\n      right_waist",
        "left_wrist_rotate, left_finger, left_mount,\n      right_waist",
        "state[0].joints[7]: joint 'left_mount' is fixed; it has no state.",
    ),
    "list for a text": (
        "name: aloha_sim",
        "name: [a]",
        "name: a list does not fit; a text is need",
    ),
    "navigating arms": (
        "task: manipulation",
        "task: navigation",
        "prompt.task: 'navigation' does not fit: the action has no waypoint channels.",
    ),
    "no arms": ("arms: dual", "arms: none", "prompt.arms: manipulation needs an arm. Allowed: si"),
}

BROKEN_DIFFBOT = {
    "two x": (
        "dy, kind: waypoint_y",
        "dy, kind: waypoint_x",
        "a base has exactly the channels waypoint_x, waypoint_y, waypoint_yaw, in this order;",
    ),
    "base with an arm": (
        "unit: rad}",
        "unit: rad}\n  - {name: wheel, kind: joint_position, unit: rad, joint: left_wheel}",
        "Arms and a base are commanded by one file each.",
    ),
    "waypoint of a joint": (
        "unit: m}",
        "unit: m, joint: left_wheel}",
        "action[0].joint: a waypoint_x channel does not read it. It has no joint.",
    ),
    "turn in metres": (
        "unit: rad",
        "unit: m",
        "'m' does not fit a waypoint_yaw channel. Allowed:",
    ),
    "base without a base": (
        "mobile_base: true",
        "mobile_base: false",
        "prompt.mobile_base: navigation needs a mobile base: set it to true.",
    ),
    "no frame": ("      frame_id: base_link\n", "", "command.outputs[0].frame_id: is missing"),
    "unread frame": ("twist_stamped", "twist", "frame_id: a twist output does not read it."),
    "frame with markup": ("frame_id: base_link", "frame_id: '[red]'", "'[red]' is no frame name."),
    "wheels by trajectory": (
        "twist_stamped",
        "joint_trajectory",
        "'joint_trajectory' cannot command a base. Allowed: twist, twist_stamped.",
    ),
    "no odometry": (
        "nav_msgs/msg/Odometry",
        "sensor_msgs/msg/JointState",
        "state[0].type: nothing reads it: a base needs nav_msgs/msg/Odometry.",
    ),
    "slow stop": (
        "linear_acceleration: 1.5",
        "linear_acceleration: 0.5",
        "linear_acceleration: a stop from 0.6 with 0.5 takes 1.220 s, more than 1 s.",
    ),
    "millimetres per second": (
        "linear_velocity: 0.6",
        "linear_velocity: 600",
        "600 m/s is very fast. Millimetres? 600 mm/s is 0.6 m/s.",
    ),
    "degrees per second": (
        "angular_velocity: 1.5",
        "angular_velocity: 86",
        "86 rad/s is very fast. Degrees? 86 deg/s is 1.5010 rad/s.",
    ),
    "acceleration of a wheel in millimetres": (
        "linear_acceleration: 1.5",
        "linear_acceleration: 1500",
        "linear_acceleration: 1500 m/s^2 is more than a robot can do. Millimetres? 1500 mm/s^2 is "
        "1.5 m/s^2. Allowed: up to 10.",
    ),
    "acceleration of a turn in degrees": (
        "angular_acceleration: 5.0",
        "angular_acceleration: 286",
        "angular_acceleration: 286 rad/s^2 is more than a robot can do. Degrees? 286 deg/s^2 is 4",
    ),
    "state text of a base": (
        "mobile_base: true",
        "mobile_base: true\n  state_text: true",
        "prompt.state_text: true does not fit: the state of a base is its odometry's pose, which ",
    ),
    "two odometries": (
        "state:\n",
        "state:\n  - {topic: odom2, type: nav_msgs/msg/Odometry, rate_hz: 50, max_age_s: 0.1}\n",
        "state: a base has exactly one Odometry; two could disagree.",
    ),
    "a time-out shorter than two commands": (
        "command:\n",
        "command:\n  timeout_s: 0.03\n",
        "command.timeout_s: 0.03 s would stop the base between two commands at 50 Hz.",
    ),
    "too few commands to notice that they cease": (
        "rate_hz: 50\n  outputs",
        "rate_hz: 8\n  outputs",
        "command.rate_hz: 8 Hz is too slow to notice in time that commands cease; a base needs at",
    ),
    "two outputs": (
        "outputs:\n",
        "outputs:\n    - {backend: twist, topic: cmd_vel}\n",
        "command.outputs: a base has exactly one output.",
    ),
    "no base limits": (
        re.search(
            r"  base:\n(    .*\n)+",
            (Path(__file__).parents[3] / "config/embodiments/diffbot_sim.yaml").read_text(),
        )[0],
        "",
        "safety.base: is missing; waypoint channels need it.",
    ),
}


def refusal(path: Path) -> str:
    with pytest.raises(EmbodimentError) as caught:
        load_embodiment(path)
    return str(caught.value)


@pytest.mark.parametrize("case", BROKEN_ALOHA)
def test_a_mistake_in_the_arms_file_is_told_in_a_sentence_with_its_line(edit, case: str):
    old, new, sentence = BROKEN_ALOHA[case]
    path = edit("aloha_sim", old, new)
    told = [line for line in refusal(path).splitlines() if sentence in line]
    assert told, refusal(path)
    assert re.match(rf"{re.escape(str(path))}:\d+: ", told[0])


@pytest.mark.parametrize("case", BROKEN_DIFFBOT)
def test_a_mistake_in_the_base_file_is_told_in_a_sentence_with_its_line(edit, case: str):
    old, new, sentence = BROKEN_DIFFBOT[case]
    path = edit("diffbot_sim", old, new)
    told = [line for line in refusal(path).splitlines() if sentence in line]
    assert told, refusal(path)
    assert re.match(rf"{re.escape(str(path))}:\d+: ", told[0])


def test_the_line_is_that_of_the_mistake(edit):
    path = edit("aloha_sim", "joint: left_elbow}", "joint: left_elbw}")
    lines = path.read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if "left_elbw" in line)
    assert refusal(path).startswith(f"{path}:{number}: action[2].joint: ")


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(edit):
    edit("aloha_sim", "view: ego", "view: cam_left_wrist")
    edit("aloha_sim", "max_age_s: 0.2", "max_age_s: 0.01")
    told = refusal(edit("aloha_sim", "acceleration: 16.0", "acceleration: 1.0")).splitlines()
    assert [re.search(r": ([a-z]+)", line)[1] for line in told] == ["cameras", "state", "safety"]


def test_a_misspelt_joint_is_one_mistake_and_not_five(edit):
    told = refusal(edit("aloha_sim", "joint: left_elbow}", "joint: left_elbw}"))
    assert len(told.splitlines()) == 1


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path):
    path = tmp_path / "text.yaml"
    path.write_text("robot\n")
    assert refusal(path) == f"{path}:1: 'robot' does not fit; a block of keys is needed."


def test_a_robot_is_found_by_name_and_an_unknown_one_is_told():
    assert find_embodiment("aloha_sim").name == "aloha_sim.yaml"
    with pytest.raises(EmbodimentError, match=r"unknown robot 'aloha'\. Did you mean 'aloha_sim'"):
        find_embodiment("aloha")
    with pytest.raises(EmbodimentError, match=r"/absent\.yaml: there is no such file"):
        find_embodiment("/absent.yaml")


def test_the_users_folder_goes_before_the_known_robots(workspace: Path, monkeypatch):
    folder = workspace / "config" / "embodiments"
    monkeypatch.setenv(SEARCH_VARIABLE, f"/absent:{folder}")
    assert find_embodiment("aloha_sim") == folder / "aloha_sim.yaml"
    assert load_embodiment("aloha_sim").path == folder / "aloha_sim.yaml"


def test_an_installed_package_is_found_and_brings_its_urdf(workspace: Path, monkeypatch):
    share = workspace / "prefix" / "share" / "qwen_vla"
    (share / "config" / "embodiments").mkdir(parents=True)
    source = workspace / "config" / "embodiments" / "diffbot_sim.yaml"
    text = source.read_text().replace("name: diffbot_sim", "name: installed")
    (share / "config" / "embodiments" / "installed.yaml").write_text(text)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{workspace / 'prefix'}:/absent")
    assert load_embodiment("installed").name == "installed"


@pytest.mark.slow
def test_the_hash_is_of_the_data_and_not_of_its_place_or_comments(workspace: Path, edit):
    here = load_embodiment("aloha_sim").hash
    assert re.fullmatch("[0-9a-f]{16}", here)
    copy = workspace / "config" / "embodiments" / "aloha_sim.yaml"
    assert load_embodiment(copy).hash == here
    assert (
        load_embodiment(edit("aloha_sim", "schema_version: 1", "# !\nschema_version:  1")).hash
        == here
    )


@pytest.mark.slow
def test_the_hash_changes_with_a_limit_and_with_the_urdf(workspace: Path, edit):
    path = workspace / "config" / "embodiments" / "aloha_sim.yaml"
    before = load_embodiment(path).hash
    arm = workspace / "urdf" / "vx300s.urdf.xacro"
    arm.write_text(arm.read_text().replace("0.069744", "0.07"))
    longer_wrist = load_embodiment(path).hash
    slower = load_embodiment(edit("aloha_sim", "velocity: 2.0", "velocity: 1.9")).hash
    assert len({before, longer_wrist, slower}) == 3


LINES = ALOHA.splitlines(keepends=True)


@pytest.mark.slow
@given(
    st.integers(0, len(LINES) - 1),
    st.sampled_from(["drop", "twice", "swap", "number", "word", "sign"]),
    st.integers(0, len(LINES) - 1),
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_damaged_file_loads_or_is_refused_in_sentences(
    workspace: Path, line: int, damage: str, other: int
):
    lines = list(LINES)
    if damage == "drop":
        del lines[line]
    elif damage == "twice":
        lines.insert(other, lines[line])
    elif damage == "swap":
        lines[line], lines[other] = lines[other], lines[line]
    elif damage == "number":
        lines[line] = re.sub(r"\d+(\.\d+)?", "1000000", lines[line])
    elif damage == "word":
        lines[line] = re.sub(r"[a-z_]+", "word", lines[line])
    else:
        lines[line] = re.sub(r"(\d)", r"-\1", lines[line], count=1)
    path = workspace / "config" / "embodiments" / "damaged.yaml"
    path.write_text("".join(lines))
    try:
        load_embodiment(path)
    except EmbodimentError as error:
        for sentence in str(error).splitlines():
            assert sentence.startswith(f"{path}:")
            assert sentence.endswith(".")


def test_a_file_may_name_several_stops_and_two_on_one_topic(edit):
    red = JOY.replace("deadman", "red").replace("buttons.4", "buttons.1").replace(": 1,", ": 0,")
    robot = load_embodiment(edit("aloha_sim", LAST, f"{LAST}\n{STOPS}{JOY}{red}"))
    stops = robot.file.safety.stops
    assert [stop.name for stop in stops] == ["estop", "deadman", "red"]
    assert [stop.runs_when for stop in stops] == [False, 1, 0]
