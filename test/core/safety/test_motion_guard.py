"""Two carts on one rail and a post: what is near is known without any of the gate's geometry."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.embodiment.profile import COMMISSIONING, NORMAL
from qwen_vla_ros.embodiment.schema import BoxSpec, CollisionSpec, ToolSpec, WorkspaceSpec
from qwen_vla_ros.embodiment.urdf import load_urdf
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.safety.motion_guard import MotionGuard
from qwen_vla_ros.safety.robot_gate import RobotGate

RADIUS, MARGIN, POST = 0.1, 0.05, 3.0
RAIL = """<robot name="rail"><link name="world"/>
{carts}</robot>"""
CART = """<link name="{side}"><collision><geometry><sphere radius="0.1"/></geometry>
</collision></link>
<link name="{side}_plate"/>
<joint name="{side}_rail" type="prismatic"><parent link="world"/><child link="{side}_plate"/>
<axis xyz="1 0 0"/><limit lower="-5" upper="5" velocity="9" effort="9"/></joint>
<joint name="{side}_lift" type="prismatic"><parent link="{side}_plate"/><child link="{side}"/>
<axis xyz="0 0 1"/><limit lower="-5" upper="5" velocity="9" effort="9"/></joint>"""
JOINTS = ("left_rail", "left_lift", "right_rail", "right_lift")


@pytest.fixture
def make(tmp_path: Path):
    def build(profile=NORMAL, *, cart=CART, has_tools=True, is_told=True, **collision):
        path = tmp_path / "rail.urdf"
        path.write_text(RAIL.format(carts="".join(cart.format(side=s) for s in ("left", "right"))))
        tools = {
            "nose": ToolSpec(
                link="left",
                point=(0.0, 0.5, 0.0),
                speed=2.0,
                workspace=WorkspaceSpec(lower=(-4.0, 0.0, -4.0), upper=(4.0, 1.0, 4.0)),
            )
        }
        spec = CollisionSpec(
            **{"margin": MARGIN, "surroundings": {}, **collision},
        )
        limits = {name: SimpleNamespace(lower=-5.0, upper=5.0, velocity=9.0) for name in JOINTS}
        safety = SimpleNamespace(
            joints=limits, collision=spec if is_told else None, tools=tools if has_tools else {}
        )
        command = SimpleNamespace(rate_hz=50.0)
        robot = SimpleNamespace(
            robot=load_urdf(path),
            joints=JOINTS,
            path="rail.yaml",
            file=SimpleNamespace(urdf="rail.urdf", safety=safety, command=command),
        )
        envelope = SimpleNamespace(
            velocity=np.full(4, 1.0), acceleration=np.full(4, 8.0), jerk=None
        )
        return MotionGuard(robot, envelope, profile)

    return build


def path(*commands: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(commands, dtype=float)


def gap(command: np.ndarray) -> float:
    return float(np.hypot(*(command[2:] - command[:2]))) - 2 * RADIUS


def test_a_way_that_ends_too_near_is_refused_and_names_both(make):
    guard = make()
    guard.begin(np.array([0, 0, 1.0, 0]))
    assert guard.judge(path((0, 0, 1, 0), (0.02, 0, 1, 0))) is None
    refusal = guard.judge(path((0, 0, 0.26, 0), (0.005, 0, 0.26, 0), (0.015, 0, 0.26, 0)))
    assert refusal is not None
    assert refusal.cause.name == "collision"
    assert refusal.cause.detail == (
        "'left' and 'right' would come as near as 0.045 m; 0.05 m are kept"
    )


def test_nothing_passes_through_another_between_two_commands(make):
    guard = make()
    guard.begin(np.array([0, 0, 1.0, 0]))
    assert gap(np.array([0, 0, 1, 0])) > MARGIN
    assert guard.judge(path((0, 0, 1, 0), (2, 0, 1, 0))) is not None


def test_what_starts_too_near_may_come_apart_and_no_nearer(make):
    guard = make()
    guard.begin(np.array([0, 0, 0.22, 0]))
    assert guard.judge(path((0, 0, 0.22, 0), (0, 0, 0.22, 0))) is None
    assert guard.judge(path((0, 0, 0.22, 0), (-0.01, 0, 0.22, 0), (-0.015, 0, 0.22, 0))) is None
    assert guard.judge(path((-0.01, 0, 0.22, 0), (-0.005, 0, 0.22, 0))) is not None
    # Creeping is coming nearer too.
    at = -0.01
    for _ in range(200):
        if guard.judge(path((at, 0, 0.22, 0), (at + 5e-6, 0, 0.22, 0))) is None:
            at += 5e-6
    assert at < -0.01 + 2e-5


def test_a_box_beside_the_robot_is_kept_away_from(make):
    post = {"post": BoxSpec(center=(POST, 0.0, 0.0), size=(0.2, 0.2, 0.2))}
    guard = make(surroundings=post)
    guard.begin(np.array([0, 0, 2.0, 0]))
    assert guard.judge(path((0, 0, 2.7, 0), (0, 0, 2.74, 0))) is None
    assert "'right' and 'post'" in guard.judge(path((0, 0, 2.7, 0), (0, 0, 2.76, 0))).cause.detail


def test_pairs_that_may_touch_are_not_watched(make):
    guard = make(may_touch=(("left", "right"),))
    assert not guard.solids.pairs
    guard.begin(np.zeros(4))
    assert guard.judge(path((0, 0, 1, 0), (0.02, 0, 1, 0))) is None


def test_a_tool_stays_in_its_workspace_and_may_come_back(make):
    guard = make()
    guard.begin(np.array([0, 0, 4.9, 4.0]))
    assert guard.judge(path((3.98, 0, -4, 4), (4.0, 0, -4, 4))) is None
    refusal = guard.judge(path((3.98, 0, -4, 4), (3.99, 0, -4, 4), (4.01, 0, -4, 4)))
    assert refusal.cause.name == "workspace"
    assert "tool 'nose' would leave its workspace at x 4.010, y 0.500" in refusal.cause.detail
    assert guard.judge(path((4.5, 0, -4, 4), (4.48, 0, -4, 4))) is None
    assert guard.judge(path((4.5, 0, -4, 4), (4.51, 0, -4, 4))) is not None


@pytest.mark.parametrize(("profile", "speed"), [(NORMAL, 2.0), (COMMISSIONING, 0.25)])
def test_a_tool_is_no_faster_than_the_least_of_file_and_profile(make, profile, speed):
    guard = make(profile)
    guard.begin(np.array([0, 0, 4.0, 0]))
    assert guard.judge(path((0, 0, 4, 0), (0.99 * speed / 50, 0, 4, 0))) is None
    refusal = guard.judge(path((0, 0, 4, 0), (1.25 * speed / 50, 0, 4, 0)))
    assert refusal.cause.name == "tool_speed"
    assert refusal.share == pytest.approx(0.99 / 1.25)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**31))
def test_a_path_that_is_allowed_is_free_all_along(seed):
    rng = np.random.default_rng(seed)
    guard = CARTS[0]
    commands = [rng.uniform(-0.6, 0.6, 4)]
    if gap(commands[0]) < MARGIN:
        return
    for _ in range(int(rng.integers(1, 6))):
        commands.append(commands[-1] + rng.uniform(-1, 1, 4) * 10 ** rng.uniform(-3, 0))
    guard.begin(commands[0])
    refusal = guard.judge(np.array(commands))
    if refusal is not None and refusal.cause.name != "collision":
        return
    between = [
        gap(a + s * (b - a))
        for a, b in itertools.pairwise(commands)
        for s in np.linspace(0, 1, 40)
    ]
    if refusal is None:
        assert min(between) >= MARGIN - 1e-4
    else:
        # It may refuse what one plane does not separate, but nothing that is far from all.
        assert min(between) < MARGIN + 1.0


CARTS: list[MotionGuard] = []


@pytest.fixture(autouse=True)
def _carts(make):
    if not CARTS:
        guard = make()
        guard._tools._speed[:] = np.inf
        CARTS.append(guard)


def test_a_file_that_says_nothing_of_collisions_is_refused(make):
    with pytest.raises(EmbodimentError, match=r"rail.yaml: safety.collision: absent"):
        make(is_told=False)


def test_a_robot_without_shapes_is_refused(make):
    bare = re.sub(r"<collision>.*?</collision>", "", CART, flags=re.DOTALL)
    with pytest.raises(EmbodimentError, match=r"no link that moves has a shape in rail.urdf"):
        make(cart=bare)


def test_a_shape_that_cannot_be_read_is_told_with_its_files(make):
    broken = CART.replace('<sphere radius="0.1"/>', '<sphere radius="-1"/>')
    with pytest.raises(EmbodimentError, match=r"rail.yaml: urdf: rail.urdf: "):
        make(cart=broken)


def test_without_tools_only_contacts_are_watched(make):
    guard = make(has_tools=False)
    guard.begin(np.array([0, 0, 1.0, 0]))
    # A tool would leave its workspace, and be too fast.
    assert guard.judge(path((0, 0, 1, 0), (0, 4.5, 1, 0))) is None


def test_a_margin_that_says_nothing_is_refused(edit_aloha):
    robot = load_embodiment(edit_aloha("margin: 0.02", "margin: 0.005"))
    with pytest.raises(EmbodimentError, match=r"safety.collision.margin: 0.005 m is less than"):
        RobotGate(robot)


@pytest.fixture
def edit_aloha(tmp_path: Path):
    root = Path(__file__).parents[3]

    def write(old: str, new: str) -> Path:
        text = (root / "config" / "embodiments" / "aloha_sim.yaml").read_text()
        assert old in text
        (tmp_path / "aloha_sim.yaml").write_text(text.replace(old, new, 1))
        return tmp_path / "aloha_sim.yaml"

    return write
