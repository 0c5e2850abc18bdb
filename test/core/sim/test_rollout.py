"""A policy and a robot in one loop: played as ROS plays them."""

import numpy as np
import pytest

from qwen_vla_ros.sim.expert import load_expert
from qwen_vla_ros.sim.rollout import BEGIN_NS, run_episode


class Witness:
    """Notes what an expert is asked."""

    def __init__(self, expert):
        self.expert = expert
        self.asked = []
        self.answers = []

    def reset(self):
        self.expert.reset()

    def infer(self, observation, prompt, committed=None):
        chunk = self.expert.infer(observation, prompt, committed)
        self.asked.append((observation.stamp_ns, committed))
        self.answers.append(chunk)
        return chunk


@pytest.fixture(scope="module")
def asked(aloha, arms):
    """What a policy is asked in 5.5 seconds; in one somebody stops the robot, for one it rests."""
    witness = Witness(load_expert(aloha))
    run_episode(aloha, arms, witness, 3, 5.5, is_stopped=lambda t: 2.0 < t < 3.0)
    return witness.asked


def seconds(stamp_ns):
    return (stamp_ns - BEGIN_NS) * 1e-9


@pytest.mark.slow
def test_the_first_question_commits_nothing_and_the_next_ones_do(asked):
    assert asked[0][1] is None
    moving = [committed for stamp_ns, committed in asked[1:] if seconds(stamp_ns) < 1.9]
    assert len(moving) > 10
    # An answer takes 60 to 100 ms, its pictures were up to 67 ms old, the gate plans 50 ms ahead;
    # and one row more.
    assert all(6 <= len(committed) <= 13 for committed in moving)


def test_nothing_is_committed_while_the_gate_is_stopped(asked):
    held = [committed for stamp_ns, committed in asked if 2.05 < seconds(stamp_ns) < 2.95]
    assert len(held) > 5
    assert all(committed is None for committed in held)
    assert asked[-1][1] is not None


def test_the_same_pictures_are_never_asked_about_twice(asked):
    stamps = [stamp_ns for stamp_ns, _ in asked]
    assert len(set(stamps)) == len(stamps)


def test_what_is_committed_is_what_the_last_chunk_says(aloha, arms):
    witness = Witness(load_expert(aloha))
    run_episode(aloha, arms, witness, 4, 2.0)
    checked = 0
    # What was seen before the robot moved is answered for later: those chunks have other times.
    for (stamp_ns, committed), old in zip(witness.asked[3:], witness.answers[2:], strict=False):
        begin = (stamp_ns - old.stamp_ns) / (old.dt * 1e9)
        rows = begin + np.arange(min(len(committed), int(len(old.actions) - 1 - begin)))
        for channel in range(old.actions.shape[1]):
            played = np.interp(rows, np.arange(len(old.actions)), old.actions[:, channel])
            np.testing.assert_allclose(committed[: len(rows), channel], played, atol=1e-9)
        checked += 1
    assert checked > 3


@pytest.mark.parametrize("seed", [1000, 1007])
def test_clean_driving_is_not_limited_and_arrives(diffbot, base, seed):
    outcome = run_episode(diffbot, base, load_expert(diffbot), seed, 30.0)
    assert outcome.success
    assert outcome.commands > 100
    assert outcome.commands_limited == 0


def test_a_base_is_played_with_committed_motions(diffbot, base):
    witness = Witness(load_expert(diffbot))
    run_episode(diffbot, base, witness, 3, 4.0)
    motions = [committed for _, committed in witness.asked[1:]]
    assert len(motions) > 3
    assert all(committed.shape == (1, 3) for committed in motions)
