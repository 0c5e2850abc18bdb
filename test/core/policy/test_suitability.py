import pytest

from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.policy.suitability import continuation_of


@pytest.mark.parametrize(
    ("wanted", "frozen_prefix", "found"),
    [
        ("auto", True, "prefix"),
        ("auto", False, "guidance"),
        ("prefix", True, "prefix"),
        ("guidance", True, "guidance"),
        ("guidance", False, "guidance"),
        ("none", True, None),
        ("none", False, None),
    ],
)
def test_committed_rows_are_continued_as_the_decoder_was_trained(wanted, frozen_prefix, found):
    assert continuation_of(wanted, frozen_prefix=frozen_prefix) == found


def test_a_frozen_prefix_is_refused_to_a_decoder_that_never_saw_one():
    with pytest.raises(CheckpointError, match=r"was not trained with frozen prefixes.*'guidance'"):
        continuation_of("prefix", frozen_prefix=False)


def test_an_unknown_continuation_is_told():
    with pytest.raises(CheckpointError, match=r"continuation 'guided': .*'guidance'"):
        continuation_of("guided", frozen_prefix=True)
