"""How near the links come to each other on a path, and to what stands beside the robot.

A path is free when every pair of bodies

- is no nearer than the margin at each of its commands, and
- between each two that follow each other is so far apart that the way between them is too short to
  matter, or is separated by one plane at both.

So no pair passes through another between two commands, and it comes nearer there only by what the
links turn within one period (`Solids.sag`), which is less than the margin. A gate that sends a
command only when the path is free that goes on from it by braking, and otherwise brakes, keeps the
set-point that is played free for ever: each brake is the rest of a path that was found free.

A pair that is nearer than the margin when a motion begins may come apart, and no nearer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qwen_vla_ros.safety.path import Path
from qwen_vla_ros.safety.pose import Indices, Pose
from qwen_vla_ros.safety.solids import Pair, Solids
from qwen_vla_ros.types import FloatArray

ROUNDING = 1e-5
"""m: what the search for a distance may be wrong by, with room."""


@dataclass(frozen=True)
class Approach:
    """A pair that would come too near, and how near, in m."""

    pair: Pair
    distance: float


class Clearance:
    """Watches the pairs of one robot. Positions are of the commanded joints, shape (J,)."""

    def __init__(self, solids: Solids, margin: float) -> None:
        """Keep `margin` (m) between all pairs."""
        self._solids = solids
        self._margin = margin
        # A distance that was found once, and where: it bounds the distance elsewhere.
        self._known: FloatArray = np.full(len(solids.pairs), -np.inf)
        self._where = np.zeros_like(solids.levers)
        self._floor: FloatArray = np.full(len(solids.pairs), margin)

    def begin(self, position: FloatArray) -> None:
        """Begin a motion here: what is too near already may stay as near."""
        pose = self._solids.pose()
        pose.move(position)
        self._known = pose.distances(np.arange(len(self._known)))
        self._where[:] = position
        self._floor = np.minimum(self._known, self._margin)

    def find(self, path: Path) -> Approach | None:
        """Return what would come too near on a path; None where nothing would."""
        pairs = self._near(path)
        if pairs.size:
            self._raise_floor(pairs, path[0].distances(pairs))
        spans = [(0, len(path) - 1, pairs)]
        while spans:
            first, last, pairs = spans.pop()
            if not pairs.size:
                continue
            here, there = path[first].distances(pairs), path[last].distances(pairs)
            room = there - self._floor[pairs] + ROUNDING
            worst = int(room.argmin())
            if room[worst] < 0:
                return self._approach(pairs[worst], there[worst])
            way = self._solids.levers[pairs] @ path.travel[first:last].sum(axis=0)
            # On the way from one to the other neither distance shrinks faster than the way grows.
            pairs = pairs[(here + there - way) / 2 < self._floor[pairs] - ROUNDING]
            if last - first > 1:
                middle = (first + last) // 2
                spans += [(middle, last, pairs), (first, middle, pairs)]
                continue
            for pair in pairs.tolist():
                gap = _separation(pair, path[first], path[last])
                if gap < self._floor[pair] - ROUNDING:
                    return self._approach(pair, gap)
        return None

    def _near(self, path: Path) -> Indices:
        """Return the pairs for which the way is not obviously too short."""
        ahead = path.travel.sum(axis=0)
        levers = self._solids.levers
        # Nowhere on the path are the joints further than this from where a distance was found.
        away = np.abs(path.commands[0] - self._where) + ahead
        pairs = np.flatnonzero(self._known - (away * levers).sum(axis=1) < self._margin)
        if not pairs.size:
            return pairs
        self._known[pairs] = path[1].distances(pairs)
        self._where[pairs] = path.commands[1]
        away = np.maximum(path.travel[0], ahead - path.travel[0])
        near: Indices = pairs[self._known[pairs] - levers[pairs] @ away < self._margin]
        return near

    def _raise_floor(self, pairs: Indices, here: FloatArray) -> None:
        floor = self._floor[pairs]
        # Only what did not come from a path that was found free is nearer than the floor.
        floor = np.where(here < floor - 2 * ROUNDING, here, np.maximum(floor, here))
        self._floor[pairs] = np.minimum(floor, self._margin)

    def _approach(self, pair: int, distance: float) -> Approach:
        return Approach(self._solids.pairs[pair], float(distance))


def _separation(pair: int, one: Pose, other: Pose) -> float:
    """Return how far apart one plane keeps a pair, at a command and at the next one, in m."""
    return max(other.gap(pair, one.normal(pair)), one.gap(pair, other.normal(pair)))
