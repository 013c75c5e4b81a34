"""Files on their way to the model: opened, and decoded ahead by threads.

Threads are enough while a file is merely broken. One that a decoder dies of takes the process with it: it is marked
while it is at work, and the next process to come upon it reads it in a process of its own first.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vatt.config import ClipConfig
from vatt.data.captions import Caption
from vatt.data.crew import Crew, Death
from vatt.data.faults import FAULTS
from vatt.data.files import MediaFile
from vatt.data.items import Item
from vatt.data.media.clip import probe
from vatt.data.sources import open_row
from vatt.data.windows import TOGETHER, Window, decode_windows, groups, window_starts
from vatt.errors import MediaError
from vatt.evals.parts import Parts

PATIENCE = 120.0  # seconds without a sign of life after which the process that reads a suspect is given up
GRACE = 5.0  # seconds that threads may take to finish when the work is left


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is wanted of every file: its modalities, in clips, every `hop` seconds."""

    clip: ClipConfig
    canvas: int
    modalities: tuple[str, ...]
    hop: float


@dataclass(eq=False)
class State:
    """A file at work: what is known of it, and its embeddings so far."""

    path: str
    key: str = ""
    spans: list[tuple[Item, list[float]]] = field(default_factory=list)  # what is decoded at once
    captions: dict[Caption, None] = field(default_factory=dict)  # in order
    errors: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    end: float = 0.0  # of what windows may show
    wanted: list[str] = field(default_factory=list)  # modalities that it should give
    windows: int = 0  # in all
    seen: int = 0  # that were embedded, or found to hold nothing
    damaged: dict[tuple[str, str], list[tuple[float, MediaError]]] = field(default_factory=dict)
    found: dict[str, list[tuple[float, dict[str, np.ndarray]]]] = field(default_factory=dict)

    def wrong(self, reason: str, detail: str = "") -> None:
        self.errors.append({"path": self.path, "reason": reason, "detail": detail or FAULTS[reason].says})


def read(
    files: Sequence[tuple[MediaFile, str]], wanted: Wanted, parts: Parts, *, workers: int, depth: int
) -> Generator[tuple[State, list[Window] | None]]:
    """Files in order, each with its windows a few at a time, and then None. Threads decode ahead, some `depth` windows
    and not more, so that memory is bounded however long a file is.

    Args:
      files: each with its key in `parts`, which is told what is at work.
    """

    def open_one(file: MediaFile, key: str) -> State:
        if key in parts.suspects:
            if death := _dies_of(file, wanted):
                state = State(file.path)
                state.wrong("crashes", death.reason)
                return state
            parts.clear(key)
        with parts.at_work(key):
            return open_file(file, wanted)

    def decode(key: str, item: Item, starts: list[float]) -> list[Window]:
        with parts.at_work(key):
            return _decode(item, starts, wanted)

    pool = Threads(workers)
    depth += workers * TOGETHER
    upcoming, opening = iter(files), deque[tuple[str, Future[State]]]()

    def jobs() -> Iterator[tuple[State, Future[list[Window]] | None, int]]:
        while True:
            while len(opening) < depth and (following := next(upcoming, None)):
                opening.append((following[1], pool.submit(open_one, *following)))
            if not opening:
                return
            key, opened = opening.popleft()
            state = opened.result()
            state.key = key
            for item, starts in state.spans:
                yield state, pool.submit(decode, key, item, starts), len(starts)
            yield state, None, 1

    ahead, held, coming = deque[tuple[State, Future[list[Window]] | None, int]](), 0, jobs()
    try:
        while True:
            while held < depth and (job := next(coming, None)):
                ahead.append(job)
                held += job[2]
            if not ahead:
                return
            state, future, count = ahead.popleft()
            held -= count
            yield state, future.result() if future else None
    finally:
        pool.leave()


class Threads:
    """Threads that call functions, in order. They end with the process: a decoder that hangs does not keep it."""

    def __init__(self, count: int):
        self._jobs: queue.SimpleQueue[tuple[Future, Callable, tuple] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[..., Any], *args: Any) -> Future:
        future = Future()
        self._jobs.put((future, call, args))
        return future

    def leave(self) -> None:
        """Drops what is queued, and waits for what is at work, but not for ever."""
        try:
            while True:
                self._jobs.get_nowait()
        except queue.Empty:
            pass
        for _ in self._threads:
            self._jobs.put(None)
        end = time.monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _work(self) -> None:
        while job := self._jobs.get():
            future, call, args = job
            try:
                future.set_result(call(*args))
            except BaseException as error:
                future.set_exception(error)
            del job, future, args  # and with them the windows


def open_file(file: MediaFile, wanted: Wanted) -> State:
    """Probes a file, and finds its windows."""
    clip, hop, canvas = wanted.clip, wanted.hop, wanted.canvas
    state, starts = State(file.path), set()
    try:
        info = probe(file.media)
    except MediaError as error:
        state.wrong(error.kind, error.reason)
        return state
    for row in file.rows:
        try:
            item = open_row(row, info, clip.needed)
        except MediaError as error:
            state.wrong(error.kind, error.reason)
            continue
        state.seconds += item.end - item.start
        state.end = max(state.end, clip.seconds if item.still else item.end)
        state.captions |= dict.fromkeys(_within(row.captions, item))
        here = replace(
            item,
            has_video=item.has_video and "video" in wanted.modalities,
            has_audio=item.has_audio and "audio" in wanted.modalities,
        )
        if here.has_video or here.has_audio:
            new = [start for start in window_starts(item, clip.seconds, hop) if start not in starts]
            starts.update(new)
            state.spans += [(here, part) for part in groups(here, new, clip, hop=hop, canvas=canvas)]
    if state.seconds:
        has = {"video": info.has_video, "audio": info.has_audio, "text": bool(state.captions)}
        state.wanted = [name for name in wanted.modalities if has[name]]
        for name in wanted.modalities:
            if not has[name]:
                state.wrong("no_captions" if name == "text" else f"no_{name}")
    state.windows = sum(len(part) for _, part in state.spans)
    return state


def _within(captions: Sequence[Caption], item: Item) -> list[Caption]:
    """The captions of an item that hold at some time within it; one that holds throughout ends with it."""
    return [
        replace(caption, start=max(caption.start, item.start), end=min(caption.end, item.end))
        for caption in captions
        if caption.start < item.end and caption.end >= item.start
    ]


def _decode(item: Item, starts: list[float], wanted: Wanted) -> list[Window]:
    return decode_windows(item, starts, wanted.clip, hop=wanted.hop, canvas=wanted.canvas)


def _dies_of(file: MediaFile, wanted: Wanted) -> Death | None:
    """What becomes of a process that reads all of a file, if it does not live."""
    with Crew(_read_alone, count=1, patience=PATIENCE) as crew:
        ((_, result),) = crew.run([(file, wanted)])
    return result


def _read_alone(task: tuple[MediaFile, Wanted], alive: Callable[[], None]) -> None:
    file, wanted = task
    for item, starts in open_file(file, wanted).spans:
        _decode(item, starts, wanted)
        alive()
