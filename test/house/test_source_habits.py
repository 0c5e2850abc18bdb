"""What no module says: unfinished work, prints, machine paths, names of package registries."""

from __future__ import annotations

import ast
import re

# Spelled so that this file does not match itself.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|NotImplemented" r"Error")
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:work|farm|root|home/[a-z]+)/[\w.]")
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|registry\.npmjs|download\.pytorch\.org"
    r"|packages\.ros\.org|(?:deb|archive)\.(?:debian|ubuntu)\."
)
LARGEST_BYTES = 20 * 2**20


def matching(texts: dict[str, str], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def prints(source: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]


def test_nothing_is_left_unfinished(texts):
    assert matching(texts, UNFINISHED) == []


def test_only_commands_print(modules):
    found = {name: prints(text) for name, text in modules.items() if "/cli/" not in name}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_no_file_knows_a_machine(texts):
    assert matching(texts, MACHINE_PATH) == []


def test_no_file_names_a_package_registry(texts):
    assert matching(texts, REGISTRY) == []


def test_the_patterns_see_what_they_look_for():
    assert UNFINISHED.search("# TO" + "DO: later")
    assert MACHINE_PATH.search("see /ho" + "me/ann/robot")
    assert not MACHINE_PATH.search("~/wo" + "rk/x and the topic cam/wo" + "rk/x")
    assert REGISTRY.search("https://py" + "pi.org/simple")
    assert prints("def f():\n    print(1)") == [2]


def test_no_tracked_file_is_larger_than_20_mb(our_files):
    assert [str(path) for path in our_files if path.stat().st_size > LARGEST_BYTES] == []
