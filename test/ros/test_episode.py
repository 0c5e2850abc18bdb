"""What becomes of an instruction when the policy does not answer."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from qwen_vla_msgs.msg import SafetyState

from qwen_vla_ros.errors import CheckpointError, NotReadyError
from qwen_vla_ros.ros.episode import Episode, Result
from qwen_vla_ros.types import Prompt, rest_chunk

pytestmark = pytest.mark.ros

PROMPT = Prompt(instruction="go", text="go", cameras=())


@pytest.fixture
def episode():
    goal = SimpleNamespace(is_cancel_requested=False)
    return Episode(goal=goal, prompt=PROMPT, time_limit_s=60.0)


def test_three_failures_in_a_row_end_it(episode):
    for _ in range(2):
        episode.on_error(CheckpointError("the weights are of no use."))
    assert episode.ending() is None
    assert episode.hold_reason() == "inference failed: the weights are of no use."
    episode.on_error(RuntimeError("out of memory"))
    assert episode.ending().outcome == Result.ABORTED
    assert "RuntimeError: out of memory" in episode.ending().why


def test_a_policy_that_is_away_is_waited_for_however_often_it_is_asked(episode):
    for _ in range(100):
        episode.on_error(NotReadyError("no server answers at ws://127.0.0.1:8000."))
    assert episode.ending() is None
    assert episode.hold_reason() == "no server answers at ws://127.0.0.1:8000."
    episode.on_chunk(rest_chunk(1, 0.02, ("a",)), {"infer": 0.1})
    assert episode.hold_reason() == ""


def test_a_silence_is_explained_by_what_caused_it(episode):
    episode.gate = SafetyState(level=SafetyState.HOLD, cause="policy_silent", detail="no other")
    assert episode.hold_reason() == "gate: policy_silent: no other"
    episode.on_error(NotReadyError("no server answers."))
    assert episode.hold_reason() == "no server answers."
    episode.gate.cause = "tracking"
    assert episode.hold_reason().startswith("gate: tracking")


def test_the_feedback_tells_the_stages_of_the_last_chunk(episode):
    episode.on_chunk(rest_chunk(1, 0.02, ("a",)), {"capture": 0.03, "publish": 0.001})
    message = episode.feedback()
    assert list(message.stages) == ["capture", "publish"]
    assert list(message.stage_seconds) == pytest.approx([0.03, 0.001])
    assert message.chunks == 1
