"""B: what the cameras send. From the stream to the motion; and from the bytes to a picture.

The cameras are simulated ones without noise: while the robot stands, they repeat their picture.
"""

from __future__ import annotations

import bisect
import importlib.util
import io
import struct
import time
import tracemalloc
import zlib

import numpy as np

from faults.judge import S
from faults.rig import Rig, run
from faults.scenario import Outcome, content, fault, holds, resting
from qwen_vla_ros.observation.buffer import ObservationBuffer
from qwen_vla_ros.types import Observation


class Sight:
    """The cameras of a robot, and a policy that only answers what it sees whole."""

    def __init__(self, rig: Rig, policy) -> None:
        self.rig = rig
        self._policy = policy
        self._buffer = ObservationBuffer(rig.embodiment)
        self._cameras = rig.embodiment.file.cameras
        rng = np.random.default_rng(0)
        self._scenery = {
            c.name: rng.integers(0, 256, (c.height_px, c.width_px, 3), np.uint8)
            for c in self._cameras
        }
        self.change = lambda _, stamps: stamps
        self.lens = lambda _, image: image
        self.frame_id = lambda camera: camera.frame_id
        self.dark: set[str] = set()
        self.rests = False
        self.places: list[tuple[int, float]] = []
        self.ages: list[float] = []

    def __call__(self, k: int) -> None:
        """See, and answer."""
        rig = self.rig
        self.places.append((rig.now_ns, float(np.sum(rig.setpoint[0]))))
        clock = {"now_ns": rig.now_ns, "steady_ns": rig.steady_ns}
        for source in rig.embodiment.file.state:
            if rig.is_base:
                self._buffer.put_pose(source.topic, rig.setpoint[0], rig.now_ns, **clock)
            else:
                values = rig.setpoint[0][[rig.names.index(joint) for joint in source.joints]]
                self._buffer.put_joints(source.topic, source.joints, values, rig.now_ns, **clock)
        if k % 3 == 0:  # 16.7 Hz
            for camera in self._cameras:
                if camera.name in self.dark:
                    continue
                if not self._buffer.is_placed(camera.name, self.frame_id(camera)):
                    continue
                for stamp_ns in self.change(camera.name, [rig.now_ns]):
                    image = self.lens(camera.name, self.look(camera.name, stamp_ns))
                    self._buffer.put_image(camera.name, image, stamp_ns, **clock)
        if k % 7 == 4:
            seen = self.sample()
            if isinstance(seen, Observation) and not self.rests:
                self.ages.append((rig.now_ns - seen.stamp_ns) / S)
                rig.give(self._policy.chunk(self.ages[-1]))

    def sample(self):
        return self._buffer.sample(self.rig.now_ns, self.rig.steady_ns)

    def look(self, camera, stamp_ns):
        """Return what was to be seen from where the robot was."""
        k = bisect.bisect(self.places, (stamp_ns, np.inf)) - 1
        place = self.places[max(0, k)][1]
        return self._scenery[camera] + np.uint8(round(place * 1e4) % 256)


def seeing(name, rng):
    rig, policy = resting(name, rng)
    sight = Sight(rig, policy)
    run(rig, None, rng.uniform(0.8, 1.2), before=sight)
    return rig, policy, sight


FROZEN_S = BLIND_S = 1.0
"""Within so long a camera must be found out that repeats itself; a little more for a dark one."""


def _bound_s(rig):
    """A chunk is played to its end at most, and that long after its observation."""
    return rig.safety["max_observation_age_s"] + rig.period_ns / S


def _blind(rng, name, how, noticed_s=None):
    rig, _, sight = seeing(name, rng)
    how(sight, rig)
    if noticed_s is None:
        noticed_s = max(camera["max_age_s"] for camera in rig.file["cameras"])
    outcome = holds(rig, None, noticed_s + _bound_s(rig), before=sight)
    if outcome.miss:
        return outcome
    sight.dark.clear()
    sight.change = lambda _, stamps: stamps
    sight.lens = lambda _, image: image
    sight.frame_id = lambda camera: camera.frame_id
    cleared_ns = rig.true_ns
    run(rig, None, 2.5, before=sight)
    return outcome if rig.moved_ns > cleared_ns else Outcome(f"did not go on; {rig.cause}")


@fault("B1", "a stream stops")
def stream_stops(rng, name):
    def how(sight, rig):
        sight.dark.add(_some_camera(rng, rig))

    return _blind(rng, name, how)


@fault("B2", "a picture that stands still, with fresh stamps")
def frozen(rng, name):
    def how(sight, rig):
        stuck = _some_camera(rng, rig)
        picture = sight.look(stuck, rig.now_ns)
        sight.lens = lambda camera, image: picture if camera == stuck else image

    return _blind(rng, name, how, FROZEN_S)


@fault("B2", "a noise-free camera of a robot that stands still")
def still(rng, name):
    rig, policy, sight = seeing(name, rng)
    sight.rests = True
    run(rig, None, 2.5, before=sight)
    if rig.setpoint[1].any():
        return Outcome("the robot did not come to rest: nothing was tried")
    seen = sight.sample()
    if not isinstance(seen, Observation):
        return Outcome(f"a false alarm: {seen.reason}")
    sight.rests = False
    policy.restart()
    resumed_ns = rig.true_ns
    run(rig, None, 2.5, before=sight)
    return Outcome("" if rig.moved_ns > resumed_ns else f"did not go on; {rig.cause}")


@fault("B10", "a black, white or covered lens")
def covered(rng, name):
    level, spread = rng.choice([(0, 8), (246, 9), (int(rng.integers(20, 230)), 4)])

    def how(sight, rig):
        covered = _some_camera(rng, rig)
        sight.lens = lambda camera, image: (
            np.uint8(level) + image % np.uint8(spread) if camera == covered else image
        )

    return _blind(rng, name, how, BLIND_S + 0.2)


@fault("B11", "cameras that were swapped, or another one than declared")
def swapped(rng, name):
    def how(sight, rig):
        cameras = rig.embodiment.file.cameras
        wrong = _some_camera(rng, rig)
        others = [c.frame_id for c in cameras if c.name != wrong] or ["elsewhere", ""]
        other = str(rng.choice(others))
        sight.frame_id = lambda camera: other if camera.name == wrong else camera.frame_id

    return _blind(rng, name, how)


def _some_camera(rng, rig):
    cameras = rig.file["cameras"]
    return cameras[int(rng.integers(len(cameras)))]["name"]


@fault("B3", "stamps that stand still or run back")
def backwards(rng, name):
    def how(sight, rig):
        stuck_ns = rig.now_ns
        back_ns = int(rng.choice([0, S // 100, S]))
        sight.change = lambda _, stamps: [stuck_ns - back_ns for _ in stamps]

    return _blind(rng, name, how)


@fault("B4", "stamps of the future")
def future(rng, name):
    ahead_ns = round(rng.uniform(0.06, 1e4) * S)

    def how(sight, _):
        sight.change = lambda _, stamps: [stamp + ahead_ns for stamp in stamps]

    return _blind(rng, name, how)


@fault("B6", "a camera that lags behind the others")
def skew(rng, name):
    if len(Rig(name).file["cameras"]) < 2:
        return _skew_to_state(rng, name)
    lag_ns = round(rng.uniform(0.2, 3.0) * S)

    def how(sight, rig):
        late = _some_camera(rng, rig)
        sight.change = lambda camera, stamps: [
            stamp - lag_ns if camera == late else stamp for stamp in stamps
        ]

    return _blind(rng, name, how)


def _skew_to_state(rng, name):
    lag_ns = round(rng.uniform(0.6, 3.0) * S)

    def how(sight, _):
        sight.change = lambda _, stamps: [stamp - lag_ns for stamp in stamps]

    return _blind(rng, name, how)


@fault("B5", "frames that come seldom, or in bursts")
def seldom(rng, name):
    rig, _, sight = seeing(name, rng)
    waiting: dict[str, list[int]] = {}

    def change(camera, stamps):
        held = waiting.setdefault(camera, [])
        held += stamps
        if rng.random() > 0.3:
            return []
        waiting[camera] = []
        return held

    sight.change = change
    sight.ages.clear()
    run(rig, None, 3.0, before=sight)
    oldest = max(camera["max_age_s"] for camera in rig.file["cameras"])
    if any(age > oldest for age in sight.ages):
        return Outcome(f"an answer to what was seen {max(sight.ages):.2f} s ago")
    return Outcome("a set-point was no number" if rig.not_finite else "")


@fault("B3", "one frame repeated or from before")
def one_old_frame(rng, name):
    seed = int(rng.integers(2**32))
    told = []
    for is_disturbed in (False, True):
        rig, _, sight = seeing(name, np.random.default_rng(seed))
        back_ns = int(np.random.default_rng(seed + 1).choice([0, 1, S // 50, S // 5]))
        if is_disturbed:
            sight.change = lambda _, stamps, back=back_ns: [*stamps, stamps[0] - back]
        run(rig, None, 0.5, before=sight)
        told.append([content(message) for message in rig.sent])
    return Outcome("" if told[0] == told[1] else "the commands are not the same")


# from bytes to a picture -----------------------------------------------------------------------

HAS_ROS = importlib.util.find_spec("sensor_msgs") is not None


def _refused(message, most_s, most_bytes=10 * 2**20):
    from qwen_vla_ros.ros.images import ImageError, image_from_message

    begin = time.perf_counter()
    try:
        image_from_message(message)
    except ImageError:
        seconds = time.perf_counter() - begin
    else:
        return Outcome("it was taken for a picture")
    tracemalloc.start()
    try:
        image_from_message(message)
    except ImageError:
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if seconds > most_s or most > most_bytes:
        return Outcome(f"{seconds * 1e3:.0f} ms, {most / 2**20:.0f} MiB", seconds)
    return Outcome("", seconds)


if HAS_ROS:

    @fault("B7", "a message that contradicts itself", ())
    def contradiction(rng, _):
        from builtin_interfaces.msg import Time

        from qwen_vla_ros.ros.images import image_to_message

        picture = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        message = image_to_message(picture, Time(), "")
        kind = rng.integers(6)
        if kind == 0:
            message.encoding = str(rng.choice(["", "rgb9", "yuv\0", "32FC1", "x" * 1000]))
        elif kind == 1:
            message.step = int(rng.integers(0, 96))
        elif kind == 2:
            message.height = int(rng.integers(25, 2**32))
        elif kind == 3:
            message.data = message.data[: int(rng.integers(0, 24 * 96))]
        elif kind == 4:
            message.width = 0
        else:
            message.width = int(rng.integers(33, 2**32))
        return _refused(message, 0.05)

    @fault("B8", "a picture that is cut off, or none", ())
    def garbage(rng, _):
        from builtin_interfaces.msg import Time

        from qwen_vla_ros.ros.images import image_to_compressed

        picture = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        message = image_to_compressed(picture, Time(), "")
        data = bytes(message.data)
        if rng.random() < 0.5:
            message.data = data[: int(rng.integers(0, 150))]
        else:
            message.data = rng.bytes(int(rng.integers(0, 4000)))
        return _refused(message, 0.05)

    @fault("B9", "a picture that is small on the wire and huge in memory", ())
    def bomb(rng, _):
        from sensor_msgs.msg import CompressedImage

        side = int(rng.integers(2_100, 60_000))
        message = CompressedImage(format="png", data=_png_header(side, side))
        return _refused(message, 0.05)


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    out = io.BytesIO()
    out.write(b"\x89PNG\r\n\x1a\n")
    out.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
    out.write(chunk(b"IDAT", zlib.compress(b"\0" * 1000)))
    out.write(chunk(b"IEND", b""))
    return out.getvalue()
