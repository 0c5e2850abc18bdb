"""Every fault and rule that the code cites is explained on one page, and what it names exists."""

from __future__ import annotations

import re

PAGE = "docs/reference/faults.md"
FORMATS = {"F16", "F32", "F64"}
"""Names of number formats in weight files, which look like fault classes."""


def test_every_number_that_is_cited_is_explained(texts):
    explained = set(re.findall(r"^\| ([A-LW]\d+) \|", texts[PAGE], flags=re.MULTILINE))
    cited = {
        (number, name)
        for name, text in texts.items()
        if name.startswith(("src/", "test/core/", "test/ros/")) and name.endswith(".py")
        for number in re.findall(r"\b[A-LW]\d{1,2}\b", text)
    }
    assert len(cited) > 20
    assert {(n, name) for n, name in cited if n not in explained | FORMATS} == set()


def test_what_the_page_names_exists_and_cites_it(texts):
    package = "src/qwen_vla_ros/qwen_vla_ros/"
    rows = re.findall(r"^\| ([A-LW]\d+) \|.*\| (`.*`) \|$", texts[PAGE], flags=re.MULTILINE)
    assert rows
    for number, cell in rows:
        for file in re.findall(r"`(.+?)`", cell):
            text = texts.get(file) or texts.get(package + file) or ""
            assert re.search(rf"\b{number}\b", text), f"{number}: {file} does not cite it"
