"""Work in processes that may die: a task that crashes or hangs its process costs that task alone."""

import contextlib
import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from vatt.errors import DataError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STARTING = 120.0  # seconds that a process may take to start


@dataclass(frozen=True)
class Lost:
    """What is known of a task that gave no result."""

    reason: str


class Extend:
    """Asks for more time: `extend(seconds)` from now on."""

    def __init__(self, connection: Connection):
        self._connection = connection

    def __call__(self, seconds: float) -> None:
        self._connection.send(("extend", seconds))


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    task: int | None = None
    deadline: float = field(default_factory=lambda: time.monotonic() + STARTING)
    seconds: float = STARTING
    started: bool = False


def each(
    function: Callable[[Any, Extend], Any], tasks: Sequence, *, workers: int, seconds: float, memory: int = 8 << 30
) -> Iterator[tuple[int, Any]]:
    """Calls `function(task, extend)` for every task in processes of their own; yields (index, result) as they come.

    Args:
      function: of a module's top level; task and result pickle.
      workers: how many processes.
      seconds: how long a task may take, unless it extends that.
      memory: bytes of address space a process may have (on Linux).

    Yields:
      The index of a task and its result, or `Lost`: the process died or took too long, or the function raised.

    Raises:
      DataError: the processes do not start.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process that has threads may hang

    def start() -> _Worker:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, function, memory), daemon=True)
        # A Ctrl-C reaches the whole group, also a child that has not yet come so far as to ignore it: it inherits this.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return _Worker(process, ours)

    def give(worker: _Worker) -> None:
        worker.task = coming.popleft() if coming else None
        worker.seconds, worker.deadline = seconds, time.monotonic() + seconds
        if worker.task is not None:
            with contextlib.suppress(OSError):  # it has died, which shows at the next look
                worker.connection.send(tasks[worker.task])

    coming, left = deque(range(len(tasks))), len(tasks)
    crew: list[_Worker] = []
    begun, unborn = False, 0
    try:
        crew += [start() for _ in range(min(workers, left))]
        while left:
            busy = [worker for worker in crew if worker.task is not None or not worker.started]
            due = min(worker.deadline for worker in busy) - time.monotonic()
            ready = wait([worker.connection for worker in busy], timeout=max(0.0, due))
            for worker in busy:
                if worker.connection in ready:
                    kind, value = _receive(worker)
                elif time.monotonic() > worker.deadline:
                    kind, value = "lost", f"took longer than {worker.seconds:.0f} s"
                else:
                    continue
                if kind == "extend":
                    worker.seconds, worker.deadline = value, time.monotonic() + value
                    continue
                task = worker.task
                if kind == "lost":
                    unborn += not worker.started
                    if not begun or unborn > 10 * workers:
                        raise DataError(f"the processes that read the files do not start: one {value}")
                    _end(worker)
                    crew.remove(worker)
                    if coming:
                        crew.append(start())
                    value = Lost(value)
                else:
                    begun = worker.started = True
                    give(worker)
                if task is not None:
                    left -= 1
                    yield task, value
    finally:
        for worker in crew:
            _end(worker)


def _receive(worker: _Worker) -> tuple[str, Any]:
    try:
        return worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join(10)
        code = worker.process.exitcode
        how = signal.Signals(-code).name if code and code < 0 else f"exit status {code}"
        return "lost", f"crashed ({how})"


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join(10)  # one that waits for a dead disk cannot be ended
    worker.connection.close()


def _work(connection: Connection, function: Callable[[Any, Extend], Any], memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (memory if hard < 0 else min(memory, hard), hard))
    extend = Extend(connection)
    connection.send(("ready", None))
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while True:
            task = connection.recv()
            try:
                result = function(task, extend)
            except Exception as error:
                result = Lost(f"raised {type(error).__name__}: {error}")
            connection.send(("done", result))
