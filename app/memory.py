"""How the C library deals with memory that is free again."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of glibc's malloc.h
KEPT = 2**31 - 1  # bytes free at the end of the heap before any are given back: mallopt's most


def keep_freed() -> None:
    """Use memory that was freed again, whichever thread needs it, instead of giving it back.

    A window's maps have up to 100 MB each, and a network makes a hundred of them. By glibc's
    defaults the system hands out each of them anew, zeroed page by page, which took a quarter of
    the time of a prediction. With other C libraries nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, KEPT), (_ARENA_MAX, 1)):
        mallopt(option, value)
