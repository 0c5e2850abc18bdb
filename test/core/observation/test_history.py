"""What a camera showed before, found by time and kept in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.embodiment.schema import HistorySpec
from qwen_vla_ros.observation.history import PER_SPACING, History

MS = 1_000_000


def picture(stamp_ms: int) -> np.ndarray:
    """An image that tells when it was taken."""
    return np.frombuffer(np.int64(stamp_ms).tobytes() + bytes(4), np.uint8).reshape(2, 2, 3)


def taken_ms(image: np.ndarray) -> int:
    return int(np.frombuffer(image.tobytes()[:8], np.int64)[0])


def filled(frames: int, spacing_s: float, stamps_ms: list[int], lag: int = 0) -> History:
    history = History(HistorySpec(frames=frames, spacing_s=spacing_s), lag=lag)
    for stamp_ms in stamps_ms:
        history.put(stamp_ms * MS, picture(stamp_ms))
    return history


def before(history: History, stamp_ms: int) -> list[int]:
    return [taken_ms(image) for image in history.before(stamp_ms * MS, picture(stamp_ms))]


def test_images_are_as_far_apart_as_asked_oldest_first():
    history = filled(3, 1.0, list(range(0, 10_001, 100)))
    assert before(history, 10_000) == pytest.approx([7000, 8000, 9000], abs=125)


def test_the_nearest_image_is_taken_and_not_the_last_one_before():
    history = filled(1, 1.0, [0, 600, 1100, 1700])
    assert before(history, 1700) == [600]
    assert before(filled(1, 1.0, [0, 650, 1150, 1750]), 1750) == [650]


def test_a_young_stream_repeats_its_oldest_image():
    history = filled(4, 1.0, [5000, 6000, 7000])
    assert before(history, 7000) == [5000, 5000, 5000, 6000]


def test_the_first_image_is_its_own_past():
    assert before(filled(2, 0.5, [5000]), 5000) == [5000, 5000]
    assert before(filled(2, 0.5, []), 5000) == [5000, 5000]


def test_where_the_camera_was_dark_the_first_image_after_stands_in():
    history = filled(4, 1.0, [1000, 1500, 2000, 5900, 6400, 6900])
    # 2900 and 3900 lie in the dark; 5900 is the first image after it.
    assert before(history, 6900) == [5900, 5900, 5900, 5900]
    assert before(history, 6200) == [2000, 5900, 5900, 5900]


def test_an_image_newer_than_the_moment_is_not_its_past():
    history = filled(2, 0.5, list(range(0, 3001, 250)))
    assert before(history, 2000) == [1000, 1500]


def test_forgetting_begins_anew():
    history = filled(2, 0.5, list(range(0, 3001, 250)))
    history.forget()
    assert before(history, 3250) == [3250, 3250]
    history.put(3250 * MS, picture(3250))
    assert before(history, 3750) == [3250, 3250]


def test_a_clock_that_begins_again_is_followed():
    history = filled(2, 0.5, [100_000, 100_500, 1000, 1500])
    assert before(history, 2000) == [1000, 1500]


@pytest.mark.slow
@given(
    st.integers(1, 8),
    st.floats(0.05, 10),
    st.lists(st.integers(1, 400), min_size=1, max_size=200),
    st.integers(0, 3),
)
@settings(max_examples=150, deadline=None)
def test_every_image_is_the_right_one_or_the_camera_was_dark(frames, spacing_s, gaps, lag):
    stamps = np.cumsum(gaps).tolist()
    history = filled(frames, spacing_s, stamps, lag=4)
    now = stamps[-1 - min(lag, len(stamps) - 1)]
    found = before(history, now)
    assert found == sorted(found)
    assert all(stamps[0] <= stamp <= now for stamp in found)
    # An image that was not kept came within a quarter of the spacing after one that was.
    allowed = spacing_s * 1000 / PER_SPACING
    for k, stamp in zip(range(frames, 0, -1), found, strict=True):
        time = now - k * spacing_s * 1000
        best = min(abs(other - time) for other in stamps if other <= now)
        if best + allowed <= spacing_s * 500:
            assert abs(stamp - time) <= best + allowed + 1
        else:
            assert stamp >= time - spacing_s * 500 - 1


@pytest.mark.parametrize("rate_hz", [5, 30, 200])
def test_memory_is_bounded_by_what_is_asked_for_and_not_by_the_rate(rate_hz):
    history = filled(8, 2.0, [1000 * i // rate_hz for i in range(100 * rate_hz)], lag=4)
    assert len(history._kept) <= PER_SPACING * 9 + 4
    now = 1000 * (100 * rate_hz - 1) // rate_hz
    assert before(history, now) == pytest.approx(
        [now - 2000 * k for k in range(8, 0, -1)], abs=351
    )
