"""Fewer triangles for meshes that hold more than any camera can see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen_vla_ros.types import FloatArray

_HEADER_BYTES = 80
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def coarsen(mesh: Any, folder: Path, cell: float) -> None:
    """Give a mesh of an MjSpec the triangles that are left on a grid.

    Args:
        mesh: MjsMesh that names a binary STL file.
        folder: Where the file is.
        cell: Edge of a grid cell in the file's own unit; corners within one become one.
    """
    vertices, faces = cluster(read_stl(folder / mesh.file), cell)
    mesh.file = ""
    mesh.uservert = vertices.ravel()
    mesh.userface = faces.ravel()


def read_stl(path: Path) -> FloatArray:
    """Return the corners (N, 3, 3) of the triangles in a binary STL file."""
    content = path.read_bytes()
    count = int.from_bytes(content[_HEADER_BYTES : _HEADER_BYTES + 4], "little")
    triangles = np.frombuffer(content, _TRIANGLE, count, offset=_HEADER_BYTES + 4)
    return np.asarray(triangles["corners"], dtype=np.float64)


def cluster(triangles: FloatArray, cell: float) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Merge all corners that share a grid cell, and drop what collapses.

    Args:
        triangles: Corners, shape (N, 3, 3).
        cell: Edge of a grid cell.

    Returns:
        Vertices (V, 3), each the mean of its corners, and faces (F, 3) of indices to them.
    """
    corners = triangles.reshape(-1, 3)
    cells, vertex_of = np.unique(np.round(corners / cell), axis=0, return_inverse=True)
    vertex_of = vertex_of.ravel()
    sums = np.zeros_like(cells)
    np.add.at(sums, vertex_of, corners)
    vertices = sums / np.bincount(vertex_of)[:, np.newaxis]
    faces = vertex_of.reshape(-1, 3).astype(np.int32)
    a, b, c = faces.T
    return vertices, faces[(a != b) & (b != c) & (c != a)]
