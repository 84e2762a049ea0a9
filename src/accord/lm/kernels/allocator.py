"""Keep freed memory in the process: on Linux, large tensors are otherwise mapped and faulted in anew. Or
give it back: a server that is asked a lot at once is otherwise as large for ever after.

glibc returns blocks over a threshold to the system as soon as they are freed. A training step makes and
drops thousands of them, and faulting their pages in again took 5 to 15% of a step on two CPU cores.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache

__all__ = ["give_back_freed_memory", "keep_freed_memory", "release_freed_memory", "trim"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MAPPED = 64 << 10  # bytes of a block that goes back as soon as it is freed
LARGEST = 32 << 20  # glibc takes no higher threshold for mapping


@cache
def keep_freed_memory() -> bool:
    """Ask glibc to serve blocks up to 32 MB from memory it keeps; False where there is no glibc. The
    peak is the same, only less goes back between peaks."""
    libc = _glibc()
    if libc is None:
        return False
    try:
        return bool(
            libc.mallopt(M_MMAP_THRESHOLD, LARGEST) and libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        )
    except AttributeError:
        return False


def give_back_freed_memory() -> None:
    """Ask glibc for one heap instead of one a thread, which keeps what its thread once needed, and to keep no
    block of `MAPPED` bytes; before there are threads. Of smaller ones `trim` gives back whole pages."""
    libc = _glibc()
    if libc is not None and hasattr(libc, "mallopt"):
        for what, much in (M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, MAPPED), (M_TRIM_THRESHOLD, MAPPED):
            libc.mallopt(what, much)


def release_freed_memory() -> None:
    """Give what is kept back to the system, between two models: first what only cycles hold on to, as a
    dropped model's parts do."""
    gc.collect()
    trim()


def trim() -> None:
    """Give the pages that nothing is on back to the system."""
    libc = _glibc()
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:
        return None
