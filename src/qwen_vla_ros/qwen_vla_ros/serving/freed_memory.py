"""What this process does with memory that it has used: keep it for the next image."""

from __future__ import annotations

import numpy as np

LARGEST_BYTES = 31 * 2**20


def keep_freed_memory() -> None:
    """Let this process keep the memory of images, for the next ones.

    glibc gives pieces of more than 128 KiB back to the system and asks for them again a moment
    later, page by page: half of the time of a request with three images. What counts as large
    follows the largest piece that was ever freed, 32 MiB at most; so such a piece is freed. It is
    never written to and takes no room. With other allocators nothing happens.
    """
    np.empty(LARGEST_BYTES, np.uint8)
