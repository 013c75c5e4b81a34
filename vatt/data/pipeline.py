"""Batches of clips: a stream for training that is a function of the step, and one pass for evaluation."""

import itertools
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple, cast

import grain
import numpy as np

from vatt.config import AugmentConfig, ClipConfig
from vatt.data.captions import nearest
from vatt.data.crops import evaluation_crops
from vatt.data.items import Item, Source
from vatt.data.labels import Labels
from vatt.data.media.clip import decode_clip, is_silent
from vatt.data.text import PAD, Tokenizer
from vatt.data.workers import Decoder, Workers
from vatt.errors import ConfigError, DataError, MediaError


class TrainStream:
    """Batches for training. `batch(step)` is a pure function of (seed, sources, step), whatever came before.

    Each source is a new permutation of its items every epoch; sources are interleaved by weight. Batches run across
    the ends of epochs, so that none is short. A clip begins anywhere within its item, on the grid of the frame rate;
    its captions are those nearest to it. All of it is index arithmetic: a host decodes its own slice of the global
    batch and nothing else, and the slices of all hosts, one after the other, are the batch that one host would see.

    A batch is a dict of what `decode_clip` gives, stacked (video, video_box, video_colour, audio), and
      video_mask, audio_mask  [B] bool, False where the clip has no such track, or its sound is silence (which may be a
        class, if there are `labels`)
      text        [B K L] int32, padded with 0; text_mask [B K] is False where there is no caption, or none
        with words. Neither if there is no tokenizer
      label       [B C] float32, 1 for the classes of the clip, if there are `labels`; then nothing comes of modalities
        that are not classified
      ids         list of B strings: the items; starts, where in them the clips begin (seconds); sources, the numbers of
                  the sources they came from
      events      list of B tuples of `vatt.data.ledger.Event`
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        clip: ClipConfig,
        augment: AugmentConfig,
        canvas: int,
        tokenizer: Tokenizer | None,
        batch_size: int,
        seed: int,
        labels: Labels | None = None,
        weights: Sequence[float] = (),
        host: int = 0,
        hosts: int = 1,
        workers: int = 0,
        worker_kind: Literal["thread", "process"] = "thread",
    ):
        """
        Args:
          canvas: side of the canvas that frames are cut into (pixels).
          weights: how often each source is drawn from, relative to the others; none: every clip equally often.
          host, hosts: which slice of the global batch is decoded here.
          workers: how many clips are decoded at once (0: one a core).

        Raises:
          DataError: there are no items.
          ConfigError: as many weights as sources are needed, and hosts must divide the batch.
        """
        if not sources or not all(len(source) for source in sources):
            raise DataError("no clips to train on")
        if weights and len(weights) != len(sources):
            raise ConfigError(f"data.weights has {len(weights)} values for {len(sources)} data.sources; give one each")
        if batch_size % hosts:
            raise ConfigError(f"batch_size {batch_size} does not divide over {hosts} hosts")
        self.sources = sources
        self.batch_size, self.local = batch_size, batch_size // hosts
        self.host = host
        self.decoder = Decoder(
            sources=tuple(sources),
            clip=clip,
            augment=augment,
            canvas=canvas,
            tokenizer=tokenizer,
            seed=seed,
            labels=labels,
        )
        self.workers = workers or os.cpu_count() or 1
        self.worker_kind: Literal["thread", "process"] = worker_kind
        orders = [
            grain.MapDataset.range(len(source)).seed(_seed(seed, number)).shuffle().map(_Of(number)).repeat()
            for number, source in enumerate(sources)
        ]
        self.order = grain.MapDataset.mix(orders, weights or [len(source) for source in sources])

    def batch(self, step: int, *, rows: int | None = None) -> dict:
        """The batch of a step (from 0), or its first rows. Raises DataError when clip after clip of a source cannot be
        decoded."""
        return collate([self.decoder(position, *self._draw(position)) for position in self._positions(step)[:rows]])

    def iterate(self, start_step: int = 0) -> Generator[dict]:
        """The batches from `start_step` on, without end; decoded ahead by workers, which `close()` stops.

        Raises DataError, at the batch at fault, when clip after clip of a source cannot be decoded.
        """
        workers = Workers(self.decoder, count=self.workers, kind=self.worker_kind)
        positions = itertools.chain.from_iterable(self._positions(step) for step in itertools.count(start_step))

        def submit():
            position = next(positions)
            return workers.submit(position, *self._draw(position))

        try:
            ahead = deque(submit() for _ in range(self.workers + self.local))
            while True:
                examples = []
                for _ in range(self.local):
                    examples.append(ahead.popleft().result())
                    ahead.append(submit())
                batch = collate(examples)
                del examples  # while the batch is trained on, its clips need not stay in memory twice
                yield batch
        finally:
            workers.close()

    def drawn(self, step: int) -> list[tuple[int, int]]:
        """What the batch of a step is made of: for each clip its source's number, and its index there."""
        return [self._draw(position) for position in self._positions(step)]

    def _positions(self, step: int) -> range:
        """This host's positions in the stream."""
        first = step * self.batch_size + self.host * self.local
        return range(first, first + self.local)

    def _draw(self, position: int) -> tuple[int, int]:
        """The source at a position of the stream, and the index in it."""
        return cast(tuple[int, int], self.order[position])


class _Of:
    """Puts the number of its source before an index. A class, so that it pickles."""

    def __init__(self, number: int):
        self.number = number

    def __call__(self, index: int) -> tuple[int, int]:
        return self.number, int(index)


def _seed(seed: int, number: int) -> int:
    """Another seed for each source, so that two of one length are not shuffled alike. The first keeps the run's."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0]) if number else seed


LISTED = ("ids", "starts", "sources", "events")  # in batches of training
TOLD = ("ids", "labels", "media")  # in those of evaluation


def collate(examples: Sequence[dict]) -> dict:
    """Stacks the arrays of examples; lists what says where they are from."""
    return {
        name: [example[name] for example in examples]
        if name in LISTED + TOLD
        else np.stack([example[name] for example in examples])
        for name in examples[0]
    }


def evaluation_batches(
    source: Source,
    *,
    clip: ClipConfig,
    canvas: int,
    tokenizer: Tokenizer | None,
    labels: Labels | None = None,
    windows: int,
    crops: int = 1,
    batch_size: int,
    workers: int = 0,
    failed: list[MediaError] | None = None,
) -> Iterator[dict]:
    """Every item once, in order, seen through W views: `windows` clips spread evenly over it (one: its centre), each
    cut out of the frame `crops` times.

    A batch is a dict of
      video, video_box, video_colour, audio
                  as `TrainStream` gives them, but [B W ...]
      video_mask, audio_mask  [B] bool
      text        [B L] int32: the caption with words nearest to the middle of the item, and within it; text_mask [B]
                  is False where there is none. Neither if there is no tokenizer
      label       [B C] as in training, if there are `labels`
      valid       [B] False on the rows that fill the last batch, which are zero
      ids         list of the valid items; labels, the names of their classes; media, what they were cut from

    Args:
      workers: how many files are decoded at once (0: one a core).
      failed: takes the errors of clips that cannot be decoded, which are left out.

    Raises:
      MediaError: a clip cannot be decoded, and `failed` is None.
    """
    view = _View(source, clip, canvas, tokenizer, labels, windows, crops)
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    indices, ahead, rows = iter(range(len(source))), deque(), []
    try:
        while True:
            for index in itertools.islice(indices, 2 * batch_size - len(ahead)):
                ahead.append(pool.submit(view, index))
            if ahead:
                try:
                    rows.append(ahead.popleft().result())
                except MediaError as error:
                    if failed is None:
                        raise
                    failed.append(error)
            if rows and (len(rows) == batch_size or not ahead):
                yield _filled(collate(rows), batch_size)
                rows = []
            if not ahead:
                return
    finally:
        pool.shutdown(cancel_futures=True)


class _View(NamedTuple):
    """Makes the example of an item for evaluation."""

    source: Source
    clip: ClipConfig
    canvas: int
    tokenizer: Tokenizer | None
    labels: Labels | None
    windows: int
    crops: int

    def __call__(self, index: int) -> dict:
        item, clip = self.source[index], self.clip
        item = item if self.labels is None else self.labels.needed(item)
        first, last = item.room(clip.seconds) if item.has_audio or not item.still else (0.0, 0.0)
        starts = np.linspace(first, last, self.windows) if self.windows > 1 else [(first + last) / 2]
        views = [
            decode_clip(item, float(start), clip, crop=crop, canvas=self.canvas)
            for start in starts
            for crop in evaluation_crops(self.crops)
        ]
        stacked = {name: np.stack([view[name] for view in views]) for name in views[0]}
        stacked["video_mask"], stacked["audio_mask"] = views[0]["video_mask"], views[0]["audio_mask"]
        if self.labels is not None:
            stacked, _ = self.labels.put(stacked, item, [])
        elif is_silent(stacked["audio"]):  # no sound to be found by
            stacked["audio_mask"] = np.array(False)
        if self.tokenizer is not None:
            stacked["text"] = self._text(item, self.tokenizer)
            stacked["text_mask"] = stacked["text"][0] != PAD
        return stacked | {"valid": np.True_, "ids": item.id, "labels": item.labels, "media": str(item.media)}

    def _text(self, item: Item, tokenizer: Tokenizer) -> np.ndarray:
        """The caption nearest to the middle of the item, of those that hold within it and have words. [L]"""
        spoken = {
            caption: ids
            for caption in item.captions
            if caption.start <= item.end
            and caption.end >= item.start
            and (ids := tokenizer.encode(caption.text, self.clip.words))[0] != PAD
        }
        chosen = nearest(tuple(spoken), item.start, item.end, 1)
        return spoken[chosen[0]] if chosen else tokenizer.encode("", self.clip.words)


def _filled(batch: dict, size: int) -> dict:
    """The batch with zero rows at its end."""
    padding = size - len(batch["ids"])
    return {
        name: value if name in TOLD else np.concatenate([value, np.zeros((padding, *value.shape[1:]), value.dtype)])
        for name, value in batch.items()
    }
