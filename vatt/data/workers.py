"""Decoding of training clips, one at a time, in threads or in processes of its own.

What is decoded depends on the position in the stream alone, so neither the kind of worker nor their number changes a
batch. This module loads neither jax nor Grain: a process that decodes starts in under a second.
"""

import dataclasses
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Literal

import numpy as np

from vatt.config import AugmentConfig, ClipConfig
from vatt.data.captions import nearest
from vatt.data.crew import Alive, Death, Hand
from vatt.data.crops import training_crop
from vatt.data.items import Item, Source
from vatt.data.labels import Labels, UnseenError
from vatt.data.ledger import Event
from vatt.data.media.clip import decode_clip, is_silent
from vatt.data.text import PAD, Tokenizer
from vatt.errors import DataError, MediaError

DISK = "Is the disk there? vatt data check tells which files are broken"
TRIES = 16  # items of a source tried in turn before the stream gives up: bad clips are rare, or the disk is gone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoder:
    """Makes the example at a position of the stream: a clip at a random start, and the captions nearest to it."""

    sources: tuple[Source, ...]
    clip: ClipConfig
    augment: AugmentConfig
    canvas: int
    tokenizer: Tokenizer | None
    seed: int
    labels: Labels | None = None

    def __call__(self, position: int, number: int, index: int) -> dict:
        """What `decode_clip` gives; text [K L], text_mask [K], if there is a tokenizer; label [C] and nothing of
        modalities that are not classified, if there are `labels`; ids, the item's; starts (seconds); sources, `number`;
        events, for the ledger.

        An item that gives no clip is replaced by the next one of its source, by the same rule on every run. If that is
        because it has nothing to classify, it is whole, and does not count as broken.

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
                reason = failure.kind if isinstance(failure, UnseenError) else "undecodable"
                events.append(Event(number, reason, item.id if item else failure.path, failure.reason))
                continue
            events.extend(Event(number, reason, example["ids"]) for reason in said)
            return example | {"sources": number, "events": tuple(events)}
        raise DataError(
            f"{source.name}: {len(events)} clips in a row cannot be "
            + (f"classified: {error}" if isinstance(error, UnseenError) else f"decoded, the last one {error}. {DISK}")
        )

    def _example(self, item: Item, rng: np.random.Generator) -> tuple[dict, list[str]]:
        """The clip, and what it lacks: keys of FAULTS."""
        clip = self.clip
        item = item if self.labels is None else self.labels.needed(item)
        start = self._start(item, rng)
        crop = training_crop(self.augment, rng)
        example: dict = decode_clip(item, start, clip, crop=crop, canvas=self.canvas)
        lacks = []
        if not example["video_mask"]:
            lacks.append("no_video")
        if not example["audio_mask"]:
            lacks.append("no_audio")
        elif is_silent(example["audio"]):
            if self.labels is None:  # it would pair every silent clip with every other; but silence may be a class
                example["audio_mask"] = np.array(False)
            lacks.append("silent")
        if self.labels is not None:
            example, lacks = self.labels.put(example, item, lacks)
        if self.tokenizer is not None:
            lacks += self._add_text(example, item, start, rng)
        example["ids"], example["starts"] = item.id, start
        return example, lacks

    def _add_text(self, example: dict, item: Item, start: float, rng: np.random.Generator) -> list[str]:
        assert self.tokenizer is not None
        clip = self.clip
        example["text"] = np.full((clip.candidates, clip.words), PAD, np.int32)
        for row, caption in enumerate(nearest(item.captions, start, start + clip.seconds, clip.candidates, rng)):
            example["text"][row] = self.tokenizer.encode(caption.text, clip.words)
        example["text_mask"] = example["text"][:, 0] != PAD
        if not item.captions:
            return ["no_captions"]
        return [] if example["text_mask"].any() else ["empty_captions"]

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
        self._decoder = decoder
        self._pool = ThreadPoolExecutor(count)
        self._hands = [Hand(_Task(decoder)) for _ in range(count)] if kind == "process" else []
        self._idle: SimpleQueue[Hand] = SimpleQueue()
        for hand in self._hands:
            self._idle.put(hand)
        self._call = self._elsewhere if self._hands else decoder

    def submit(self, position: int, number: int, index: int) -> Future[dict]:
        """The example at a position. Its `result` raises DataError if no clip can be decoded, or its process died."""
        return self._pool.submit(self._call, position, number, index)

    def close(self) -> None:
        for hand in self._hands:
            hand.kill()  # also those at work, which may hang
        self._pool.shutdown(cancel_futures=True)
        for hand in self._hands:
            hand.end()

    def _elsewhere(self, position: int, number: int, index: int) -> dict:
        """The decoder's result, from one of the processes."""
        hand = self._idle.get()
        try:
            result = hand.call((position, number, index))
        finally:
            self._idle.put(hand)  # also a dead one: nobody shall wait for it
        if isinstance(result, Death):
            raise DataError(
                f"{self._named(number, index)}: {result.reason}. Either memory ran out (see data.workers), or somebody "
                "killed it, or the clip crashes the decoder: vatt data check finds such clips. The same command goes "
                "on from the last checkpoint"
            )
        return result

    def _named(self, number: int, index: int) -> str:
        source = self._decoder.sources[number]
        try:
            return f"{source[index].id} of {source.name}"
        except MediaError:  # it is not this error that is to be told
            return f"{index} of {source.name}"


class _Task:
    """The decoder as processes call it."""

    def __init__(self, decoder: Decoder):
        self.decoder = decoder

    def __call__(self, task: tuple[int, int, int], alive: Alive) -> dict:
        return self.decoder(*task)
