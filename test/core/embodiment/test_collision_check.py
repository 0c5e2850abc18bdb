from __future__ import annotations

import pytest

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import EmbodimentError

GRASP = "- [left_finger_link, left_finger_opposite_link]"
TABLE = "table: {center: [0.0, 0.6, -0.015], size: [1.22, 0.762, 0.03]}"
BOX = "workspace: {lower: [-0.45, 0.15, -0.02], upper: [0.3, 0.9, 0.6]}"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("margin: 0.02", "margin: 0", "safety.collision.margin: 0 must be above 0."),
        ("    margin: 0.02\n", "", "safety.collision.margin: is missing."),
        (
            GRASP,
            "- [left_fingr_link, table]",
            "safety.collision.may_touch[0]: unknown link or box 'left_fingr_link'. "
            "Did you mean 'left_finger_link'? Known:",
        ),
        (GRASP, "- [table, table]", "may_touch[0]: 'table' is one body; a pair is two."),
        (GRASP, f"{GRASP}\n      {GRASP}", "may_touch[1]: 'left_finger_link' and 'left_f"),
        (GRASP, "- [left_finger_link]", "safety.collision.may_touch[0]"),
        (TABLE, TABLE.replace("table", "left_wrist_link"), "is the name of a link; a box needs"),
        (TABLE, TABLE.replace("0.6,", "600,"), "table.center: 600 m is very far. Millimetres?"),
        (TABLE, TABLE.replace("1.22", "0"), "safety.collision.surroundings.table.size[0]: 0"),
        (
            "link: left_gripper_link",
            "link: left_griper_link",
            "safety.tools.left_tool.link: unknown link 'left_griper_link'. Did you mean",
        ),
        (
            BOX,
            BOX.replace("0.3,", "-0.5,"),
            "safety.tools.left_tool.workspace.lower: x: -0.45 is not below the upper -0.5.",
        ),
        ("speed: 1.0", "speed: 250", "left_tool.speed: 250 m/s is very fast. Millimetres?"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(edit, old, new, says):
    with pytest.raises(EmbodimentError) as caught:
        load_embodiment(edit("aloha_sim", old, new))
    assert says in str(caught.value)


def test_arms_say_what_must_not_touch(edit):
    path = edit("aloha_sim", "  collision:\n    margin: 0.02", "  collide:\n    margin: 0.02")
    with pytest.raises(EmbodimentError, match=r"safety.collide: unknown key. Did you mean"):
        load_embodiment(path)
    text = path.read_text()
    begin, end = text.index("  collide:"), text.index("  # Between the fingertips")
    path.write_text(text[:begin] + text[end:])
    with pytest.raises(EmbodimentError, match=r"safety.collision: is missing: arms keep their"):
        load_embodiment(path)


@pytest.mark.parametrize("key", ["collision: {margin: 0.01}", "tools: {eye: {link: base_link}}"])
def test_a_base_has_nothing_that_nobody_reads(edit, key):
    old = "  max_observation_age_s"
    path = edit("diffbot_sim", old, f"  {key}\n{old}")
    with pytest.raises(EmbodimentError, match="nothing would read it: no joint is commanded"):
        load_embodiment(path)
