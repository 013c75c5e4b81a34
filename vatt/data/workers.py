"""Decoding of training clips, one at a time, in threads or in processes of its own.

What is decoded depends on the position in the stream alone, so neither the kind of worker nor their number changes a
batch. This module loads neither jax nor Grain: a process that decodes starts in under a second.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Literal

import numpy as np

from vatt.config import AugmentConfig, ClipConfig
from vatt.data.captions import nearest
from vatt.data.crew import end_with_parent, ignore_signals, signals_wait
from vatt.data.crops import training_crop
from vatt.data.items import Item, Source
from vatt.data.ledger import Event
from vatt.data.media.clip import decode_clip, is_silent
from vatt.data.text import PAD, Tokenizer
from vatt.errors import DataError, MediaError, listed

TRIES = 16  # items of a source tried in turn before the stream gives up: bad clips are rare, or the disk is gone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoder:
    """Makes the example at a position of the stream: a clip at a random start, and the captions nearest to it."""

    sources: tuple[Source, ...]
    clip: ClipConfig
    augment: AugmentConfig
    canvas: int
    tokenizer: Tokenizer
    seed: int

    def __call__(self, position: int, number: int, index: int) -> dict:
        """What `decode_clip` gives; text [K L], text_mask [K]; ids, the item's; starts (seconds); sources, `number`;
        events, for the ledger.

        An item that gives no clip is replaced by the next one of its source, by the same rule on every run.

        Raises:
          DataError: too many items in a row cannot be decoded.
        """
        source, events, error = self.sources[number], [], None
        for tried in range(min(TRIES, len(source))):
            rng = np.random.default_rng((self.seed, position, tried))
            item = None
            try:
                item = source[(index + tried) % len(source)]
                example, said = self._example(item, rng)
            except MediaError as failure:
                error = failure
                events.append(Event(number, "undecodable", item.id if item else failure.path, failure.reason))
                continue
            events.extend(Event(number, reason, example["ids"]) for reason in said)
            return example | {"sources": number, "events": tuple(events)}
        raise DataError(
            f"{source.name}: {len(events)} clips in a row cannot be decoded, the last one {error}. Is the disk there? "
            f"vatt data check tells which files are broken"
        )

    def _example(self, item: Item, rng: np.random.Generator) -> tuple[dict, list[str]]:
        """The clip, and what it lacks: keys of FAULTS."""
        clip = self.clip
        start = self._start(item, rng)
        crop = training_crop(self.augment, rng)
        example: dict = decode_clip(item, start, clip, crop=crop, canvas=self.canvas)
        lacks = []
        if not example["video_mask"]:
            lacks.append("no_video")
        if not example["audio_mask"]:
            lacks.append("no_audio")
        elif is_silent(example["audio"]):  # it would pair every silent clip with every other
            example["audio_mask"] = np.array(False)
            lacks.append("silent")
        example["text"] = np.full((clip.candidates, clip.words), PAD, np.int32)
        for row, caption in enumerate(nearest(item.captions, start, start + clip.seconds, clip.candidates, rng)):
            example["text"][row] = self.tokenizer.encode(caption.text, clip.words)
        example["text_mask"] = example["text"][:, 0] != PAD
        if not item.captions:
            lacks.append("no_captions")
        elif not example["text_mask"].any():
            lacks.append("empty_captions")
        example["ids"], example["starts"] = item.id, start
        return example, lacks

    def _start(self, item: Item, rng: np.random.Generator) -> float:
        """On the grid of the frame rate, which is also that of prepared sets: their frames are then the original's."""
        if item.still and not item.has_audio:
            return item.start
        first, last = item.room(self.clip.seconds)
        steps = int((last - first) * self.clip.fps + 1e-6)
        return first + int(rng.integers(steps + 1)) / self.clip.fps


class Workers:
    """`count` decoders at work at once. Threads share memory and start at once; processes do not queue for Python's
    interpreter lock, which threads that decode very short clips spend half their time on."""

    def __init__(self, decoder: Decoder, *, count: int, kind: Literal["thread", "process"]):
        self._decoder, self._count = decoder, count
        self._waiting: dict[Future, tuple[int, int]] = {}  # in the order in which they were submitted
        self._pool: Executor
        if kind == "thread":
            self._pool, self._call = ThreadPoolExecutor(count), decoder
        else:
            context = multiprocessing.get_context("spawn")  # a fork of a process that runs jax may hang
            self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(decoder,))
            self._call = _decode
            with signals_wait():  # all start now: a Ctrl-C reaches the whole group, also what cannot ignore it yet
                for _ in range(count):
                    self._pool.submit(os.getpid)

    def submit(self, position: int, number: int, index: int) -> Future:
        """Raises DataError if a process of the pool has died."""
        try:
            future = self._pool.submit(self._call, position, number, index)
        except BrokenProcessPool as error:
            raise self._died() from error
        self._waiting[future] = (number, index)
        return future

    def result(self, future: Future) -> dict:
        """What `submit` promised. Raises DataError if no clip can be decoded, or its process died."""
        try:
            result = future.result()
        except BrokenProcessPool as error:
            raise self._died() from error
        del self._waiting[future]
        return result

    def _died(self) -> DataError:
        broken = [at for future, at in self._waiting.items() if future.done() and future.exception() is not None]
        clips = []
        for number, index in broken[: self._count]:  # tasks are begun in their order
            source = self._decoder.sources[number]
            with contextlib.suppress(MediaError):
                clips.append(f"{source.name}: {source[index].id}")
        return DataError(
            "a process that decodes clips has died: the system may have run out of memory (see data.workers), somebody "
            "killed it, or a clip crashes the decoder; vatt data check finds those. The same command goes on from the "
            f"last checkpoint. At work were\n{listed(clips)}"
        )

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


_decoder: Decoder | None = None  # of this process, if it is a worker


def _start(decoder: Decoder) -> None:
    global _decoder
    _decoder = decoder
    ignore_signals()  # they reach the whole group; the run decides what they mean
    threading.Thread(target=end_with_parent, daemon=True).start()


def _decode(position: int, number: int, index: int) -> dict:
    assert _decoder is not None
    return _decoder(position, number, index)
