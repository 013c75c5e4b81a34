"""Many small jobs in threads, which are enough where the work is waiting for a disk or PyAV, which frees Python."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vatt.data.items import Progress

Job = TypeVar("Job")
Result = TypeVar("Result")
QUEUED = 8  # jobs a worker that wait: a million futures at once would cost a gigabyte, and Ctrl-C a minute


def in_parallel(
    call: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int = 0, progress: Progress | None = None
) -> list[Result]:
    """`[call(job) for job in jobs]` by several threads. What is queued is dropped at the first error, or at Ctrl-C.

    Args:
      call: the work.
      jobs: what it is called with.
      workers: threads (0: one a core).
      progress: called with (jobs done, jobs in all).
    """
    workers = workers or os.cpu_count() or 1
    results: list[Result] = []
    pool = ThreadPoolExecutor(workers)
    waiting = deque()

    def take():
        results.append(waiting.popleft().result())
        if progress:
            progress(len(results), len(jobs))

    try:
        for job in jobs:
            waiting.append(pool.submit(call, job))
            if len(waiting) > QUEUED * workers:
                take()
        while waiting:
            take()
    finally:
        pool.shutdown(cancel_futures=True)
    return results
