from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from qwen_vla_ros.serving.fields import Fields
from qwen_vla_ros.serving.image_block import ImageBlock
from qwen_vla_ros.serving.segment import LEFT_BEHIND_S, Segment, SharedImages
from qwen_vla_ros.serving.wire import WireError


@pytest.fixture
def block(aloha):
    return ImageBlock(aloha)


@pytest.fixture
def segment(block, tmp_path, keep):
    return keep(Segment.create(block.size, tmp_path))


def offered(segment: Segment, **changes: object) -> Fields:
    return Fields({**segment.offer(), **changes})


def test_what_the_client_writes_the_server_reads(segment, block, tmp_path, observation):
    shared = SharedImages.open(offered(segment), block, tmp_path)
    assert segment.is_confirmed_by(shared.nonce)
    for turn in range(3):
        parts = [np.roll(part, turn) for part in block.parts(observation)]
        images, _ = shared.images_of(segment.write(parts))
        for image, part in zip(images.values(), parts, strict=True):
            np.testing.assert_array_equal(image, part)


def test_only_its_owner_may_read_a_segment_and_its_name_is_gone_once_it_is_open(segment, tmp_path):
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not segment.is_confirmed_by(b"")
    assert list(tmp_path.iterdir()) == []


def test_images_of_another_request_are_refused(segment, block, tmp_path, observation):
    shared = SharedImages.open(offered(segment), block, tmp_path)
    generation = segment.write(block.parts(observation))
    segment.write(block.parts(observation))
    with pytest.raises(WireError, match="other images"):
        shared.images_of(generation)


def test_a_segment_that_is_not_here_is_not_shared(segment, block, tmp_path):
    assert SharedImages.open(offered(segment), block, tmp_path / "elsewhere") is None


def test_who_cannot_read_a_segment_cannot_offer_it(segment, block, tmp_path):
    assert SharedImages.open(offered(segment, proof=bytes(32)), block, tmp_path) is None


def test_a_segment_that_others_can_read_is_not_shared(segment, block, tmp_path):
    (path,) = tmp_path.iterdir()
    path.chmod(0o644)
    assert SharedImages.open(offered(segment), block, tmp_path) is None


def test_a_link_is_not_followed(segment, block, tmp_path):
    (path,) = tmp_path.iterdir()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert SharedImages.open(offered(segment), block, tmp_path) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../etc/passwd"},
        {"name": "qwen-vla-x"},
        {"name": "/dev/shm/qwen-vla-" + "0" * 32},
        {"size": 5},
        {"size": "x"},
        {"proof": b"x" * 33},
    ],
    ids=str,
)
def test_an_offer_that_makes_no_sense_is_refused(segment, block, tmp_path, changes):
    with pytest.raises(WireError):
        SharedImages.open(offered(segment, **changes), block, tmp_path)


def test_a_segment_that_is_shorter_than_it_says_is_not_shared(segment, block, tmp_path):
    (path,) = tmp_path.iterdir()
    os.truncate(path, 100)
    assert SharedImages.open(offered(segment), block, tmp_path) is None


def test_without_shared_memory_there_is_no_segment(tmp_path):
    assert Segment.create(1000, tmp_path / "nowhere") is None


def old(path: Path) -> None:
    then = time.time() - LEFT_BEHIND_S - 1
    os.utime(path, (then, then))


def test_what_a_killed_client_left_behind_is_removed(tmp_path, keep):
    script = (
        "import os, signal, sys; from pathlib import Path;"
        "from qwen_vla_ros.serving.segment import Segment;"
        "Segment.create(1000, Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    (path,) = tmp_path.iterdir()
    keep(Segment.create(1000, tmp_path))
    assert path.exists()  # it may be somebody's who is just connecting
    old(path)
    keep(Segment.create(1000, tmp_path))
    assert not path.exists()


def test_what_a_living_client_has_is_not_removed(segment, tmp_path):
    (path,) = tmp_path.iterdir()
    old(path)
    script = (
        "import sys; from pathlib import Path;"
        "from qwen_vla_ros.serving.segment import Segment;"
        "Segment.create(1000, Path(sys.argv[1])).close()"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert path.exists()
    assert segment is not None
