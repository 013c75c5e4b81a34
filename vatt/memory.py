"""Memory of a process that trains on CPU."""

import ctypes
import importlib.metadata
import importlib.util
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Lets malloc keep what is freed, where jax runs on CPU. Works only before jax starts its threads.

    XLA's CPU backend allocates a step's temporaries as one block and frees it after the step. glibc maps such
    a block anew each time, so that every page of it faults: 45,000 faults and 30 % of the CPU time of a step of
    the demo model. From one arena that is never trimmed there are none. On machines with an accelerator nothing
    changes: there many threads decode, and each is better off with an arena of its own.
    """
    accelerator = importlib.metadata.entry_points(group="jax_plugins") or importlib.util.find_spec("libtpu")
    if not sys.platform.startswith("linux") or (accelerator and os.environ.get("JAX_PLATFORMS") != "cpu"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from other C libraries, a stub in musl
    if mallopt is not None:
        for option, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1)):
            mallopt(option, value)
