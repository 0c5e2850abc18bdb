from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.embodiment.shapes import Shape, enclosing_capsule, read_shapes
from qwen_vla_ros.embodiment.urdf import load_urdf
from qwen_vla_ros.errors import EmbodimentError


def read(tmp_path: Path, body: str, kind: str = "collision") -> Shape:
    path = tmp_path / "one.urdf"
    link = f'<link name="arm"><{kind}><origin xyz="0 0 0.1"/>{body}</{kind}></link>'
    path.write_text(f'<robot name="one">{link}</robot>')
    (shape,) = read_shapes(load_urdf(path))
    return shape


def depth(shape: Shape, points: np.ndarray) -> np.ndarray:
    """How deep points of the link's frame are inside a shape; negative outside."""
    local = (points - shape.pose[:3, 3]) @ shape.pose[:3, :3]
    beyond = np.abs(local) - shape.half
    if shape.radius == 0:
        return -beyond.max(axis=1)
    return shape.radius - np.linalg.norm(np.maximum(beyond, 0), axis=1)


def write_stl(path: Path, points: np.ndarray) -> None:
    triangles = points.reshape(-1, 9)
    rows = b"".join(struct.pack("<12fH", 0, 0, 0, *row, 0) for row in triangles)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(80) + struct.pack("<I", len(triangles)) + rows)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40))
def test_a_capsule_holds_all_that_it_encloses_and_is_no_larger_than_a_ball(seed, count):
    rng = np.random.default_rng(seed)
    along, across = rng.uniform(-1, 1, count), rng.uniform(0, 0.5, count)
    half, radius = enclosing_capsule(along, across)
    outside = np.hypot(np.maximum(np.abs(along) - half, 0), across) - radius
    assert outside.max() <= 1e-9
    assert radius <= np.hypot(along, across).max() + 1e-9


def test_a_box_stays_a_box_where_it_is(tmp_path):
    shape = read(tmp_path, '<geometry><box size="0.2 0.4 0.6"/></geometry>')
    assert shape.radius == 0
    assert shape.half.tolist() == [0.1, 0.2, 0.3]
    assert shape.pose[:3, 3].tolist() == [0, 0, 0.1]


def test_a_cylinder_is_inside_its_capsule(tmp_path):
    shape = read(tmp_path, '<geometry><cylinder radius="0.05" length="0.3"/></geometry>')
    turn = np.linspace(0, 2 * np.pi, 30)
    rim = np.stack([0.05 * np.cos(turn), 0.05 * np.sin(turn), np.full(30, 0.25)], axis=1)
    assert depth(shape, rim).min() >= -1e-9
    assert shape.radius < 0.08


def test_what_is_seen_stands_in_where_there_is_nothing_to_collide_with(tmp_path):
    shape = read(tmp_path, '<geometry><sphere radius="0.07"/></geometry>', "visual")
    assert (shape.radius, shape.half.tolist()) == (0.07, [0, 0, 0])


def test_a_mesh_is_inside_its_capsule(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 3)) * [0.02, 0.1, 0.03]
    write_stl(tmp_path / "share" / "vendor" / "meshes" / "arm.stl", points.astype(np.float32))
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    mesh = 'filename="package://vendor/meshes/arm.stl" scale="2 2 2"'
    shape = read(tmp_path, f"<geometry><mesh {mesh}/></geometry>")
    assert depth(shape, 2 * points + [0, 0, 0.1]).min() >= -1e-6
    assert shape.radius < 2 * 0.15  # it lies along the longest direction


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "link 'arm': a shape without <geometry>."),
        ("<geometry><cone/></geometry>", "unknown shape <cone>. Known: box, capsule"),
        ('<geometry><box size="1 0 1"/></geometry>', "size '1 0 1' is not 3 positive numbers."),
        ('<geometry><sphere radius="inf"/></geometry>', "radius 'inf' is not a positive number."),
        ('<geometry><mesh filename="/etc/arm.stl"/></geometry>', "is not in a package. Allowed:"),
        ('<geometry><mesh filename="package://v/../a.stl"/></geometry>', "is not in a package."),
        ('<geometry><mesh filename="package://v/a.exe"/></geometry>', "is of no known kind."),
        (
            '<geometry><mesh filename="package://v/b.stl"/></geometry>',
            "is in none of the 1",
        ),
        ('<geometry><mesh filename="package://v/a.stl"/></geometry>', "cannot be read: Could not"),
    ],
)
def test_a_shape_that_means_nothing_is_refused_with_its_link(tmp_path, monkeypatch, body, says):
    (tmp_path / "share" / "v").mkdir(parents=True)
    (tmp_path / "share" / "v" / "a.stl").write_bytes(b"garbage")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    with pytest.raises(EmbodimentError) as caught:
        read(tmp_path, body)
    assert says in str(caught.value)
    assert "link 'arm'" in str(caught.value)
