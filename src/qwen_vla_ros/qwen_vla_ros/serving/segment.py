"""Images that need not travel: a client writes them into shared memory, its server reads them.

The client owns the memory. Nobody is believed to be on the same machine: the server shows that it
could read the memory, and the client that it could, by what is written there. A client that cut
its memory short would take the server with it; but only a process of the same user gets this far,
and such a one needs no trick to end another.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import mmap
import os
import re
import secrets
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from qwen_vla_ros.serving.fields import Fields
from qwen_vla_ros.serving.image_block import ImageBlock, Images
from qwen_vla_ros.serving.wire import MAX_BYTES, WireError
from qwen_vla_ros.types import ImageArray

FOLDER = Path("/dev/shm")
_NAME = re.compile(r"qwen-vla-[0-9a-f]{32}")
NONCE_BYTES = 32
_GENERATION = struct.Struct("<Q")
"""Stands before and after the images, and rises with every request: torn images are noticed."""
_BEFORE = NONCE_BYTES
_IMAGES = _BEFORE + _GENERATION.size
LEFT_BEHIND_S = 60.0


class Segment:
    """The client's end: memory of its own, that has a name only until the server has opened it."""

    def __init__(self, descriptor: int, path: Path, size: int) -> None:
        self._descriptor = descriptor
        self._path = path
        self._size = size
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._memory = mmap.mmap(descriptor, _total(size))
        self._memory[:NONCE_BYTES] = self._nonce
        self._pixels = np.frombuffer(self._memory, np.uint8, size, _IMAGES)
        self._places: list[ImageArray] = []
        self._generation = 0

    @classmethod
    def create(cls, size: int, folder: Path = FOLDER) -> Self | None:
        """Make a segment for `size` bytes of images; None where that is not possible."""
        path = folder / f"qwen-vla-{secrets.token_hex(16)}"
        descriptor = -1
        try:
            _remove_left_behind(folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
            # Held as long as this process lives: who can lock it too has found a dead one's.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Reserves the memory: to run out of it later would be a signal, and no error.
            os.posix_fallocate(descriptor, 0, _total(size))
            return cls(descriptor, path, size)
        except OSError:
            if descriptor >= 0:
                os.close(descriptor)
                path.unlink(missing_ok=True)
            return None

    def offer(self) -> dict[str, Any]:
        """Return what the server needs to open the segment, and to see that it is really ours."""
        proof = hashlib.sha256(self._nonce).digest()
        return {"name": self._path.name, "size": self._size, "proof": proof}

    def is_confirmed_by(self, nonce: bytes) -> bool:
        """Say whether the server has read the segment. From here on, it has no name any more."""
        self.close()
        return hmac.compare_digest(nonce, self._nonce)

    def write(self, parts: Sequence[ImageArray]) -> int:
        """Write the images of one observation, which fill the segment; return their generation."""
        if not self._places:
            ends = np.cumsum([part.size for part in parts])
            pieces = np.split(self._pixels, ends[:-1])
            self._places = [
                piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)
            ]
        self._generation += 1
        self._memory[_BEFORE:_IMAGES] = mark = _GENERATION.pack(self._generation)
        for place, part in zip(self._places, parts, strict=True):
            place[...] = part
        self._memory[_IMAGES + self._size :] = mark
        return self._generation

    def close(self) -> None:
        """Let go of the file; its memory goes with the last one who uses it."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SharedImages:
    """The server's end: the images that a client on the same machine writes, where they lie."""

    def __init__(self, descriptor: int, block: ImageBlock, nonce: bytes) -> None:
        self._memory = mmap.mmap(descriptor, _total(block.size), prot=mmap.PROT_READ)
        self._behind = _IMAGES + block.size
        self._images = block.read(memoryview(self._memory)[_IMAGES : self._behind])
        self.nonce = nonce

    @classmethod
    def open(cls, offer: Fields, block: ImageBlock, folder: Path = FOLDER) -> Self | None:
        """Open the segment that a client offers; None where it is not on this machine.

        Args:
            offer: What `Segment.offer` returned.
            block: Layout of this robot's images.
            folder: Where the segment is.

        Raises:
            WireError: The offer makes no sense.
        """
        name, proof = offer.text("name"), offer.raw("proof", 32)
        if not _NAME.fullmatch(name) or offer.whole("size", 0, MAX_BYTES) != block.size:
            raise WireError("shared memory of another name or size than this robot's.")
        try:
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            nonce = (
                os.pread(descriptor, NONCE_BYTES, 0)
                if _is_private(descriptor, block.size)
                else b""
            )
            # Only who can read the segment knows what is in it: it is not somebody else's.
            if not hmac.compare_digest(hashlib.sha256(nonce).digest(), proof):
                return None
            return cls(descriptor, block, nonce)
        finally:
            os.close(descriptor)

    def images_of(self, generation: int) -> Images:
        """Return the images of one request, valid until the client writes others.

        Raises:
            WireError: They are others, or are being written.
        """
        mark = _GENERATION.pack(generation)
        if self._memory[_BEFORE:_IMAGES] != mark or self._memory[self._behind :] != mark:
            raise WireError("the shared memory holds other images than the request says.")
        return self._images


def _total(size: int) -> int:
    return _IMAGES + size + _GENERATION.size


def _is_private(descriptor: int, size: int) -> bool:
    status = os.fstat(descriptor)
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & 0o077
        and status.st_size == _total(size)
    )


def _remove_left_behind(folder: Path) -> None:
    """Remove segments whose owner was killed before a server had opened them."""
    for path in folder.glob("qwen-vla-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < LEFT_BEHIND_S:
                continue
            with _opened(path) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
