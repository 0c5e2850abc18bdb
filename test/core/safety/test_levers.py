from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.embodiment.kinematics import Kinematics
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.safety.levers import Levers

ALOHA = load_embodiment("aloha_sim")
LEVERS = Levers(ALOHA.robot, ALOHA.joints)
KINEMATICS = Kinematics(ALOHA.robot.xml)
LIMITS = [ALOHA.file.safety.joints[joint] for joint in ALOHA.joints]
LINKS = [link for link in ALOHA.robot.links if link.startswith(("left_", "right_"))]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**31))
def test_no_point_of_a_link_moves_further_than_its_levers_say(seed):
    rng = np.random.default_rng(seed)
    lower = np.array([limit.lower for limit in LIMITS])
    upper = np.array([limit.upper for limit in LIMITS])
    here = rng.uniform(lower, upper)
    there = np.clip(here + rng.uniform(-1, 1, len(here)) * 10 ** rng.uniform(-3, 0), lower, upper)
    link = str(rng.choice(LINKS))
    point = rng.uniform(-0.2, 0.2, 3)
    ways = []
    for values in (here, there):
        positions = dict(zip(ALOHA.joints, values, strict=True))
        ways.append(KINEMATICS.pose(positions, link, point)[:3, 3])
    bound = LEVERS.of(link, float(np.linalg.norm(point))) @ np.abs(there - here)
    assert np.linalg.norm(ways[1] - ways[0]) <= bound + 1e-9


def test_what_does_not_carry_a_link_does_not_move_it():
    levers = dict(zip(ALOHA.joints, LEVERS.of("left_wrist_link", 0.1), strict=True))
    assert levers["right_waist"] == levers["left_wrist_rotate"] == levers["left_finger"] == 0
    assert levers["left_wrist_angle"] == 0.1
    assert levers["left_waist"] > levers["left_elbow"] > 0
    # A finger that mimics the other moves as that one is commanded.
    opposite = dict(zip(ALOHA.joints, LEVERS.of("left_finger_opposite_link", 0.1), strict=True))
    assert opposite["left_finger"] == 1
