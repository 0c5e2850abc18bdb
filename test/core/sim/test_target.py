"""Which object an instruction is about."""

import pytest

from qwen_vla_ros.sim.target import named_object

CUBES = ("red_cube", "blue_cube", "yellow_cube")
THINGS = ("red_ball", "red_box", "blue_ball", "green_box")


@pytest.mark.parametrize(
    ("instruction", "target"),
    [
        ("transfer the red cube to the left gripper", "red_cube"),
        ("Hand over the BLUE Block.", "blue_cube"),
        ("put the yellow cube next to the red cube", "yellow_cube"),
        ("hand over the red one", "red_cube"),
        ("give me the yellow", "yellow_cube"),
    ],
)
def test_an_instruction_names_its_cube(instruction, target):
    assert named_object(instruction, CUBES) == target


def test_colour_and_noun_must_belong_together():
    assert named_object("go to the red box, not to the blue ball", THINGS) == "red_box"
    assert named_object("go to the green ball", THINGS) == ""


def test_a_colour_alone_must_be_unambiguous():
    assert named_object("go to the red thing", THINGS) == ""
    assert named_object("go to the green thing", THINGS) == "green_box"


@pytest.mark.parametrize("instruction", ["", "do something", "get the purple cube", "redcube"])
def test_what_is_not_there_is_no_target(instruction):
    assert named_object(instruction, CUBES) == ""


def test_an_empty_scene_has_no_target():
    assert named_object("transfer the red cube", ()) == ""
