from __future__ import annotations

import re
from pathlib import Path

import pytest

from qwen_vla_ros.cli.check import check


def test_a_good_file_is_shown_next_to_its_urdf(capsys: pytest.CaptureFixture[str]):
    assert check("aloha_sim") == 0
    shown = capsys.readouterr().out
    waist = next(line for line in shown.splitlines() if line.split()[:1] == ["left_waist"])
    for figure in ("-3.14 to 3.14", "-180 to 180", "-3.142 to 3.142", "115", "165 ms", "0.205"):
        assert figure in waist
    for word in ("cam_high", "joint_states", "left_arm_controller/joint_trajectory", "hash"):
        assert word in shown
    assert "The robot is ALOHA with dual arms. The control frequency is 50 Hz." in shown
    assert "It is not an emergency stop." in shown
    assert "…" not in shown


def test_a_base_is_shown_with_its_stop(capsys: pytest.CaptureFixture[str]):
    assert check("diffbot_sim") == 0
    shown = capsys.readouterr().out
    linear = next(line for line in shown.splitlines() if line.split()[:1] == ["linear"])
    assert "0.6 m/s" in linear
    assert "420 ms" in linear
    assert "0.132 m" in linear


def test_a_turned_joint_and_a_stop_heartbeat_are_shown(edit, capsys: pytest.CaptureFixture[str]):
    spec = "name: left_waist, kind: joint_position, unit: rad, joint: left_waist"
    edit("aloha_sim", spec, f"{spec}, scale: -1, offset: 0.5")
    last = "max_observation_age_s: 0.5"
    deadman = (
        "{name: deadman, topic: joy, type: sensor_msgs/msg/Joy, field: buttons.4, runs_when: 1, "
        "rate_hz: 20, max_age_s: 0.2}"
    )
    path = edit("aloha_sim", last, f"{last}\n  stop_heartbeat_s: 0.25\n  stops: [{deadman}]")
    assert check(str(path)) == 0
    shown = capsys.readouterr().out
    assert "left_waist * -1 +0.5" in shown
    assert "a stop input silent for 0.25 s stops the robot" in shown
    assert "Stop input 'deadman': joy stops the robot unless buttons.4 is 1, and when" in shown


def test_it_is_shown_how_an_image_is_fitted(edit, capsys: pytest.CaptureFixture[str]):
    seen = "input_height_px: 128\n    fit: crop"
    edit("aloha_sim", seen, "@")
    edit("aloha_sim", seen, "input_height_px: 96\n    fit: pad")
    path = edit("aloha_sim", seen, "input_height_px: 128\n    fit: stretch")
    path.write_text(path.read_text().replace("@", seen))
    assert check(str(path)) == 0
    shown = capsys.readouterr().out.splitlines()
    high, left, right = (
        next(line for line in shown if line.split()[:1] == [name])
        for name in ("cam_high", "cam_left_wrist", "cam_right_wrist")
    )
    assert "128 x 128, cropped" in high
    assert "128 x 96" in left
    assert "padded" not in left, "there is nothing to fit where the shape is the same"
    assert "128 x 128, stretched" in right


def test_a_history_is_shown_and_its_places_are_in_the_prompt(
    edit, capsys: pytest.CaptureFixture[str]
):
    seen = "input_height_px: 128"
    path = edit("diffbot_sim", seen, f"{seen}\n    history: {{frames: 3, spacing_s: 0.5}}")
    assert check(str(path)) == 0
    shown = capsys.readouterr().out
    assert "3 images, 0.5 s apart" in shown
    assert "<|ego_start|> <image> <image> <image> <image> <|ego_end|>" in shown


def test_a_state_that_is_told_is_shown_in_the_prompt(edit, capsys: pytest.CaptureFixture[str]):
    path = edit("aloha_sim", "arms: dual", "arms: dual\n  state_text: true")
    assert check(str(path)) == 0
    numbers = re.search(r"state: \[([\d, ]+)\]", capsys.readouterr().out)
    assert numbers is not None
    assert len(numbers[1].split(", ")) == 14


def test_a_bad_file_is_code_2_with_its_problems_and_nothing_else(
    edit, capsys: pytest.CaptureFixture[str]
):
    path: Path = edit("aloha_sim", "velocity: 2.0", "velocity: 5.0")
    assert check(str(path)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{path}:111: safety.joints.left_waist.velocity: 5 is above the URDF's")
    assert len(err.splitlines()) == 1


def test_a_profile_is_shown_with_the_limits_that_it_sets(capsys: pytest.CaptureFixture[str]):
    assert check("aloha_sim", "commissioning") == 0
    shown = capsys.readouterr().out
    waist = next(line for line in shown.splitlines() if line.split()[:1] == ["left_waist"])
    assert "0.5     commissioning" in waist
    tool = next(line for line in shown.splitlines() if line.split()[:1] == ["left_tool"])
    assert "0.25 m/s   commissioning" in tool
    assert "may touch: left_finger_link and table" in shown
    assert " pairs of links and boxes stay 0.02 m apart at every command" in shown


def test_a_profile_that_does_not_fit_is_refused(capsys: pytest.CaptureFixture[str]):
    assert check("diffbot_sim", "commissioning") == 2
    assert "safety.tools: absent, but profile 'commissioning'" in capsys.readouterr().err
    assert check("aloha_sim", "fast") == 2
    assert "unknown profile 'fast'. Known: commissioning, normal." in capsys.readouterr().err
