"""What this process does with memory that it frees: it keeps it, for the next image or answer."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Settings of glibc's allocator, by the numbers that its header gives them."""

LARGEST_FROM_HEAP = 32 * 2**20
"""The most that glibc takes for `M_MMAP_THRESHOLD` in every version."""

FREED_AND_KEPT = 256 * 2**20


def keep_freed_memory() -> None:
    """Let this process keep memory that it frees, for the next answer to use again.

    By default glibc gives large blocks back to the system, and gets each page anew, filled with
    zeros, in the next call. Does nothing where the allocator is another.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGEST_FROM_HEAP)
        set_option(M_TRIM_THRESHOLD, FREED_AND_KEPT)
