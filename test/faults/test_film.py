"""The film of an attack: as long as was asked for, and drawable whatever the policy says."""

from __future__ import annotations

from dataclasses import replace

import imageio.v2 as imageio
import numpy as np
import pytest

from faults.film import FPS, ROBOT, Request, film
from faults.rig import Rig, Swing


@pytest.mark.slow
def test_a_second_of_film_has_a_picture_for_every_frame(tmp_path):
    last = film(1.0, 0, tmp_path / "attack.mp4")
    pictures = [np.asarray(picture) for picture in imageio.get_reader(tmp_path / "attack.mp4")]
    assert len(pictures) == FPS
    assert last.touching == 0
    assert pictures[0].shape[1] >= 640
    left, right = np.hsplit(pictures[-1].astype(int), 2)
    assert left.std() > 10  # something was drawn
    assert np.abs(left - right).mean() > 1  # and the gate did not let it all through


def test_whatever_is_asked_for_can_be_drawn_and_is_called_what_it_is():
    rig = Rig(ROBOT)
    request, chunk = Request(rig), Swing(rig, np.random.default_rng(0)).chunk(0.0)
    objections = []
    for value in (0.0, np.nan, 1e308):
        actions = chunk.actions.copy()
        actions[:, 3] += value
        request.hear(replace(chunk, actions=actions))
        pose, objection = request.pose(rig.true_ns)
        objections.append(objection)
        assert np.isfinite(pose).all()
        assert np.abs(pose).max() <= np.pi
    assert objections[0] == ""
    assert "not a number" in objections[1]
    assert "beyond a joint's limit" in objections[2]
