"""Errors for people: what is wrong, where, what was probably meant, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QwenVlaError(Exception):
    """A mistake of the user or of the world: one sentence, shown without a traceback."""


class EmbodimentError(QwenVlaError):
    """An embodiment file or its URDF is wrong."""


class NotReadyError(QwenVlaError):
    """Something the node needs is missing on the graph, so that it refuses to activate."""


class CheckpointError(QwenVlaError):
    """A checkpoint cannot be used."""


class TrainingError(QwenVlaError):
    """A training cannot begin, or go on."""


class InstructionError(QwenVlaError):
    """An instruction cannot be used."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'? Known: a, b.`, or only the known names when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    meant = f" Did you mean '{near[0]}'?" if near else ""
    return f"{meant} Known: {', '.join(names)}." if names else meant
