from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.serving.mock import MockPolicy
from qwen_vla_ros.serving.recording import Recorder, read_recording
from qwen_vla_ros.serving.replay import ReplayPolicy


@pytest.fixture
def recorded(serve, aloha, observation, prompt, tmp_path):
    """A file with two episodes, of two answers and of one, and those answers."""
    path = tmp_path / "answers.jsonl"
    recorder = Recorder.create(path, aloha, "mock")
    serving = serve(policy=lambda: MockPolicy(aloha, motion="sine"), recorder=recorder)
    policy = serving.connect(deadline_s=2.0)
    chunks = []
    for episode in (2, 1):
        policy.reset()
        for turn in range(episode):
            seen = replace(observation, stamp_ns=observation.stamp_ns + turn * 10**8)
            chunks.append(policy.infer(seen, prompt).actions)
    policy.close()
    serving.end()
    recorder.close()
    return path, chunks


def test_answers_are_recorded_by_episode_with_their_times(recorded, aloha, prompt):
    path, chunks = recorded
    episodes = read_recording(path, aloha)
    assert [len(records) for records in episodes] == [2, 1]
    records = [record for episode in episodes for record in episode]
    for record, actions in zip(records, chunks, strict=True):
        np.testing.assert_array_equal(record.actions, actions)
        assert record.instruction == prompt.instruction
    assert 0 <= records[0].elapsed_s <= records[1].elapsed_s


def test_a_replay_answers_in_order_and_then_rests(recorded, aloha, observation, prompt):
    path, chunks = recorded
    policy = ReplayPolicy(aloha, read_recording(path, aloha))
    for first, count in ((0, 2), (2, 1), (0, 2)):
        policy.reset()
        for turn in range(count):
            chunk = policy.infer(observation, prompt)
            np.testing.assert_array_equal(chunk.actions, chunks[first + turn])
            assert chunk.stamp_ns == observation.stamp_ns
        assert policy.infer(observation, prompt).rest


def test_a_replay_is_served_to_every_client_from_the_beginning(
    recorded, serve, aloha, observation, keep
):
    path, chunks = recorded
    episodes = read_recording(path, aloha)
    serving = serve(policy=lambda: ReplayPolicy(aloha, episodes))
    asked = build_prompt(aloha, "whatever")
    for _ in range(2):
        policy = keep(serving.connect(deadline_s=2.0))
        for actions in chunks[:2]:
            np.testing.assert_array_equal(policy.infer(observation, asked).actions, actions)
        assert policy.infer(observation, asked).rest


def test_a_recording_that_was_cut_short_is_used_as_far_as_it_goes(recorded, aloha):
    path, _ = recorded
    path.write_bytes(path.read_bytes()[:-5])
    assert [len(records) for records in read_recording(path, aloha)] == [2]


def test_a_recording_of_another_robot_is_refused(recorded, droid):
    with pytest.raises(QwenVlaError, match="serves robot 'aloha_sim'"):
        read_recording(recorded[0], droid)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xc1\xc1", b"hello", b"[]\n", b'{"format": "x"}\n']
)
def test_what_is_no_recording_is_refused(aloha, tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(QwenVlaError, match="recording: '"):
        read_recording(path, aloha)


@pytest.mark.parametrize(
    "change",
    [
        {"episode": "one"},
        {"elapsed_s": -1.0},
        {"actions": []},
        {"actions": [[0.0] * 13]},
        {"actions": [["x"] * 14]},
    ],
)
def test_a_damaged_answer_is_refused_with_its_line(recorded, aloha, change):
    path, _ = recorded
    lines = path.read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), **change})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(QwenVlaError, match=r"answers\.jsonl', line 3: "):
        read_recording(path, aloha)


def test_a_recording_without_an_answer_is_refused(aloha, tmp_path):
    path = tmp_path / "file"
    Recorder.create(path, aloha, "mock").close()
    with pytest.raises(QwenVlaError, match="holds no answer"):
        read_recording(path, aloha)


def test_an_absent_recording_is_refused_and_a_present_one_is_not_written_over(aloha, tmp_path):
    with pytest.raises(QwenVlaError, match="cannot be read"):
        read_recording(tmp_path / "nothing", aloha)
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(QwenVlaError, match="cannot be made"):
        Recorder.create(path, aloha, "mock")
    assert path.read_text() == "mine"


def test_a_full_disk_ends_the_recording_and_nothing_else(
    serve, observation, prompt, keep, tmp_path, caplog
):
    class FullDisk:
        def write(self, _):
            raise OSError(28, "No space left on device")

    recorder = Recorder(FullDisk(), tmp_path / "file")
    caplog.set_level(logging.ERROR)
    policy = keep(serve(recorder=recorder).connect(deadline_s=2.0))
    for _ in range(3):
        assert policy.infer(observation, prompt).actions.shape == (16, 14)
    assert caplog.text.count("recording into") == 1
