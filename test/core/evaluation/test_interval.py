import pytest

from qwen_vla_ros.evaluation.interval import rate_text, wilson_interval


def test_the_interval_agrees_with_a_published_example():
    # Wilson score interval of 8/10 (Newcombe 1998's formula): 0.4902 to 0.9433.
    low, high = wilson_interval(8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)


def test_a_perfect_score_is_not_called_certain():
    low, high = wilson_interval(20, 20)
    assert low == pytest.approx(0.8389, abs=1e-4)
    assert high == 1.0


def test_no_success_starts_at_zero():
    assert wilson_interval(0, 20)[0] == 0.0


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match="trials"):
        wilson_interval(successes, trials)


def test_the_text_names_counts_and_interval():
    assert rate_text(19, 20) == "19/20 (95 % interval 76 to 99 %)"
