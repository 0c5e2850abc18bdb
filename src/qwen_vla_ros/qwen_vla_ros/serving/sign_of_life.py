"""Whether a client that says nothing is still there."""

from __future__ import annotations

import time

from qwen_vla_ros.serving.websocket import WebSocket

SILENCE_S = 20.0
"""After so long without a byte the client is asked for a sign of life, and given as long again."""


class SignOfLife:
    """Watches one client between its requests."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._heard = -1
        self._heard_s = 0.0
        self._has_asked = False

    def look(self) -> None:
        """Look at a client that has just been silent for a moment.

        Raises:
            TimeoutError: It has been silent for too long, although it was asked.
        """
        now_s = time.monotonic()
        if self._websocket.bytes_received != self._heard:
            self._heard, self._heard_s = self._websocket.bytes_received, now_s
            self._has_asked = False
        elif now_s - self._heard_s > 2 * SILENCE_S:
            raise TimeoutError("the client gives no sign of life")
        elif now_s - self._heard_s > SILENCE_S and not self._has_asked:
            self._websocket.ping()
            self._has_asked = True
