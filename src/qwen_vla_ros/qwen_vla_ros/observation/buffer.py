"""Collects every stream of one robot and samples them at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.observation.camera_watch import CameraWatch
from qwen_vla_ros.observation.history import History
from qwen_vla_ros.observation.stream import Stream
from qwen_vla_ros.problems import printable
from qwen_vla_ros.types import FloatArray, ImageArray, Observation

MAX_SKEW_S = 0.05
"""Two streams further apart than this do not show the same moment (B6)."""

IMAGE_DEPTH = 4
STATE_DEPTH = 64
LONGEST_FRAME_ID = 60
BASE_LITTLE = 0.05
"""A base may move so far (m, or roughly rad) without its cameras seeing another picture."""


@dataclass(frozen=True)
class Gap:
    """Why there is no observation, as one sentence."""

    reason: str


class ObservationBuffer:
    """Ring buffers for all cameras and state sources of an embodiment."""

    def __init__(self, embodiment: Embodiment, *, needs_scene: bool = False) -> None:
        """Prepare the streams of `embodiment`; `needs_scene` asks for a simulator's truth too."""
        self._embodiment = embodiment
        file = embodiment.file
        self._cameras: dict[str, Stream[ImageArray]] = {
            camera.name: Stream(camera.name, camera.max_age_s, IMAGE_DEPTH)
            for camera in file.cameras
        }
        self._histories = {
            camera.name: History(camera.history, lag=IMAGE_DEPTH)
            for camera in file.cameras
            if camera.history is not None
        }
        self._sizes = {
            camera.name: (camera.height_px, camera.width_px, 3) for camera in file.cameras
        }
        self._states: dict[str, Stream[FloatArray]] = {
            source.topic: Stream(source.topic, source.max_age_s, STATE_DEPTH)
            for source in file.state
        }
        self._scene: Stream[Mapping[str, FloatArray]] | None = (
            Stream("scene/objects", 0.5, STATE_DEPTH) if needs_scene else None
        )
        self._joints_of = {source.topic: source.joints for source in file.state}
        little = self._little()
        self._watches = {camera.name: CameraWatch(camera.name, little) for camera in file.cameras}
        self._frame_ids = {camera.name: camera.frame_id for camera in file.cameras}

    def is_placed(self, camera: str, frame_id: str) -> bool:
        """Return whether a picture is from where the file says; count it as refused if not (B11).

        A camera whose file entry declares no `frame_id` may be anywhere.
        """
        declared = self._frame_ids[camera]
        if declared in ("", frame_id):
            return True
        other = next((name for name, of in self._frame_ids.items() if of == frame_id), None)
        whose = f", which is '{other}'s," if other else ""
        shown = printable(frame_id[:LONGEST_FRAME_ID])
        self.drop(camera, f"frame_id '{shown}'{whose} instead of '{declared}'")
        return False

    def put_image(
        self, camera: str, image: ImageArray, stamp_ns: int, *, now_ns: int, steady_ns: int
    ) -> None:
        """Take in an RGB image of the size that the embodiment file says."""
        stream = self._cameras[camera]
        if image.shape != self._sizes[camera]:
            height, width, _ = self._sizes[camera]
            stream.drop(f"{image.shape[1]}x{image.shape[0]} px instead of {width}x{height}")
            return
        taken = stream.put(stamp_ns, image, now_ns=now_ns, steady_ns=steady_ns)
        if not taken:
            return
        self._watches[camera].see(image, stamp_ns, self._pose(stamp_ns))
        if camera in self._histories:
            self._histories[camera].put(stamp_ns, image)

    def put_joints(
        self,
        topic: str,
        names: Sequence[str],
        positions: Sequence[float],
        stamp_ns: int,
        *,
        now_ns: int,
        steady_ns: int,
    ) -> None:
        """Take in joint positions (rad or m), in any order."""
        stream = self._states[topic]
        by_name = dict(zip(names, positions, strict=False))
        missing = [joint for joint in self._joints_of[topic] if joint not in by_name]
        if missing:
            stream.drop(f"joint '{missing[0]}' missing")
            return
        values = np.array([by_name[joint] for joint in self._joints_of[topic]], dtype=np.float64)
        self._put_finite(stream, values, stamp_ns, now_ns, steady_ns)

    def put_pose(
        self, topic: str, pose: FloatArray, stamp_ns: int, *, now_ns: int, steady_ns: int
    ) -> None:
        """Take in a planar pose (x m, y m, yaw rad)."""
        self._put_finite(self._states[topic], pose, stamp_ns, now_ns, steady_ns)

    def put_scene(
        self, scene: Mapping[str, FloatArray], stamp_ns: int, *, now_ns: int, steady_ns: int
    ) -> None:
        """Take in a simulator's object poses."""
        if self._scene is not None:
            self._scene.put(stamp_ns, scene, now_ns=now_ns, steady_ns=steady_ns)

    def begin_episode(self) -> None:
        """Forget the images from before: the history of an episode begins with it."""
        for history in self._histories.values():
            history.forget()

    def drop(self, camera: str, why: str) -> None:
        """Count a camera frame that could not be read."""
        self._cameras[camera].drop(why)

    def dropped(self) -> dict[str, int]:
        """Return how many samples were refused, by stream and reason."""
        return {
            f"{stream.name}: {why}": count
            for stream in self._streams()
            for why, count in stream.dropped.items()
        }

    def sample(self, now_ns: int, steady_ns: int) -> Observation | Gap:
        """Return what all sensors saw at one moment, or why that cannot be said.

        The moment is the newest time that every camera has reached; each camera gives its frame
        nearest to it, and so does every state source. A history counts back from that frame.
        """
        for stream in self._streams():
            reason = stream.gap(now_ns, steady_ns)
            if reason:
                return Gap(reason)
        for watch in self._watches.values():
            if fault := watch.fault():
                return Gap(fault)
        moment = min(stream.newest_ns for stream in self._cameras.values())
        frames = {name: stream.nearest(moment) for name, stream in self._cameras.items()}
        states = {topic: stream.nearest(moment) for topic, stream in self._states.items()}
        for name, (stamp_ns, _) in (*frames.items(), *states.items()):
            skew = abs(stamp_ns - moment) / NS_PER_S
            if skew > MAX_SKEW_S:
                return Gap(
                    f"'{name}' is {skew * 1e3:.0f} ms away from the other streams, "
                    f"{MAX_SKEW_S * 1e3:.0f} ms are allowed"
                )
        return Observation(
            stamp_ns=min(stamp_ns for stamp_ns, _ in frames.values()),
            images={name: image for name, (_, image) in frames.items()},
            state=self._state({topic: value for topic, (_, value) in states.items()}),
            history={
                name: history.before(*frames[name]) for name, history in self._histories.items()
            },
            scene=self._scene.nearest(moment)[1] if self._scene is not None else {},
        )

    def _streams(self) -> list[Stream[Any]]:
        streams: list[Stream[Any]] = [*self._cameras.values(), *self._states.values()]
        return streams if self._scene is None else [*streams, self._scene]

    def _little(self) -> FloatArray:
        """Return how far each number of `_pose` may move before a camera must have seen it."""
        if self._embodiment.has_base:
            return np.full(4, BASE_LITTLE)
        # A joint that is not commanded has no limits, and moves whenever it likes.
        limits = self._embodiment.file.safety.joints
        return np.array(
            [
                limits[joint].tracking if joint in limits else np.inf
                for joints in self._joints_of.values()
                for joint in joints
            ]
        )

    def _pose(self, stamp_ns: int) -> FloatArray | None:
        """Return where the robot was: all measured joints, or x, y and the direction of a base."""
        if not all(stream.newest_ns for stream in self._states.values()):
            return None
        values = np.concatenate([stream.nearest(stamp_ns)[1] for stream in self._states.values()])
        if not self._embodiment.has_base:
            return values
        x, y, yaw = values
        return np.array([x, y, np.cos(yaw), np.sin(yaw)])

    def _put_finite(
        self,
        stream: Stream[FloatArray],
        values: FloatArray,
        stamp_ns: int,
        now_ns: int,
        steady_ns: int,
    ) -> None:
        if np.isfinite(values).all():
            stream.put(stamp_ns, values, now_ns=now_ns, steady_ns=steady_ns)
        else:
            stream.drop("a value that is not finite")

    def _state(self, values: Mapping[str, FloatArray]) -> FloatArray:
        if self._embodiment.has_base:
            return next(iter(values.values()))
        by_name = {
            joint: value
            for topic, positions in values.items()
            for joint, value in zip(self._joints_of[topic], positions, strict=True)
        }
        positions = np.array([by_name[joint] for joint in self._embodiment.joints])
        return self._embodiment.channels_from_joints(positions)
