from __future__ import annotations

import pytest

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.embodiment.profile import COMMISSIONING, NORMAL, PROFILES, Limit, find_profile
from qwen_vla_ros.embodiment.schema import ToolSpec
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.options import PROFILES as OFFERED

ALOHA, DIFFBOT = load_embodiment("aloha_sim"), load_embodiment("diffbot_sim")


def test_what_is_offered_is_what_there_is():
    assert tuple(PROFILES) == OFFERED
    assert find_profile("commissioning") is COMMISSIONING
    with pytest.raises(EmbodimentError, match=r"'commission'. Did you mean 'commissioning'"):
        find_profile("commission")


@pytest.mark.parametrize("profile", PROFILES.values())
@pytest.mark.parametrize("joint", ALOHA.joints)
def test_a_profile_never_widens_a_limit(profile, joint):
    limit = profile.velocity(ALOHA, joint)
    assert limit.value <= ALOHA.file.safety.joints[joint].velocity
    assert limit.value <= ALOHA.robot.joints[joint].velocity
    for tool in ALOHA.file.safety.tools.values():
        assert profile.tool_speed(tool).value <= tool.speed


def test_every_limit_says_who_set_it(edit):
    assert NORMAL.velocity(ALOHA, "left_waist") == Limit(2.0, "file")
    assert COMMISSIONING.velocity(ALOHA, "left_waist") == Limit(0.5, "commissioning")
    assert COMMISSIONING.velocity(ALOHA, "left_finger") == Limit(0.05, "commissioning")
    tool = ALOHA.file.safety.tools["left_tool"]
    assert NORMAL.tool_speed(tool) == Limit(1.0, "file")
    assert COMMISSIONING.tool_speed(tool) == Limit(0.25, "commissioning")
    slow = load_embodiment(edit("aloha_sim", "velocity: 2.0", "velocity: 0.3"))
    assert COMMISSIONING.velocity(slow, "left_waist") == Limit(0.3, "file")
    assert NORMAL.tool_speed(ToolSpec(link="any")).source == "-"


def test_a_robot_without_tools_is_not_commissioned():
    NORMAL.require_tools(DIFFBOT)
    COMMISSIONING.require_tools(ALOHA)
    with pytest.raises(EmbodimentError, match=r"safety.tools: absent, but profile 'commission"):
        COMMISSIONING.require_tools(DIFFBOT)
