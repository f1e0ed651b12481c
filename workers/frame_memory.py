"""Has the memory of freed video frames used again instead of given back to the system.

glibc maps large blocks anew each time, or cuts them off the end of a heap: the kernel then clears
each page of each frame. Elsewhere nothing is changed.
"""

import ctypes

MAX_BLOCK = 8 * 2**20
"""Bytes of the largest block that is used again: a frame of 1920 x 1080 pixels has 6.2 million."""
MAX_UNUSED = 8 * 2**20
"""Bytes of unused memory at the end of a heap, above which it is given back."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_frame_memory() -> None:
    """For this process, from now on."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, MAX_BLOCK)
        mallopt(_TRIM_THRESHOLD, MAX_UNUSED)
