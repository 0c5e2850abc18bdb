"""Small modules, small nodes, a README that is read to its end."""

from __future__ import annotations

import statistics


def longest(texts: dict[str, str], ceiling: int) -> dict[str, int]:
    lengths = {name: text.count("\n") for name, text in texts.items()}
    return {name: length for name, length in lengths.items() if length > ceiling}


def test_no_module_is_longer_than_400_lines(modules):
    assert longest(modules, 400) == {}


def test_no_node_is_longer_than_250_lines(modules):
    nodes = {name: text for name, text in modules.items() if "/nodes/" in name}
    assert nodes
    assert longest(nodes, 250) == {}


def test_the_median_module_has_at_most_150_lines(modules):
    lengths = [text.count("\n") for name, text in modules.items() if "__init__" not in name]
    assert statistics.median(lengths) <= 150


def test_package_init_files_import_nothing(modules):
    inits = [text for name, text in modules.items() if name.endswith("__init__.py")]
    assert inits
    assert not [text for text in inits if "import " in text]


def test_the_readme_has_at_most_120_lines(texts):
    assert texts["README.md"].count("\n") <= 120


def test_no_decision_record_is_longer_than_40_lines(texts):
    records = {name: text for name, text in texts.items() if name.startswith("docs/adr/")}
    assert records
    assert longest(records, 40) == {}
