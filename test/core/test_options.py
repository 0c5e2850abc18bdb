import dataclasses

import pytest

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.load_policy import _LOADERS
from qwen_vla_ros.options import (
    POLICIES,
    BenchOptions,
    BringupOptions,
    Options,
    PolicyOptions,
    ServingOptions,
    option,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kitchen(Options):
    heat: float = option("How hot.", default=0.5, unit="kW", bounds=(0, 2))
    pan: str = option("What it is in.", choices=("wok", "pot"))
    lid: bool = option("Whether it is closed.", default=False)
    guests: int = option("How many eat.", default=2)


def test_words_become_values_and_what_is_not_said_has_its_default():
    kitchen = Kitchen.from_strings({"heat": "1.5", "pan": "wok", "lid": "true"})
    assert kitchen == Kitchen(heat=1.5, pan="wok", lid=True, guests=2)
    assert kitchen.given() == {"heat": 1.5, "pan": "wok", "lid": True}


def test_what_must_be_said_comes_first():
    assert [each.name for each in Kitchen.declared()] == ["pan", "heat", "lid", "guests"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"pan": "wook"}, "pan: unknown 'wook'. Did you mean 'wok'[?] Known: pot, wok."),
        ({"heat": "3"}, "heat: 3.0 is out of bounds. Allowed: 0 to 2 kW."),
        ({"heat": "nan"}, "heat: nan is out of bounds"),
        ({"heat": "hot"}, "heat: 'hot' is not a number."),
        ({"guests": "2.5"}, "guests: '2.5' is not a whole number."),
        ({"lid": "yes"}, "lid: unknown 'yes'. Known: false, true."),
    ],
)
def test_what_is_not_allowed_is_refused_by_name_with_what_is(words, sentence):
    with pytest.raises(QwenVlaError, match=sentence):
        Kitchen.from_strings({"pan": "pot", **words})


def test_a_value_is_checked_however_it_is_said():
    with pytest.raises(QwenVlaError, match="heat: -1 is out of bounds"):
        Kitchen(heat=-1, pan="pot")


@pytest.mark.parametrize("kind", [PolicyOptions, BringupOptions, ServingOptions, BenchOptions])
def test_every_option_is_described_by_a_sentence_and_has_a_default_that_is_allowed(kind):
    for each in kind.declared():
        assert each.description.endswith("."), each.name
        assert each.of in {"", *POLICIES}
        assert each.bounds or each.kind not in {int, float}, each.name
        if each.default is not None:
            each.check(each.default)


def test_every_policy_that_can_be_said_can_be_loaded():
    assert tuple(_LOADERS) == POLICIES


@pytest.mark.parametrize("seconds", [0.0, 0.001, 2.5, float("nan")])
def test_a_deadline_after_which_no_gate_would_play_an_answer_is_refused(seconds):
    with pytest.raises(QwenVlaError, match=r"deadline_s: .* Allowed: 0\.02 to 2 s"):
        PolicyOptions(deadline_s=seconds)
