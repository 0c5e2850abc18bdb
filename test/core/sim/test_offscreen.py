"""Pictures without a screen: the right size, the right colours, and beside the physics."""

import threading
import time

import numpy as np
import pytest

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.sim import offscreen
from qwen_vla_ros.sim.camera_thread import CameraThread, View


def is_red(image):
    r, g, b = np.moveaxis(image.astype(int), -1, 0)
    return (r > 100) & (g < r / 2) & (b < r / 2)


@pytest.fixture
def room(base):
    base.reset(0)
    return base.world


@pytest.fixture
def open_cameras(room):
    """Start camera threads that are closed at the end."""
    opened = []

    def start(deliver):
        opened.append(CameraThread(room.model, deliver))
        return opened[-1]

    yield start
    for cameras in opened:
        cameras.close()


@pytest.mark.parametrize("size", [(320, 240), (64, 48), (640, 480)])
def test_a_picture_has_the_size_that_was_asked_for(room, size):
    width, height = size
    image = room.render("front", width, height)
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8


def test_the_picture_stands_upright(room):
    image = room.render("front", 320, 240).astype(int)
    sky, floor = image[:40], image[-40:]
    assert (sky[..., 2] - sky[..., 0]).mean() > 15
    assert (floor[..., 2] - floor[..., 0]).mean() < 5


@pytest.mark.slow
def test_every_camera_of_the_cell_sees_something_of_its_own(arms):
    arms.reset(0)
    pictures = [arms.world.render(camera, 160, 120) for camera in arms.world.cameras]
    assert all(picture.std() > 15 for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_the_head_camera_sees_the_red_cube(arms):
    arms.reset(0)
    seen = is_red(arms.world.render("cam_high", 320, 240))
    assert seen.sum() > 40


def test_the_same_moment_gives_the_same_picture(room):
    assert np.array_equal(room.render("front", 160, 120), room.render("front", 160, 120))


def test_a_camera_thread_delivers_every_view_of_a_moment_with_its_stamp(room, open_cameras):
    delivered, done = [], threading.Event()
    views = [View("front", 64, 48), View("overview", 80, 60)]

    def deliver(view, image, stamp_ns):
        delivered.append((view, image.shape, stamp_ns))
        if len(delivered) == len(views):
            done.set()

    open_cameras(deliver).offer(room.snapshot(), 42, views)
    assert done.wait(10)
    assert delivered == [(views[0], (48, 64, 3), 42), (views[1], (60, 80, 3), 42)]


@pytest.mark.slow
def test_a_camera_thread_leaves_out_what_came_while_it_drew(room, open_cameras):
    stamps, drawing, go_on = [], threading.Event(), threading.Event()

    def deliver(_, __, stamp_ns):
        stamps.append(stamp_ns)
        drawing.set()
        go_on.wait(10)

    cameras = open_cameras(deliver)
    cameras.offer(room.snapshot(), 1, [View("front", 64, 48)])
    assert drawing.wait(10)
    for stamp_ns in (2, 3, 4):
        cameras.offer(room.snapshot(), stamp_ns, [View("front", 64, 48)])
    go_on.set()
    deadline = time.monotonic() + 10
    while len(stamps) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stamps == [1, 4]
    assert cameras.skipped == 2


@pytest.mark.slow
def test_the_physics_goes_on_while_a_picture_is_drawn(room, open_cameras):
    steps, done = 0, threading.Event()
    cameras = open_cameras(lambda *_: done.set())
    cameras.offer(room.snapshot(), 0, [View("overview", 1280, 960)] * 5)
    while not done.is_set():
        room.step()
        steps += 1
    assert steps > 1


def test_a_chosen_backend_is_respected(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert offscreen.choose_backend() == "osmesa"


def test_without_egl_osmesa_is_chosen(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(offscreen.ctypes, "CDLL", lambda _: (_ for _ in ()).throw(OSError()))
    assert offscreen.choose_backend() == "osmesa"


def test_a_machine_that_cannot_draw_is_told_what_to_install(room, monkeypatch):
    def fail(_):
        raise ImportError("no such library")

    monkeypatch.setattr(offscreen.importlib, "import_module", fail)
    with pytest.raises(QwenVlaError, match="apt install"):
        offscreen.OffscreenRenderer(room.model)
    with pytest.raises(QwenVlaError, match="apt install"):
        CameraThread(room.model, lambda *_: None)
