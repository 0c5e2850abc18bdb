"""Whether somebody who speaks again and again still does."""

from __future__ import annotations

AWAKE_S = 0.1
"""A listener who did not look for longer than this was away himself, and has missed nothing."""


class Presence:
    """Counts the silence of one speaker, as far as its listener was awake to hear it."""

    def __init__(self, patience_s: float) -> None:
        """Call lost who was heard once, and then not for `patience_s` (s)."""
        self.patience_s = patience_s
        self._silent_s: float | None = None
        self._looked_s = 0.0

    def hear(self) -> None:
        """Note a word."""
        self._silent_s = 0.0

    def is_lost(self, now_s: float) -> bool:
        """Look again, at a time of the steady clock; whoever was never heard is not lost."""
        elapsed_s, self._looked_s = now_s - self._looked_s, now_s
        if self._silent_s is None:
            return False
        self._silent_s += min(elapsed_s, AWAKE_S)
        return self._silent_s > self.patience_s
