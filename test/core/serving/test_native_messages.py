from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.serving.image_block import ImageBlock
from qwen_vla_ros.serving.link import Question
from qwen_vla_ros.serving.native_messages import (
    ERROR,
    REST,
    Answer,
    number_of,
    read_answer,
    read_request,
    write_answer,
    write_request,
)
from qwen_vla_ros.serving.wire import WireError

ANSWER = Answer(
    id=7,
    client=b"0123456789abcdef",
    embodiment=b"aloha_sim",
    embodiment_hash=b"fedcba9876543210",
    actions=np.arange(28.0).reshape(2, 14),
    flags=0,
    queue_s=0.001,
    total_s=0.05,
    timings={"backbone": 0.04},
)


@pytest.fixture
def block(aloha):
    return ImageBlock(aloha)


@pytest.fixture
def question(observation):
    return Question(
        observation=observation, instruction="größer", committed=None, is_new_episode=True
    )


def request_bytes(question, block, **changes) -> bytes:
    options = {"number": 7, "deadline_s": 0.3, **changes}
    images = [image.tobytes() for image in block.parts(question.observation)]
    return b"".join([*write_request(question, **options), *images])


@pytest.mark.parametrize("rows", [None, 3])
def test_a_request_survives_the_wire(aloha, block, question, rows, rng):
    committed = None if rows is None else rng.standard_normal((rows, 14))
    asked = Question(
        observation=question.observation,
        instruction=question.instruction,
        committed=committed,
        is_new_episode=question.is_new_episode,
    )
    message = request_bytes(asked, block)
    assert number_of(message) == 7
    request = read_request(message, block, aloha)
    assert request.instruction == "größer"
    assert request.is_new_episode
    assert request.deadline_s == 0.3
    assert request.observation.stamp_ns == question.observation.stamp_ns
    np.testing.assert_array_equal(request.observation.state, question.observation.state)
    if committed is None:
        assert request.committed is None
    else:
        np.testing.assert_array_equal(request.committed, committed)
    for name, image in request.observation.images.items():
        np.testing.assert_array_equal(image, question.observation.images[name])


@pytest.mark.parametrize("flags", [0, REST, ERROR])
def test_an_answer_survives_the_wire(flags):
    wanted = ANSWER._replace(flags=flags)
    got = read_answer(b"".join(write_answer(wanted)), 14, 16)
    np.testing.assert_array_equal(got.actions, wanted.actions)
    assert got._replace(actions=wanted.actions) == wanted


@pytest.mark.parametrize("cut", [0, 5, 48, -1, -100])
def test_a_request_that_is_cut_short_is_refused(aloha, block, question, cut):
    with pytest.raises(WireError):
        read_request(request_bytes(question, block)[:cut], block, aloha)


@pytest.mark.parametrize("cut", [0, 5, 60, -1])
def test_an_answer_that_is_cut_short_is_refused(cut):
    with pytest.raises(WireError):
        read_answer(b"".join(write_answer(ANSWER))[:cut], 14, 16)


def test_an_answer_with_bytes_too_many_is_refused():
    with pytest.raises(WireError):
        read_answer(b"".join(write_answer(ANSWER)) + b"x", 14, 16)


def test_an_answer_of_another_width_or_length_is_refused():
    data = b"".join(write_answer(ANSWER))
    with pytest.raises(WireError):
        read_answer(data, 7, 16)
    with pytest.raises(WireError):
        read_answer(data, 14, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_by_its_place(value):
    actions = ANSWER.actions.copy()
    actions[1, 13] = value
    with pytest.raises(WireError, match="row 1, column 13 is"):
        read_answer(b"".join(write_answer(ANSWER._replace(actions=actions))), 14, 16)


@pytest.mark.parametrize("seconds", [np.nan, -1.0, 1e9])
def test_an_answer_that_took_a_strange_time_is_refused(seconds):
    with pytest.raises(WireError):
        read_answer(b"".join(write_answer(ANSWER._replace(total_s=seconds))), 14, 16)


def test_a_deadline_that_is_no_number_is_refused(aloha, block, question):
    with pytest.raises(WireError, match="deadline"):
        read_request(request_bytes(question, block, deadline_s=np.nan), block, aloha)


def test_more_committed_rows_than_a_chunk_has_are_refused(aloha, block, observation):
    asked = Question(
        observation=observation,
        instruction="x",
        committed=np.zeros((17, 14)),
        is_new_episode=False,
    )
    with pytest.raises(WireError, match="17 committed rows"):
        read_request(request_bytes(asked, block), block, aloha)


def test_a_text_is_neither(aloha, block):
    with pytest.raises(WireError, match="no request"):
        read_request("x" * 100, block, aloha)
    with pytest.raises(WireError, match="no answer"):
        read_answer("x" * 100, 14, 16)


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_an_answer_or_refused(data):
    with pytest.raises(WireError):
        read_answer(data, 14, 16)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_an_answer_with_flipped_bytes_is_finite_or_refused(data):
    message = bytearray(b"".join(write_answer(ANSWER)))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        answer = read_answer(bytes(message), 14, 16)
    except WireError:
        return
    assert np.isfinite(answer.actions).all()
    assert answer.actions.shape[1] == 14


def test_what_is_no_request_has_no_number(question, block):
    assert number_of(request_bytes(question, block)[:10]) == 0
    assert number_of("x" * 100) == 0
