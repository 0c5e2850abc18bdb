import numpy as np
import pytest

from qwen_vla_ros.execution.timeline import end_ns, row_at, values_at
from qwen_vla_ros.types import ActionChunk

MS = 1_000_000
CHUNK = ActionChunk(
    stamp_ns=50 * MS, dt=0.02, channels=("a",), actions=np.array([[1.0], [2.0], [4.0]])
)


@pytest.mark.parametrize(("max_age_s", "end_ms"), [(0.5, 110), (0.04, 90)])
def test_a_chunk_ends_after_its_last_row_or_with_the_age_of_its_observation(max_age_s, end_ms):
    assert end_ns(CHUNK, max_age_s) == end_ms * MS


@pytest.mark.parametrize(("ms", "row"), [(40, 0.0), (50, 0.0), (65, 0.75), (200, 7.5)])
def test_a_time_has_a_row_and_its_fraction(ms, row):
    assert row_at(CHUNK, ms * MS) == pytest.approx(row)


@pytest.mark.parametrize(("ms", "value"), [(0, 1.0), (60, 1.5), (80, 3.0), (90, 4.0), (300, 4.0)])
def test_values_are_interpolated_and_the_last_row_holds(ms, value):
    assert values_at(CHUNK, ms * MS)[0] == pytest.approx(value)


def test_values_may_be_written_on():
    values_at(CHUNK, 90 * MS)[:] = 9.0
    values_at(CHUNK, 50 * MS)[:] = 9.0
    np.testing.assert_array_equal(CHUNK.actions[:, 0], [1.0, 2.0, 4.0])
