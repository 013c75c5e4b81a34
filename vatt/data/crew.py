"""Processes that do one task at a time each, any of which may die or hang without harm to the others."""

import atexit
import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vatt.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")
Alive = Callable[[], None]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BEAT = 5.0  # seconds between signs of life


@dataclass(frozen=True)
class Death:
    """A process that ended, or was ended, over a task."""

    reason: str


class Crew(Generic[Task, Result]):
    """`count` processes that call `function(task, alive)`.

    A process that dies, or has not called `alive` for `patience` seconds and so is killed, costs its task alone;
    another takes its place. The processes ignore Ctrl-C, which reaches the whole group, and end with their parent,
    however that ends.
    """

    def __init__(self, function: Callable[[Task, Alive], Result], *, count: int, patience: float = 600.0):
        self._function = function
        self._count = count
        self._patience = patience
        self._hands: list[Hand] = []

    def __enter__(self) -> "Crew[Task, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        for hand in self._hands:
            hand.end()
        self._hands = []

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | Death]]:
        """Yields each task with its result, in the order in which they end. An exception of `function` is raised."""
        waiting = iter(tasks)
        busy: dict[Hand, Task] = {}
        idle = list(self._hands)
        while True:
            while len(busy) < self._count:
                try:
                    task = next(waiting)
                except StopIteration:
                    break
                hand = idle.pop() if idle else self._hire()
                hand.give(task)
                busy[hand] = task
            if not busy:
                return
            watched: list[Any] = [end for hand in busy for end in (hand.pipe, hand.process.sentinel)]
            multiprocessing.connection.wait(watched, timeout=1.0)
            for hand in list(busy):  # also those that said nothing: they may hang
                result = hand.result(self._patience)
                if result is None:
                    continue
                task = busy.pop(hand)
                if isinstance(result[0], Death):
                    self._hands.remove(hand)
                else:
                    idle.append(hand)
                if isinstance(result[0], _Raised):
                    raise result[0].error
                yield task, result[0]

    def _hire(self) -> "Hand":
        hand = Hand(self._function)
        self._hands.append(hand)
        return hand


@dataclass(frozen=True)
class _Raised:
    error: Exception


class Hand:
    """One process that calls `function(task, alive)`, and a pipe to it that nobody else writes to: the half of a result
    that a killed process leaves ends there."""

    def __init__(self, function: Callable):
        context = multiprocessing.get_context("spawn")  # a fork copies locks that threads of the parent hold
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function), daemon=True)
        with signals_wait():
            self.process.start()
        _hired.add(self)
        theirs.close()
        self.heard = time.monotonic()
        self.ready = False  # whether it has begun to take tasks

    def call(self, task: Any) -> Any:
        """What `function` returns, or the Death of the process. Raises what `function` raises."""
        self.give(task)
        while (result := self.result(math.inf)) is None:
            multiprocessing.connection.wait([self.pipe, self.process.sentinel])
        if isinstance(result[0], _Raised):
            raise result[0].error
        return result[0]

    def give(self, task: Any) -> None:
        self.heard = time.monotonic()
        with contextlib.suppress(OSError):  # it died idle: `result` finds out
            self.pipe.send(task)

    def result(self, patience: float) -> tuple[Any] | None:
        """What came of the task, in a tuple; None while it is at work."""
        try:
            while self.pipe.poll():
                message = self.pipe.recv()
                self.heard = time.monotonic()
                self.ready = True
                if message is not None:
                    return message
        except (EOFError, OSError, pickle.UnpicklingError):
            pass
        else:
            if self.process.exitcode is None:
                if time.monotonic() - self.heard < patience:
                    return None
                self.end()
                return (Death(f"it hung: no sign of life for {patience:.0f} s"),)
        self.process.join(5.0)
        self.end()
        code = self.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        if code == -signal.SIGKILL:
            name += ", as from a system that runs out of memory"
        if not self.ready:  # no task is to blame
            raise DataError(
                f"a process that reads files could not start ({name}): what it printed above tells why. A "
                'script that calls this must do so under if __name__ == "__main__"'
            )
        return (Death(f"the process that read it died ({name})"),)

    def kill(self) -> None:
        if self.process.is_alive():
            self.process.kill()

    def end(self) -> None:
        self.kill()
        self.process.join()
        self.pipe.close()


_hired: weakref.WeakSet[Hand] = weakref.WeakSet()


@atexit.register  # before multiprocessing's own, which waits for children that ignore its SIGTERM
def _dismiss() -> None:
    for hand in _hired:
        hand.kill()


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Within the block a process can be started whole: a Ctrl-C comes after it.

    A child inherits that signals are blocked, until it ignores them. Here another thread would take them in, and
    Python's handler interrupt this one all the same, if it is the main thread: so the handlers wait too.
    """
    main = threading.current_thread() is threading.main_thread()
    came: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    handlers = [signal.signal(name, lambda number, _: came.append(number)) for name in SIGNALS] if main else []
    try:
        yield
    finally:
        for name, handler in zip(SIGNALS, handlers, strict=False):
            signal.signal(name, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number in came:
            signal.raise_signal(number)


def _ignore_signals() -> None:
    """In a process that was started under `signals_wait`."""
    for name in SIGNALS:
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _work(pipe: Any, function: Callable) -> None:
    _ignore_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pipe.send(None)  # it has started
    said = time.monotonic()

    def alive() -> None:
        nonlocal said
        if time.monotonic() - said > BEAT:
            said = time.monotonic()
            pipe.send(None)

    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            result = function(task, alive)
        except Exception as error:
            result = _Raised(_portable(error))
        pipe.send((result,))


def _portable(error: Exception) -> Exception:
    """The error, or its text if it does not cross to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
