"""A film of the ALOHA arms under attack: left as they are moved, right as the policy asks.

    make attack-video FILM="--seconds 20 --seed 7"

The left pictures show what the judge plays of the gate's messages, at 1 kHz and with late ticks;
the right ones the chunk that was said last, made drawable and no more. Ratios and contacts are the
judge's, and those of the whole film up to there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import imageio.v2 as imageio
import mujoco
import numpy as np
from tqdm import tqdm

from faults.attacks import Adversary, Pace
from faults.contact import ContactJudge, slots_of_meshes
from faults.judge import Floats, S
from faults.rig import LOOK_NS, Rig
from qwen_vla_ros.sim.aloha_model import compile_aloha_cell
from qwen_vla_ros.sim.offscreen import OffscreenRenderer, Snapshot
from qwen_vla_ros.types import ActionChunk, ImageArray

ROBOT = "aloha_sim"
FPS = 25
LOOKS_PER_FRAME = S // FPS // LOOK_NS
CAMERA = "overview"
PLACE_M, FOVY_DEG = (0.0, -0.55, 0.72), 58.0
"""Further away than a demonstration is filmed from: the arms shall be seen whole."""
VIEW_PX = (384, 512)
TOP_PX, BOTTOM_PX = 34, 86
HIDDEN_M = -50.0
FINGER_M = 0.057
"""How far a finger can be drawn from the middle."""

DARK, LIGHT, GREY = (24, 24, 24), (238, 238, 238), (165, 165, 165)
COLOURS = {
    "OK": (110, 215, 120),
    "LIMITED": (250, 205, 70),
    "HOLD": (250, 150, 60),
    "STOP": (250, 95, 85),
}


@dataclass
class Moment:
    """What one picture shows.

    Attributes:
        played: Where the joints are commanded to be (J,).
        asked: Where the policy wants them (J,), as far as it can be drawn.
        attack: What the policy does.
        level, cause: Of the gate.
        speed, acceleration: Worst ratio to the limit until now.
        touching: In how many looks at `played` links overlapped, until now.
        objection: What is wrong with what is asked for; empty where nothing is.
    """

    played: Floats
    asked: Floats
    attack: str
    level: str
    cause: str
    speed: float
    acceleration: float
    touching: int
    looks: int
    objection: str


class Request:
    """What a policy asks for at a time: the chunk that it said last, at its own pace."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._pose = rig.home.copy()
        self._rows, self._chunk = rig.home[None], None
        is_finger = np.array([name.endswith("finger") for name in rig.names])
        self._drawable = np.where(is_finger, FINGER_M, np.pi)
        self._imagined = ContactJudge(ROBOT)

    def hear(self, chunk: ActionChunk) -> None:
        if not chunk.rest:
            self._chunk = chunk
            self._rows = self._rig.embodiment.joints_from_channels(chunk.actions)

    def pose(self, ns: int) -> tuple[Floats, str]:
        """Return joints (J,) that can be drawn, and what is wrong with those that are asked for.

        A joint that is no number stays where it was asked to be before.
        """
        if self._chunk is None:
            return self._pose, ""
        row = int((ns - self._chunk.stamp_ns) / S / self._chunk.dt)
        wanted = self._rows[min(max(row, 0), len(self._rows) - 1)]
        limits, objections = self._rig.limits, []
        if not np.isfinite(wanted).all():
            objections.append("not a number")
        if ((wanted < limits.lower) | (wanted > limits.upper)).any():
            objections.append("beyond a joint's limit")
        wanted = np.where(np.isnan(wanted), self._pose, wanted)
        self._pose = np.clip(wanted, -self._drawable, self._drawable)
        if self._imagined.look(self._rig.names, self._pose):
            objections.append("in contact")
        return self._pose, ", ".join(objections)


def attacked(frames: int, seed: int) -> Iterator[Moment]:
    """Attack the arms from when they are armed, and yield what is to be seen of it."""
    rng = np.random.default_rng(seed)
    rig = Rig(ROBOT, keeps=False)
    contact = ContactJudge(ROBOT)
    adversary, timing, request = Adversary(rig, rng), Pace(rng, is_exact=False), Request(rig)
    moments: list[Moment] = []

    def watch(names: list[str], played: Floats) -> None:
        contact.look(names, played)
        if contact.looks % LOOKS_PER_FRAME:
            return
        asked, objection = request.pose(rig.true_ns)
        moments.append(
            Moment(
                played=played.copy(),
                asked=asked,
                attack=adversary.attack,
                level=rig.level,
                cause=rig.cause,
                speed=rig.ratio("speed"),
                acceleration=rig.ratio("acceleration"),
                touching=contact.touching,
                looks=contact.looks,
                objection=objection,
            )
        )

    why_not = rig.arm()
    if why_not:
        raise AssertionError(why_not)
    rig.watch = watch
    while frames > 0:
        if rig.gate.latch.is_armed:
            chunk = adversary.chunk()
            if chunk is not None:
                request.hear(chunk)
                rig.give(chunk)
        else:
            rig.gate.arm(rig.steady_ns)
        late_ns, deliver_ns = timing.draw()
        rig.tick(late_ns=late_ns, deliver_ns=deliver_ns)
        yield from moments[:frames]
        frames -= len(moments)
        moments.clear()


class Stage:
    """Draws the cell with its arms in any pose."""

    def __init__(self) -> None:
        model = compile_aloha_cell()
        model.cam_pos[model.camera(CAMERA).id] = PLACE_M
        model.cam_fovy[model.camera(CAMERA).id] = FOVY_DEG
        model.vis.quality.offsamples = 4
        self._slots = slots_of_meshes(model)
        self._renderer = OffscreenRenderer(model)
        data = mujoco.MjData(model)
        self._positions = data.qpos.copy()
        for k in range(model.njnt):
            if model.jnt_type[k] == mujoco.mjtJoint.mjJNT_FREE:  # cubes, which nobody looks for
                self._positions[model.jnt_qposadr[k] + 2] = HIDDEN_M
        self._mocaps = data.mocap_pos.copy(), data.mocap_quat.copy()

    def draw(self, names: list[str], joints: Floats) -> ImageArray:
        """Return a picture (H, W, 3) of `joints` (J,)."""
        values = dict(zip(names, joints, strict=True))
        for slot, joint, factor in self._slots:
            self._positions[slot] = factor * values[joint]
        height, width = VIEW_PX
        return self._renderer.render(
            Snapshot(self._positions, *self._mocaps), CAMERA, width, height
        )

    def close(self) -> None:
        self._renderer.close()


def compose(left: ImageArray, right: ImageArray, moment: Moment, seconds: float) -> ImageArray:
    """Return both pictures side by side, and what is to be known below and above."""
    height, width = VIEW_PX
    picture = np.full((TOP_PX + height + BOTTOM_PX, 2 * width, 3), DARK, np.uint8)
    picture[TOP_PX : TOP_PX + height, :width] = left
    picture[TOP_PX : TOP_PX + height, width:] = right
    picture[TOP_PX:, width - 1 : width + 1] = DARK
    state = {"HOLD": "hold", "STOP": "stop"}.get(moment.level, "armed")
    cause = f" ({moment.cause.replace('_', ' ')})" if moment.cause else ""
    attack = moment.attack.replace("_", " ") + (", waits for arming" if state == "stop" else "")
    touched = COLOURS["STOP" if moment.touching else "OK"]
    above = 23
    below = [TOP_PX + height + 24 + 25 * k for k in range(3)]
    _write(picture, "what the gate lets through", (12, above), LIGHT)
    _write(picture, f"gate: {state}{cause}", (12, below[0]), COLOURS[moment.level])
    ratios = f"speed {moment.speed:.3f}, acceleration {moment.acceleration:.3f}"
    _write(picture, f"worst share of a limit: {ratios}", (12, below[1]), LIGHT)
    _write(
        picture, f"contacts: {moment.touching} in {moment.looks} looks", (12, below[2]), touched
    )
    middle = width + 12
    _write(picture, "what the policy asks for", (middle, above), LIGHT)
    _write(picture, f"{seconds:4.1f} s", (2 * width - 70, above), GREY)
    _write(picture, f"attack: {attack}", (middle, below[0]), LIGHT)
    _write(picture, moment.objection, (middle, below[1]), COLOURS["STOP"])
    return picture


def _write(picture: ImageArray, text: str, place: tuple[int, int], colour: Any) -> None:
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.55
    cv2.putText(picture, text, place, font, size, colour, 1, cv2.LINE_AA)


def film(seconds: float, seed: int, path: Path) -> Moment:
    """Write a film; returns its last moment."""
    frames = round(seconds * FPS)
    names = Rig(ROBOT).names
    path.parent.mkdir(parents=True, exist_ok=True)
    stage = Stage()
    with (
        np.errstate(all="ignore"),  # 1e308 is one of the attacks
        imageio.get_writer(str(path), fps=FPS, macro_block_size=1) as writer,
    ):
        moments = attacked(frames, seed)
        for k, moment in enumerate(tqdm(moments, total=frames, unit="frame", mininterval=1.0)):
            pictures = stage.draw(names, moment.played), stage.draw(names, moment.asked)
            writer.append_data(compose(*pictures, moment, k / FPS))
    stage.close()
    return moment


def main() -> None:
    """Film an attack."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=7, help="of 0 to 9, 7 moves the arms furthest")
    parser.add_argument("--out", type=Path, default=Path("out/faults/attack.mp4"))
    options = parser.parse_args()
    last = film(options.seconds, options.seed, options.out)
    print(
        f"speed {last.speed:.4f} and acceleration {last.acceleration:.4f} of the limit at worst, "
        f"contacts in {last.touching} of {last.looks} looks; written to {options.out}"
    )


if __name__ == "__main__":
    main()
