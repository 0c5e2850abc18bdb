from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen_vla_ros.embodiment.urdf import load_urdf
from qwen_vla_ros.errors import EmbodimentError

JOINT = """
<joint name="elbow" type="revolute">
  <parent link="base"/><child link="arm"/>
  <origin xyz="0 0 1" rpy="0 0 1.5707963267948966"/><axis xyz="0 0 2"/>
  <limit lower="-1" upper="2" velocity="3" effort="4"/>
</joint>"""
GOOD = f'<robot name="r"><link name="base"/><link name="arm"/>{JOINT}</robot>'
FOLLOWER = """
<link name="tip"/>
<joint name="follower" type="revolute">
  <parent link="arm"/><child link="tip"/>
  <limit lower="-1" upper="2" velocity="3" effort="4"/>
  <mimic joint="elbow" multiplier="-2" offset="0.5"/>
</joint></robot>"""
XACRO = '<robot name="r" xmlns:xacro="http://www.ros.org/wiki/xacro">{}<link name="base"/></robot>'


def write(folder: Path, text: str, name: str = "robot.urdf") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(EmbodimentError) as caught:
        load_urdf(path)
    return str(caught.value)


def test_a_joint_is_read_with_its_pose_axis_and_limits(tmp_path: Path):
    robot = load_urdf(write(tmp_path, GOOD))
    elbow = robot.joints["elbow"]
    assert (robot.name, robot.root, robot.links) == ("r", "base", ("base", "arm"))
    assert (elbow.lower, elbow.upper, elbow.velocity, elbow.effort) == (-1, 2, 3, 4)
    np.testing.assert_allclose(elbow.axis, [0, 0, 1])
    np.testing.assert_allclose(elbow.origin[:3, 3], [0, 0, 1])
    np.testing.assert_allclose(elbow.origin[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_a_continuous_joint_has_no_position_limits(tmp_path: Path):
    text = GOOD.replace("revolute", "continuous").replace('lower="-1" upper="2" ', "")
    joint = load_urdf(write(tmp_path, text)).joints["elbow"]
    assert (joint.lower, joint.upper, joint.velocity) == (-np.inf, np.inf, 3)


def test_a_mimic_joint_knows_its_leader(tmp_path: Path):
    robot = load_urdf(write(tmp_path, GOOD.replace("</robot>", FOLLOWER)))
    mimic = robot.joints["follower"].mimic
    assert (mimic.joint, mimic.multiplier, mimic.offset) == ("elbow", -2, 0.5)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("<robot", "<robo", "not well-formed XML: mismatched tag."),
        ("<link", "<:link", "not well-formed XML: "),
        ('<robot name="r">', "<robot>", "the <robot> has no name."),
        (GOOD, "", "not well-formed XML: no element found."),
        (GOOD, "<model/>", "the top element is <model>, not <robot>."),
        (GOOD, '<robot name="r"/>', "has no <link>."),
        ('<limit lower="-1" upper="2" velocity="3" effort="4"/>', "", "has no <limit>; a joint"),
        ("<limit ", '<limit lower="-9" upper="9"/><limit ', "has more than one <limit>."),
        ('lower="-1" ', "", "joint 'elbow': <limit> lower is missing."),
        ('velocity="3" ', "", "joint 'elbow': <limit> velocity is missing."),
        ('lower="-1"', 'lower="2"', "joint 'elbow': lower limit 2 is not below upper 2."),
        ('velocity="3"', 'velocity="0"', "joint 'elbow': velocity limit 0 must be above 0."),
        ('effort="4"', 'effort="-4"', "joint 'elbow': effort limit -4 must not be below 0."),
        ('upper="2"', 'upper="nan"', "joint 'elbow': <limit> upper 'nan' is not a finite number."),
        ('upper="2"', 'upper="1e999"', "<limit> upper '1e999' is not a finite number."),
        ('upper="2"', 'upper="1_0"', "<limit> upper '1_0' is not a finite number."),
        ('xyz="0 0 1"', 'xyz="0 inf 1"', "origin xyz '0 inf 1' is not three finite numbers."),
        ('xyz="0 0 1"', 'xyz="0 1"', "origin xyz '0 1' is not three finite numbers."),
        ('xyz="0 0 2"', 'xyz="0 0 0"', "joint 'elbow': the axis has no direction."),
        ('type="revolute"', 'type="hinge"', "joint 'elbow': unknown type 'hinge'. Known: cont"),
        (
            'parent link="base"',
            'parent link="bas"',
            "unknown parent link 'bas'. Did you mean 'base'",
        ),
        ("<parent link", "<parent lnk", "joint 'elbow': <parent> link is missing."),
        ('child link="arm"', 'child link="base"', "form a cycle."),
        ('name="arm"', 'name="base"', "link 'base' is defined twice."),
        (JOINT, JOINT + JOINT, "joint 'elbow' is defined twice."),
        (JOINT, JOINT + JOINT.replace("elbow", "knee"), "link 'arm' is the child of two joints."),
        (JOINT, "", "has 2 root links (base, arm); one is allowed."),
    ],
)
def test_a_broken_description_is_refused_in_a_sentence(
    tmp_path: Path, old: str, new: str, sentence: str
):
    assert old in GOOD
    assert sentence in refusal(write(tmp_path, GOOD.replace(old, new, 1)))


def test_a_cycle_beside_the_root_is_refused(tmp_path: Path):
    ring = "".join(
        f'<link name="{a}"/>'
        + JOINT.replace("elbow", f"to_{a}").replace('"base"', f'"{b}"').replace('"arm"', f'"{a}"')
        for a, b in (("x", "y"), ("y", "z"), ("z", "x"))
    )
    assert "the links x, y, z form a cycle." in refusal(
        write(tmp_path, GOOD.replace("</robot>", f"{ring}</robot>"))
    )


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('mimic joint="elbow"', 'mimic joint="elbw"', "mimics unknown joint 'elbw'. Did you mean"),
        ('mimic joint="elbow"', 'mimic joint="follower"', "mimics 'follower', which cannot lead"),
        ('multiplier="-2"', 'multiplier="x"', "<mimic> multiplier 'x' is not a finite number."),
    ],
)
def test_a_mimic_joint_without_a_proper_leader_is_refused(
    tmp_path: Path, old: str, new: str, sentence: str
):
    text = GOOD.replace("</robot>", FOLLOWER).replace(old, new)
    assert sentence in refusal(write(tmp_path, text))


@pytest.mark.parametrize("name", ["robot.urdf", "robot.xacro"])
@pytest.mark.parametrize(
    "prolog",
    [
        '<!DOCTYPE robot [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE robot SYSTEM "file:///etc/passwd">',
        '<?xml version="1.0"?>\n<!DOCTYPE robot [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    ],
)
def test_a_doctype_is_refused_before_it_is_expanded(tmp_path: Path, name: str, prolog: str):
    told = refusal(write(tmp_path, prolog + GOOD, name))
    assert "a DOCTYPE or ENTITY is not allowed in a robot description; remove it." in told


def test_other_encodings_are_refused(tmp_path: Path):
    declared = f'<?xml version="1.0" encoding="cp037"?>{GOOD}'
    assert "declares the encoding 'cp037'; use UTF-8." in refusal(write(tmp_path, declared))
    path = tmp_path / "utf16.urdf"
    path.write_bytes(GOOD.encode("utf-16"))
    assert "is not UTF-8 text." in refusal(path)


@pytest.mark.parametrize(
    ("inside", "sentence"),
    [
        ('<xacro:include filename="/etc/passwd"/>', "only the name of a file in the same folder"),
        ('<xacro:include filename="../other.xacro"/>', "only the name of a file in the same fold"),
        (
            '<xacro:include filename="$(find x)/a.xacro"/>',
            "only $(arg ...) substitutions are",
        ),
        ('<xacro:include filename="${name}"/>', "only the name of a file in the same folder"),
        ('<xacro:include filename="absent.xacro"/>', "absent.xacro: cannot be read: No such file"),
        ('<link name="$(env HOME)"/>', "only $(arg ...) substitutions are allowed."),
        ('<link name="${open(1).read()}"/>', "only arithmetic is allowed."),
        ('<link name="${xacro.load_yaml(1)}"/>', "only arithmetic is allowed."),
        ('<link name="${load_yaml(1)}"/>', "only arithmetic is allowed."),
        ('<link name="${(sin)(1)}"/>', "only arithmetic is allowed."),
        ("<a>$&#123;load_yaml(1)}</a>", "only arithmetic is allowed."),
        ('<link name="$&#123;load_yaml(1)}"/>', "only arithmetic is allowed."),
        ('<link name="${9**9**9}"/>', "only arithmetic is allowed."),
        ("<link name=\"${'a' * 3000000000}\"/>", "only arithmetic is allowed."),
        ("<link name=\"${'%01000000000d' % 3}\"/>", "only arithmetic is allowed."),
        ('<link name="${[1][0]}"/>', "only arithmetic is allowed."),
        ('<link name="${__import__(1)}"/>', "only arithmetic is allowed."),
        ('<link name="${absent}"/>', "xacro cannot expand it: name 'absent' is not defined"),
        ('<link name="${1/0}"/>', "xacro cannot expand it: division by zero"),
        ("<xacro:absent/>", "xacro cannot expand it: unknown macro name: xacro:absent"),
        (
            '<xacro:macro name="m"><xacro:m/></xacro:macro><xacro:m/>',
            "its macros make more than 20000 XML elements, or have no end.",
        ),
        ('<xacro:call macro="m"/>', "a macro can only be called by its own name"),
        ("<a>" * 100 + "</a>" * 100, "XML nested deeper than 64 levels."),
        ("<a/>" * 60_000, "more than 20000 XML elements."),
    ],
)
def test_a_xacro_file_cannot_reach_elsewhere_or_fail_with_a_traceback(
    tmp_path: Path, inside: str, sentence: str
):
    told = refusal(write(tmp_path, XACRO.format(inside), "robot.xacro"))
    assert sentence in told
    assert "\n" not in told


def nested(open_tag: str, levels: int, last: str) -> str:
    close_tag = open_tag.split()[0].replace("<", "</") + ">"
    return open_tag * levels + last + close_tag * levels


CALLS = "".join(
    f'<xacro:macro name="m{i}">' + f"<xacro:m{i + 1}/>" * 10 + "</xacro:macro>" for i in range(9)
)
BLOCKS = "".join(
    f'<xacro:property name="b{i}">'
    + f'<xacro:insert_block name="b{i + 1}"/>' * 10
    + "</xacro:property>"
    for i in range(9)
)
TWICE = (
    '<xacro:macro name="twice" params="**block">'
    + '<xacro:insert_block name="block"/>' * 2
    + "</xacro:macro>"
)
CHAIN = "".join(f'<xacro:macro name="c{i}"><xacro:c{i + 1}/></xacro:macro>' for i in range(2000))


@pytest.mark.slow
@pytest.mark.parametrize(
    "bomb",
    [
        CALLS + '<xacro:macro name="m9"><link name="x"/></xacro:macro><xacro:m0/>',
        BLOCKS + '<xacro:property name="b9"><a/></xacro:property><xacro:insert_block name="b0"/>',
        TWICE + nested("<xacro:twice>", 50, "<a/>"),
        CHAIN + '<xacro:macro name="c2000"><a/></xacro:macro><xacro:c0/>',
    ],
)
def test_a_file_that_would_grow_without_bounds_is_refused_unexpanded(tmp_path: Path, bomb: str):
    told = refusal(write(tmp_path, XACRO.format(bomb), "robot.xacro"))
    assert "its macros make more than 20000 XML elements, or have no end." in told


def test_files_that_include_each_other_are_refused(tmp_path: Path):
    write(tmp_path, XACRO.format('<xacro:include filename="robot.xacro"/>'), "other.xacro")
    include = '<xacro:include filename="other.xacro"/>'
    told = refusal(write(tmp_path, XACRO.format(include), "robot.xacro"))
    assert "xacro cannot expand it" in told


def test_what_is_too_large_is_refused(tmp_path: Path):
    assert "robot.urdf: larger than 4194304 bytes." in refusal(write(tmp_path, " " * 4_194_305))
    text = '<robot name="r">' + '<joint name="x"/>' * 1001 + "</robot>"
    assert "has 1001 joints; at most 1000 are read." in refusal(write(tmp_path, text))
    for i in range(40):
        write(tmp_path, XACRO.format(f'<xacro:include filename="f{i + 1}"/>'), f"f{i}")
    include = '<xacro:include filename="f0"/>'
    told = refusal(write(tmp_path, XACRO.format(include), "robot.xacro"))
    assert told.endswith("robot.xacro: includes more than 32 files.")


@pytest.mark.parametrize("name", ["part.xacro", "part.urdf"])
def test_an_included_file_is_held_to_the_same_rules(tmp_path: Path, name: str):
    write(tmp_path, XACRO.format('<link name="$(env HOME)"/>'), name)
    include = f'<xacro:include filename="{name}"/>'
    told = refusal(write(tmp_path, XACRO.format(include), "robot.xacro"))
    assert told.startswith(f"{tmp_path / name}:1: only $(arg ...)")


def test_the_same_robot_has_the_same_xml_wherever_it_lies(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    here = write(tmp_path, XACRO.format("<!-- a comment -->"), "robot.xacro")
    there = write(tmp_path / "elsewhere", XACRO.format("\n\n"), "robot.xacro")
    assert load_urdf(here).xml == load_urdf(there).xml


@pytest.mark.slow
@given(st.integers(0, len(GOOD)), st.integers(0, 30), st.text(max_size=8))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_description_loads_or_is_refused(tmp_path: Path, at: int, cut: int, put: str):
    path = tmp_path / "damaged.urdf"
    damaged = GOOD[:at] + put + GOOD[at + cut :]
    path.write_bytes(damaged.encode("utf-8", "surrogatepass"))
    try:
        load_urdf(path)
    except EmbodimentError as error:
        told = str(error)
    else:
        told = f"{path}: is good"
    assert told.startswith(f"{path}:")
