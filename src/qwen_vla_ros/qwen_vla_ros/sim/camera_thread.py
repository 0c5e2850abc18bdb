"""Draws camera images beside the physics, so that the control loop never waits for a picture."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.sim.offscreen import OffscreenRenderer, Snapshot
from qwen_vla_ros.types import ImageArray

START_S = 30.0


@dataclass(frozen=True)
class View:
    """One picture to draw: a camera of the model, and its size in pixels."""

    camera: str
    width_px: int
    height_px: int


@dataclass(frozen=True)
class _Job:
    snapshot: Snapshot
    stamp_ns: int
    views: tuple[View, ...]


class CameraThread:
    """Draws the newest moment it was given, and leaves out those that came while it drew."""

    def __init__(
        self,
        model: Any,
        deliver: Callable[[View, ImageArray, int], None],
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread.

        Args:
            model: MjModel.
            deliver: Called in the thread with view, image (H, W, 3) and the moment's stamp.
            prepare: Called in the thread before all else.

        Raises:
            QwenVlaError: This machine cannot draw without a screen.
        """
        self._model = model
        self._deliver = deliver
        self._prepare = prepare
        self._job: _Job | None = None
        self._wake = threading.Condition()
        self._is_closing = False
        self._ready = threading.Event()
        self._error: QwenVlaError | None = None
        self.skipped = 0
        self._thread = threading.Thread(target=self._run, name="cameras", daemon=True)
        self._thread.start()
        self._ready.wait(START_S)
        if self._error is not None:
            raise self._error

    def offer(self, snapshot: Snapshot, stamp_ns: int, views: Sequence[View]) -> None:
        """Ask for pictures of a moment; returns at once."""
        with self._wake:
            self.skipped += self._job is not None
            self._job = _Job(snapshot, stamp_ns, tuple(views))
            self._wake.notify()

    def close(self) -> None:
        """Finish the picture that is being drawn and end."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        # An OpenGL context belongs to one thread: this one makes it, uses it, and frees it.
        try:
            self._prepare()
            renderer = OffscreenRenderer(self._model)
        except QwenVlaError as error:
            self._error = error
            return
        finally:
            self._ready.set()
        while (job := self._next()) is not None:
            for view in job.views:
                image = renderer.render(job.snapshot, view.camera, view.width_px, view.height_px)
                self._deliver(view, image, job.stamp_ns)
        renderer.close()

    def _next(self) -> _Job | None:
        with self._wake:
            self._wake.wait_for(lambda: self._job is not None or self._is_closing)
            job, self._job = self._job, None
            return None if self._is_closing else job
