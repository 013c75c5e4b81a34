"""Decoding of training clips, one at a time, in threads or in processes of its own.

What is decoded depends on the position in the stream alone, so neither the kind of worker nor their number changes a
batch. This module loads neither jax nor Grain: a process that decodes starts in under a second.
"""

import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Literal

import numpy as np

from vatt.config import ClipConfig
from vatt.data.captions import nearest
from vatt.data.manifest import Item
from vatt.data.media import decode_clip
from vatt.data.text import PAD, Vocabulary
from vatt.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoder:
    """Makes the example at a position of the stream: a clip at a random start, and the captions nearest to it."""

    clip: ClipConfig
    vocabulary: Vocabulary
    seed: int

    def __call__(self, position: int, item: Item) -> dict:
        """video [T H W C], audio [S], audio_mask [], text [K L], text_mask [K] and ids, the item's.

        Raises MediaError when the clip cannot be decoded.
        """
        clip = self.clip
        rng = np.random.default_rng((self.seed, position))
        start = float(rng.uniform(*item.room(clip.seconds)))
        example: dict = decode_clip(item.path, start, clip)
        example["text"] = np.full((clip.candidates, clip.words), PAD, np.int32)
        for row, caption in enumerate(nearest(item.captions, start, start + clip.seconds, clip.candidates)):
            example["text"][row] = self.vocabulary.encode(caption.text, clip.words)
        example["text_mask"] = example["text"][:, 0] != PAD
        example["ids"] = item.id
        return example


class Workers:
    """`count` decoders at work at once. Threads share memory and start at once; processes do not queue for Python's
    interpreter lock, which threads that decode very short clips spend half their time on."""

    def __init__(self, decoder: Decoder, *, count: int, kind: Literal["thread", "process"]):
        self._decoder = decoder
        self._pool: Executor
        if kind == "thread":
            self._pool, self._call = ThreadPoolExecutor(count), decoder
        else:
            context = multiprocessing.get_context("spawn")  # a fork of a process that runs jax may hang
            self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(decoder,))
            self._call = _decode
            # Started now and with the signals blocked, which a child inherits: a Ctrl-C reaches the whole group, also
            # a child that has not yet come so far as to ignore it.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                for _ in range(count):
                    self._pool.submit(os.getpid)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def submit(self, position: int, item: Item) -> Future:
        """Raises DataError if a process of the pool has died."""
        try:
            return self._pool.submit(self._call, position, item)
        except BrokenProcessPool as error:
            raise _died() from error

    @staticmethod
    def result(future: Future) -> dict:
        """What `submit` promised. Raises MediaError if the clip cannot be decoded, DataError if its process died."""
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise _died() from error

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _died() -> DataError:
    return DataError(
        "a process that decodes clips has died: the system may have run out of memory (see data.workers), or somebody "
        "killed it. The same command goes on from the last checkpoint"
    )


SIGNALS = (signal.SIGINT, signal.SIGTERM)
_decoder: Decoder | None = None  # of this process, if it is a worker


def _start(decoder: Decoder) -> None:
    global _decoder
    _decoder = decoder
    for name in SIGNALS:  # they reach the whole group; the run decides what they mean
        signal.signal(name, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A run that is killed leaves no decoders behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _decode(position: int, item: Item) -> dict:
    assert _decoder is not None
    return _decoder(position, item)
