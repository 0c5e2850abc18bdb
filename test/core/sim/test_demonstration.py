"""Demonstrations: what the expert said and not what was played, and pictures drawn from them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qwen_vla_ros.model.image_processing import fit_image
from qwen_vla_ros.sim import scene_renderer
from qwen_vla_ros.sim.demonstration import demonstrate, row_limits, vary_instruction
from qwen_vla_ros.sim.expert import load_expert
from qwen_vla_ros.sim.random_scenes import random_scenes
from qwen_vla_ros.sim.scene_renderer import SceneRenderer
from qwen_vla_ros.sim.shards import shard_path, write_scene, write_shard
from qwen_vla_ros.sim.target import named_object
from qwen_vla_ros.sim.variation import Axes, Variation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drive(diffbot, base):
    return demonstrate(diffbot, base, load_expert(diffbot), 100_003, 0.25, 30.0)


@pytest.fixture(scope="module", params=["aloha", "diffbot"])
def drawn(request, tmp_path_factory):
    """A robot at the start of a scene, and the renderer of its folder."""
    embodiment = request.getfixturevalue(request.param)
    robot = request.getfixturevalue("arms" if request.param == "aloha" else "base")
    folder = tmp_path_factory.mktemp(request.param)
    write_scene(embodiment, robot, folder)
    robot.reset(5)
    renderer = SceneRenderer(folder / "scene.mjb", folder / "scene.json")
    absent = np.full(7, np.nan)
    objects = np.array([robot.world.objects().get(name, absent) for name in renderer.objects])
    yield embodiment, robot, renderer, robot.world.snapshot().positions, objects
    renderer.close()


def test_what_is_kept_is_right_to_do_where_noise_has_led(diffbot, drive):
    rows = drive.rows
    count = len(rows["time_s"])
    assert rows["actions"].shape == (count, 8, 3)
    assert rows["state"].shape == (count, 3)
    assert np.all(np.diff(rows["time_s"]) > 0)
    limits = row_limits(diffbot)
    assert np.all(np.abs(rows["actions"][..., 2]) <= limits[2]), "no noise is in the labels"
    assert rows["phase"][-1] == 1
    assert not rows["actions"][-1].any(), "the end says stop"


def test_a_seed_fixes_a_demonstration(diffbot, base, drive):
    again = demonstrate(diffbot, base, load_expert(diffbot), 100_003, 0.25, 30.0)
    assert again.instruction == drive.instruction
    assert all(np.array_equal(again.rows[k], drive.rows[k], equal_nan=True) for k in again.rows)


@pytest.mark.parametrize("name", ["arms", "base"])
def test_every_phrase_names_the_same_thing(request, name):
    robot = request.getfixturevalue(name)
    robot.reset(3)
    asked = robot.world.suggest_instruction()
    said = {vary_instruction(asked, robot, seed) for seed in range(60)}
    assert len(said) > len(robot.world.phrases)
    target = named_object(asked, robot.world.objects())
    assert {named_object(words, robot.world.objects()) for words in said} == {target}
    assert {robot.world.judge(words).target for words in said} == {target}


def test_a_shard_holds_those_that_succeed_and_counts_all(diffbot, tmp_path):
    kept, rows = write_shard(diffbot, tmp_path, range(100_000, 100_002), (0.0, 0.1), 4.0)
    with np.load(shard_path(tmp_path, 100_000)) as shard:
        assert list(shard["attempted"]) == [100_000, 100_001]
        assert len(shard["succeeded"]) == kept
        assert len(shard["time_s"] if rows else ()) == rows
    assert not list(tmp_path.glob("*.part"))


def test_the_pictures_are_those_that_the_robot_would_see(drawn):
    embodiment, robot, renderer, qpos, objects = drawn
    pictures = renderer.render(qpos, objects)
    for picture, camera in zip(pictures, embodiment.file.cameras, strict=True):
        whole = robot.world.render(camera.name, camera.width_px, camera.height_px)
        size = camera.input_width_px, camera.input_height_px
        seen = fit_image(whole, size, camera.fit).astype(int)
        assert np.abs(picture - seen).mean() < 0.5


def test_an_object_is_where_its_colour_is_seen(drawn):
    _, robot, renderer, qpos, objects = drawn
    pixels, seen = renderer.locate(qpos, objects)
    pictures = renderer.render(qpos, objects)
    found = 0
    for index, name in enumerate(renderer.objects):
        if not seen[0, index]:
            continue
        x, y = pixels[0, index].astype(int)
        wanted = np.argmax(robot.world.object_color(name)[:3])
        found += np.argmax(pictures[0, y, x]) == wanted
    assert found >= 1
    assert found >= seen[0].sum() - 1, "one may hide another"
    assert not seen[:, np.isnan(objects[:, 0])].any()


def test_a_scene_looks_otherwise_for_a_while_only(drawn):
    _, _, renderer, qpos, objects = drawn
    plain = renderer.render(qpos, objects)
    variation = Variation.draw(np.random.default_rng(1))
    with variation.applied(renderer.model, renderer.objects, 0):
        changed = renderer.render(qpos, objects)
    with variation.applied(renderer.model, renderer.objects, 0):
        assert np.array_equal(renderer.render(qpos, objects), changed)
    assert np.abs(changed.astype(int) - plain).mean() > 2
    assert np.array_equal(renderer.render(qpos, objects), plain)


def test_only_what_is_asked_for_is_sure_to_be_there(drawn):
    _, _, renderer, qpos, objects = drawn
    _, before = renderer.locate(qpos, objects)
    target = int(np.argmax(before[0]))
    still = Axes(camera_m=0.0, camera_rad=0.0, zoom=0.0, absent=1.0)
    with Variation(seed=1, axes=still).applied(renderer.model, renderer.objects, target):
        _, seen = renderer.locate(qpos, objects)
    assert seen[0].nonzero()[0].tolist() == [target]


def test_random_scenes_keep_the_robot_and_move_the_things(drawn):
    _, _, renderer, qpos, _ = drawn
    rng = np.random.default_rng(0)
    made = random_scenes(renderer.model, renderer.scene, qpos[None], np.zeros((1, 3)), 20, rng)
    places = made["objects"][..., :2]
    apart = renderer.scene["scatter"]["apart_m"]
    for scene in places:
        there = scene[np.isfinite(scene[:, 0])]
        gaps = np.linalg.norm(there[:, None] - there[None], axis=-1)
        assert gaps[np.triu_indices(len(there), 1)].min(initial=np.inf) > apart
    assert np.nanstd(places, axis=0).min() > 0.02
    for row, poses in zip(made["qpos"], made["objects"], strict=True):
        renderer._place(row, poses)
        there = np.isfinite(poses[:, 0])
        found = renderer._data.xpos[renderer._bodies][there]
        assert found == pytest.approx(poses[there, :3], abs=1e-5)


def test_a_scene_of_another_version_is_refused(drawn, tmp_path):
    _, _, renderer, _, _ = drawn
    (tmp_path / "scene.json").write_text(json.dumps(renderer.scene | {"mujoco": "0.1"}))
    with pytest.raises(ValueError, match=r"written by MuJoCo 0\.1"):
        SceneRenderer(tmp_path / "scene.mjb", tmp_path / "scene.json")


def test_drawing_needs_nothing_else_of_the_project():
    folder = Path(scene_renderer.__file__).parent
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import scene_renderer, variation;"
        "import random_scenes; sys.exit(any(name.split('.')[0] in "
        "('qwen_vla_ros', 'pinocchio', 'rclpy', 'pydantic', 'torch') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
