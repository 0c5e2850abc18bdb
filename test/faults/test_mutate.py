"""The mutator changes what it says, and only that; and a mistake in the latch is noticed."""

import ast
from pathlib import Path

import pytest

from faults.mutate import PART, SOURCE, TESTS, Memory, Mutant, is_noticed, mutants

SAMPLE = '''
def f(a, b):
    """Text."""
    c = a + 1
    if not a < b and c:
        return True
    return c
'''


@pytest.fixture
def sample(tmp_path) -> list[Mutant]:
    path = Path(tmp_path) / "sample.py"
    path.write_text(SAMPLE)
    return list(mutants(path))


def test_every_kind_of_mistake_is_made(sample):
    made = {mutant.what for mutant in sample}
    assert {
        "Lt to LtE",
        "Lt to Gt",
        "not dropped",
        "Add to Sub",
        "And to Or",
        "1 to 2",
        "1 to 0",
        "True to False",
    } <= made
    assert any(what.startswith("removed at 4") for what in made)
    assert not any("Text" in what for what in made)


def test_every_mutant_is_python_and_none_is_the_original(sample):
    plain = ast.unparse(ast.parse(SAMPLE))
    assert len({mutant.source for mutant in sample}) >= len(sample) - 1
    for mutant in sample:
        assert ast.unparse(ast.parse(mutant.source)) != plain


@pytest.mark.slow
def test_a_latch_that_never_stops_is_noticed():
    text = (SOURCE / PART / "latch.py").read_text(encoding="utf-8")
    broken = text.replace("self._become(Level.STOP, cause)", "pass", 1)
    assert broken != text
    tests = TESTS / "test_latch.py"
    assert is_noticed(Mutant("latch.py", 0, "no stop", broken), 100, tests)
    assert not is_noticed(Mutant("latch.py", 0, "nothing", text), 100, tests)


def test_what_was_found_is_kept_until_the_core_changes(sample, tmp_path, monkeypatch):
    path = tmp_path / "mutants.jsonl"
    assert Memory(path).find(sample[0]) is None
    Memory(path).add(sample[0], noticed=True)
    assert [Memory(path).find(mutant) for mutant in sample[:2]] == [True, None]
    monkeypatch.setattr("faults.mutate.TESTS", tmp_path)
    (tmp_path / "test_other.py").write_text("")
    assert Memory(path).find(sample[0]) is None
