"""Which object an instruction is about."""

from __future__ import annotations

import re
from collections.abc import Iterable

SYNONYMS = {
    "cube": ("cube", "block"),
    "box": ("box", "crate"),
    "ball": ("ball", "sphere"),
}
"""Words by which people call a thing, by the noun in its name."""


def named_object(instruction: str, names: Iterable[str]) -> str:
    """Return the object that the instruction names first, or an empty string.

    Names are `colour_noun`, such as `red_cube`. Colour and noun must stand side by side in the
    text. Where no noun of ours occurs at all ("hand over the red one"), the colour alone is
    enough, as long as one object only has it.

    Args:
        instruction: Any words.
        names: Objects that are in the scene.
    """
    text = instruction.lower()
    candidates = sorted(names)
    found = {name: _place_of(name, text) for name in candidates}
    named = [name for name in candidates if found[name] >= 0]
    if named:
        return min(named, key=lambda name: found[name])
    if any(_contains(word, text) for words in SYNONYMS.values() for word in words):
        return ""
    by_colour = [name for name in candidates if _contains(name.split("_")[0], text)]
    return by_colour[0] if len(by_colour) == 1 else ""


def _place_of(name: str, text: str) -> int:
    colour, _, noun = name.partition("_")
    nouns = "|".join(SYNONYMS.get(noun, (noun,)))
    match = re.search(rf"\b{colour}\s+(?:{nouns})\b", text)
    return match.start() if match else -1


def _contains(word: str, text: str) -> bool:
    return re.search(rf"\b{word}\b", text) is not None
