import pytest
import torch
from transformers.models.qwen3_5.modeling_qwen3_5 import (
    torch_chunk_gated_delta_rule,
    torch_recurrent_gated_delta_rule,
)

from qwen_vla_ros.model.delta_rule import gated_delta_rule


def draw(length, key_heads, value_heads, width, *, deepest=2.0, batch=1):
    """Query, key, value, decay and beta."""
    generator = torch.Generator().manual_seed(length)

    def normal(heads):
        return torch.randn(batch, length, heads, width, generator=generator)

    query, key, value = normal(key_heads), normal(key_heads), normal(value_heads)
    decay, beta = torch.rand(2, batch, length, value_heads, generator=generator)
    return query, key, value, -deepest * decay, beta


def theirs(function, query, key, value, decay, beta):
    read, _ = function(query, key, value, g=decay, beta=beta, use_qk_l2norm_in_kernel=True)
    return read


@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 100, 200])
@pytest.mark.parametrize(("key_heads", "value_heads"), [(2, 2), (2, 6)])
@pytest.mark.parametrize("width", [16, 128])
def test_the_rule_is_the_familys(length, key_heads, value_heads, width):
    drawn = draw(length, key_heads, value_heads, width)
    torch.testing.assert_close(
        gated_delta_rule(*drawn),
        theirs(torch_chunk_gated_delta_rule, *drawn),
        rtol=1e-4,
        atol=1e-6,
    )


def test_rows_of_a_batch_do_not_mix():
    drawn = draw(40, 2, 4, 16, batch=3)
    for row, read in enumerate(gated_delta_rule(*drawn)):
        alone = gated_delta_rule(*(part[row : row + 1] for part in drawn))[0]
        torch.testing.assert_close(read, alone, rtol=1e-5, atol=1e-6)


def test_keys_that_are_all_alike_do_not_blow_rounding_up():
    """The inverse of the whole system would have entries far beyond the answer."""
    query, key, value, decay, beta = draw(130, 1, 1, 32, deepest=0.0)
    key, beta = key[:, :1].expand_as(key), torch.ones_like(beta)
    exact = theirs(
        torch_recurrent_gated_delta_rule, *(x.double() for x in (query, key, value, decay, beta))
    )
    read = gated_delta_rule(query, key, value, decay, beta)
    torch.testing.assert_close(read, exact.float(), rtol=1e-3, atol=1e-5)


def test_a_decay_that_forgets_everything_at_once_is_harmless():
    drawn = draw(100, 2, 2, 16, deepest=200.0)
    read = gated_delta_rule(*drawn)
    assert read.isfinite().all()
    torch.testing.assert_close(
        read, theirs(torch_chunk_gated_delta_rule, *drawn), rtol=1e-4, atol=1e-6
    )


def test_what_comes_later_changes_nothing_before():
    query, key, value, decay, beta = draw(90, 2, 2, 16)
    before = gated_delta_rule(query, key, value, decay, beta)
    changed = value.clone()
    changed[:, 50:] += 1
    after = gated_delta_rule(query, key, changed, decay, beta)
    torch.testing.assert_close(after[:, :50], before[:, :50], rtol=0, atol=0)
    assert not torch.allclose(after[:, 50:], before[:, 50:])


def test_half_precision_is_read_and_computed_in_float32():
    drawn = draw(64, 2, 2, 32)
    halves = [part.bfloat16() for part in drawn]
    read = gated_delta_rule(*halves)
    assert read.dtype == torch.float32
    exact = gated_delta_rule(*(part.float() for part in halves))
    torch.testing.assert_close(read, exact, rtol=0, atol=0)
