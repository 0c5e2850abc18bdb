"""Fewer triangles, the same shape."""

from itertools import pairwise

import numpy as np
import pytest

from qwen_vla_ros.sim.coarse_mesh import cluster, read_stl


def grid(count):
    """Return a flat unit square of 2 count^2 triangles."""
    edges = np.linspace(0, 1, count + 1)
    triangles = []
    for x0, x1 in pairwise(edges):
        for y0, y1 in pairwise(edges):
            a, b, c, d = (x0, y0, 0), (x1, y0, 0), (x1, y1, 0), (x0, y1, 0)
            triangles += [(a, b, c), (a, c, d)]
    return np.array(triangles)


def area(vertices, faces):
    a, b, c = (vertices[column] for column in faces.T)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_a_coarse_grid_leaves_few_triangles_of_the_same_area():
    vertices, faces = cluster(grid(40), 0.2)
    assert len(faces) < 200
    assert area(vertices, faces) == pytest.approx(1.0, abs=0.2)


def test_a_fine_grid_changes_nothing():
    triangles = grid(4)
    vertices, faces = cluster(triangles, 1e-6)
    assert vertices[faces] == pytest.approx(triangles)


def test_no_triangle_has_collapsed():
    _, faces = cluster(grid(40), 0.3)
    assert all(len(set(face)) == 3 for face in faces.tolist())


def test_a_binary_stl_is_read(tmp_path):
    corners = np.arange(18, dtype="<f4").reshape(2, 3, 3)
    file = tmp_path / "two.stl"
    records = b"".join(bytes(12) + triangle.tobytes() + bytes(2) for triangle in corners)
    file.write_bytes(bytes(80) + (2).to_bytes(4, "little") + records)
    assert read_stl(file) == pytest.approx(corners)
