"""Scripted experts: within the envelope, without seams, by measurement, and they succeed."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import EmbodimentError, InstructionError
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.sim.expert import load_expert
from qwen_vla_ros.sim.robot import SimulatedArms
from qwen_vla_ros.sim.rollout import BEGIN_NS, run_episode
from qwen_vla_ros.types import Observation

STEP_NS = 20_000_000


@pytest.fixture
def aloha_expert(aloha):
    return load_expert(aloha)


@pytest.fixture
def room_expert(diffbot):
    return load_expert(diffbot)


class Recorder:
    """Keeps every observation and chunk of a policy."""

    def __init__(self, policy):
        self.policy = policy
        self.chunks = []
        self.observations = []

    def reset(self):
        self.policy.reset()

    def infer(self, observation, prompt, committed=None):
        chunk = self.policy.infer(observation, prompt, committed)
        self.observations.append(observation)
        self.chunks.append(chunk)
        return chunk


def observe(embodiment, robot, stamp_ns=1_000_000_000):
    state = (
        embodiment.channels_from_joints(robot.measured(embodiment.joints))
        if isinstance(robot, SimulatedArms)
        else robot.controller.odometry.pose
    )
    return Observation(stamp_ns=stamp_ns, images={}, state=state, scene=robot.world.objects())


@pytest.mark.slow
def test_experts_do_not_need_the_physics_engine():
    code = (
        "import sys; from qwen_vla_ros.embodiment.load import load_embodiment as load;"
        "from qwen_vla_ros.sim.expert import load_expert;"
        "[load_expert(load(name)) for name in ('aloha_sim', 'diffbot_sim')];"
        "sys.exit('mujoco' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_there_is_no_expert_for_a_robot_that_is_not_simulated(aloha):
    file = aloha.file.model_copy(update={"simulation": None})
    with pytest.raises(EmbodimentError, match="no 'simulation' section"):
        load_expert(Embodiment(file=file, path=aloha.path, robot=aloha.robot))


def test_an_object_that_is_not_there_is_refused_with_those_that_are(aloha, arms, aloha_expert):
    arms.reset(0)
    prompt = build_prompt(aloha, "transfer the purple cube to the left gripper")
    with pytest.raises(InstructionError, match="blue_cube, red_cube, yellow_cube"):
        aloha_expert.infer(observe(aloha, arms), prompt)


def test_a_thing_that_is_not_there_is_refused_too(diffbot, room_expert):
    observation = Observation(stamp_ns=1, images={}, state=np.zeros(3))
    with pytest.raises(InstructionError, match="In the room: nothing"):
        room_expert.infer(observation, build_prompt(diffbot, "go to the red ball"))


@pytest.mark.slow
def test_the_hand_over_succeeds_within_the_envelope_and_without_seams(aloha, arms, aloha_expert):
    recorder = Recorder(aloha_expert)
    outcome = run_episode(aloha, arms, recorder, seed=3, time_limit_s=20)
    assert outcome.success
    assert outcome.commands_limited == 0
    limits = [aloha.file.safety.joints[joint] for joint in aloha.joints]
    speed = np.array([limit.velocity for limit in limits])
    acceleration = np.array([limit.acceleration for limit in limits])
    moving = [chunk for chunk in recorder.chunks if not chunk.rest]
    for chunk in moving:
        rows = aloha.joints_from_channels(chunk.actions)
        assert rows.shape == (16, 14)
        assert np.all(np.abs(np.diff(rows, axis=0)) / chunk.dt <= speed)
        assert np.all(np.abs(np.diff(rows, 2, axis=0)) / chunk.dt**2 <= acceleration + 1e-6)
    # Chunks that were seen before the robot moved are played later than their stamps say.
    for old, new in pairwise(moving[2:]):
        # What is played of the new chunk first continues what was played of the old one last.
        at = (new.stamp_ns + 5 * STEP_NS - old.stamp_ns) / STEP_NS
        if at <= 14:
            low = int(at)
            there = old.actions[low] + (at - low) * (old.actions[low + 1] - old.actions[low])
            assert new.actions[5] == pytest.approx(there, abs=1e-6)
    assert recorder.chunks[-1].rest


@pytest.mark.slow
def test_being_asked_twice_about_one_observation_changes_nothing(aloha, arms, aloha_expert):
    class Insistent:
        reset = aloha_expert.reset

        def infer(self, observation, prompt, committed=None):
            for _ in range(20):
                aloha_expert.infer(observation, prompt, committed)
            return aloha_expert.infer(observation, prompt, committed)

    outcome = run_episode(aloha, arms, Insistent(), seed=2, time_limit_s=20)
    assert outcome.success
    assert outcome.commands_limited == 0


@pytest.mark.slow
def test_the_other_cubes_stay_where_they_are(aloha, arms, aloha_expert):
    arms.reset(5)
    before = arms.world.objects()
    outcome = run_episode(aloha, arms, aloha_expert, seed=5, time_limit_s=20)
    asked = arms.world.judge(outcome.instruction).target
    for name in before.keys() - {asked}:
        assert arms.world.objects()[name][:3] == pytest.approx(before[name][:3], abs=0.003)


@pytest.mark.slow
def test_a_robot_that_is_stopped_waits_and_then_goes_on(aloha, arms, aloha_expert):
    recorder = Recorder(aloha_expert)
    outcome = run_episode(
        aloha, arms, recorder, seed=4, time_limit_s=25, is_stopped=lambda t: 2.0 < t < 4.5
    )
    assert outcome.success
    jump = np.array([aloha.file.safety.joints[joint].start_jump for joint in aloha.joints])
    held = [
        np.abs(aloha.joints_from_channels(chunk.actions - observation.state)) / jump
        for chunk, observation in zip(recorder.chunks, recorder.observations, strict=True)
        if 3.2e9 < observation.stamp_ns - BEGIN_NS < 4.4e9
    ]
    # While nothing moves, a plan stays so near that a gate may take it up again at any time.
    assert len(held) > 3
    assert max(rows.max() for rows in held) < 1.0


@pytest.mark.slow
def test_a_cube_that_is_lost_is_picked_up_again(aloha, arms, aloha_expert):
    lost = []

    def lose(t):
        if t > 5.0 and not lost:
            lost.append(t)
            asked = arms.world.judge(arms.world.suggest_instruction()).target
            joint = arms.world._data.joint(asked)
            joint.qpos[:] = (0.1, 0.3, 0.05, 1, 0, 0, 0)
            joint.qvel[:] = 0
        return False

    outcome = run_episode(aloha, arms, aloha_expert, seed=1, time_limit_s=30, is_stopped=lose)
    assert lost
    assert outcome.success


def test_the_drive_succeeds_and_ends_with_a_stop(diffbot, base, room_expert):
    recorder = Recorder(room_expert)
    outcome = run_episode(diffbot, base, recorder, seed=3, time_limit_s=25)
    assert outcome.success
    limits = diffbot.file.safety.base
    for chunk in recorder.chunks:
        assert chunk.actions.shape == (8, 3)
        assert np.all(np.hypot(*chunk.actions[:, :2].T) <= limits.linear_velocity * chunk.dt)
        assert np.all(np.abs(chunk.actions[:, 2]) <= limits.angular_velocity * chunk.dt)
    assert np.abs(recorder.chunks[-1].actions).sum() < 0.05  # which says: stop


def test_the_drive_keeps_clear_of_what_stands_in_the_way(diffbot, room_expert):
    scene = {
        "red_ball": np.array([2.5, 0.0, 0.15, 1, 0, 0, 0]),
        "blue_box": np.array([1.2, 0.05, 0.13, 1, 0, 0, 0]),
    }
    prompt = build_prompt(diffbot, "go to the red ball")
    pose = np.zeros(3)
    nearest = np.inf
    for _ in range(40):
        observation = Observation(stamp_ns=1, images={}, state=pose, scene=scene)
        forward, left, turn = room_expert.infer(observation, prompt).actions[0]
        c, s = np.cos(pose[2]), np.sin(pose[2])
        pose = pose + np.array([c * forward - s * left, s * forward + c * left, turn])
        nearest = min(nearest, np.hypot(*(pose[:2] - scene["blue_box"][:2])))
    assert nearest > 0.45
    assert np.hypot(*(pose[:2] - scene["red_ball"][:2])) < 0.5


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["aloha_sim", "diffbot_sim"])
def test_experts_succeed_in_19_of_20_scenes(name, request):
    robot = request.getfixturevalue("arms" if name == "aloha_sim" else "base")
    embodiment = request.getfixturevalue("aloha" if name == "aloha_sim" else "diffbot")
    expert = load_expert(embodiment)
    outcomes = [run_episode(embodiment, robot, expert, seed, 30) for seed in range(20)]
    assert sum(outcome.success for outcome in outcomes) >= 19
