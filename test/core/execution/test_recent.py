import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_vla_ros.execution.recent import Recent


def recent_of(values, depth=100):
    recent = Recent(depth)
    for value in values:
        recent.add(value)
    return recent


def test_without_values_every_quantile_is_zero():
    assert Recent(3).quantile(0.95) == 0.0
    assert len(Recent(3)) == 0


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.95, 95), (0.951, 96), (1.0, 100)]
)
def test_a_quantile_is_what_that_share_does_not_exceed(share, value):
    assert recent_of(range(1, 101)).quantile(share) == value


def test_of_few_values_a_high_quantile_is_the_largest():
    assert recent_of([3.0, 9.0, 4.0]).quantile(0.95) == 9.0


@pytest.mark.slow
@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60),
    depth=st.integers(1, 20),
    share=st.floats(0, 1),
)
def test_only_the_last_values_count_however_many_came_before(values, depth, share):
    recent = recent_of(values, depth)
    kept = values[-depth:]
    assert len(recent) == len(kept)
    expected = np.quantile(kept, share, method="inverted_cdf")
    assert recent.quantile(share) == expected
