from __future__ import annotations

import numpy as np
import pytest

from qwen_vla_ros.serving.fields import MOST_STAGES, Fields, read_seconds
from qwen_vla_ros.serving.wire import WireError

FIELDS = Fields(
    {
        "text": "hello",
        "number": 0.5,
        "whole": 7,
        "flag": True,
        "raw": b"xyz",
        "list": ["a", "b"],
        "map": {"inner": 1},
        "rows": np.ones((2, 3), np.float32),
        "holes": np.array([[1.0, np.nan]]),
    }
)


def test_what_fits_is_returned():
    assert FIELDS.text("text") == "hello"
    assert FIELDS.number("number", 0, 1) == 0.5
    assert FIELDS.whole("whole") == 7
    assert FIELDS.flag("flag") is True
    assert FIELDS.flag("absent") is False
    assert FIELDS.texts("list") == ("a", "b")
    assert FIELDS.rows("rows", 3, 2).dtype == np.float64
    assert "text" in FIELDS
    assert "absent" not in FIELDS


@pytest.mark.parametrize(
    "read",
    [
        lambda: FIELDS.text("absent"),
        lambda: FIELDS.text("text", 4),
        lambda: FIELDS.text("whole"),
        lambda: FIELDS.number("number", 0.6, 1),
        lambda: FIELDS.number("text", 0, 1),
        lambda: FIELDS.number("flag", 0, 1),
        lambda: FIELDS.whole("number"),
        lambda: FIELDS.whole("flag"),
        lambda: FIELDS.whole("whole", 8),
        lambda: FIELDS.flag("whole"),
        lambda: FIELDS.texts("list", 1),
        lambda: FIELDS.texts("text"),
        lambda: FIELDS.rows("rows", 2, 2),
        lambda: FIELDS.rows("rows", 3, 1),
        lambda: FIELDS.rows("list", 3, 1),
        lambda: Fields([1]),
    ],
)
def test_what_does_not_fit_is_refused_with_what_is_needed(read):
    with pytest.raises(WireError, match="needed"):
        read()


def test_a_number_that_is_not_finite_is_named_by_its_place():
    with pytest.raises(WireError, match=r"'holes': not finite at \[0, 1\]: nan"):
        FIELDS.rows("holes", 2, 1)


def test_durations_that_are_none_are_left_out():
    given = {"a": 0.5, "b": -1.0, "c": float("nan"), "d": "x", 5: 1.0, "e": float("inf")}
    assert read_seconds(given) == {"a": 0.5}


@pytest.mark.parametrize("value", [None, [1], {str(i): 1.0 for i in range(MOST_STAGES + 1)}])
def test_what_is_no_map_of_durations_is_refused(value):
    with pytest.raises(WireError, match="durations"):
        read_seconds(value)
