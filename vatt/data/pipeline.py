"""Batches of clips: a stream for training that is a function of the step, and one pass for evaluation."""

import itertools
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, cast

import grain
import numpy as np

from vatt.config import ClipConfig
from vatt.data.manifest import Item
from vatt.data.media import decode_clip
from vatt.data.text import PAD, Vocabulary
from vatt.data.workers import Decoder, Workers
from vatt.errors import DataError


class TrainStream:
    """Batches for training. `batch(step)` is a pure function of (seed, items, step), whatever came before.

    Every epoch is a new permutation of the items; batches run across the ends of epochs, so that none is
    short. A clip begins anywhere within its file, at random; its captions are those nearest to it.

    A batch is a dict of
      video       [B T H W C] uint8
      audio       [B S] float32, zeros where audio_mask [B] is False: the file has no sound
      text        [B K L] int32, padded with 0; text_mask [B K] is False where there is no caption, or none
        with words
      ids         list of B strings: the items
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        clip: ClipConfig,
        vocabulary: Vocabulary,
        batch_size: int,
        seed: int,
        workers: int = 0,
        worker_kind: Literal["thread", "process"] = "thread",
    ):
        """`workers` decode at once (0: one a core). Raises DataError when there are no items."""
        if not items:
            raise DataError("no clips to train on")
        self.items = items
        self.batch_size = batch_size
        self.decoder = Decoder(clip=clip, vocabulary=vocabulary, seed=seed)
        self.workers = workers or os.cpu_count() or 1
        self.worker_kind: Literal["thread", "process"] = worker_kind
        self.order = grain.MapDataset.range(len(items)).seed(seed).shuffle().repeat()

    def batch(self, step: int) -> dict:
        """The batch of a step (from 0). Raises MediaError when a clip cannot be decoded."""
        first = step * self.batch_size
        positions = range(first, first + self.batch_size)
        return collate([self.decoder(position, self._item(position)) for position in positions])

    def iterate(self, start_step: int = 0) -> Generator[dict]:
        """The batches from `start_step` on, without end; decoded ahead by workers, which `close()` stops.

        Raises MediaError, at the batch at fault, when a clip cannot be decoded.
        """
        workers = Workers(self.decoder, count=self.workers, kind=self.worker_kind)
        positions = itertools.count(start_step * self.batch_size)

        def submit():
            position = next(positions)
            return workers.submit(position, self._item(position))

        try:
            ahead = deque(submit() for _ in range(self.workers + 2 * self.batch_size))
            while True:
                examples = []
                for _ in range(self.batch_size):
                    examples.append(workers.result(ahead.popleft()))
                    ahead.append(submit())
                yield collate(examples)
        finally:
            workers.close()

    def _item(self, position: int) -> Item:
        return self.items[cast(int, self.order[position])]


def collate(examples: Sequence[dict]) -> dict:
    """Stacks the arrays of examples; lists their ids."""
    return {
        name: [example[name] for example in examples]
        if name == "ids"
        else np.stack([example[name] for example in examples])
        for name in examples[0]
    }


def evaluation_batches(
    items: Sequence[Item],
    *,
    clip: ClipConfig,
    vocabulary: Vocabulary,
    windows: int,
    batch_size: int,
    threads: int = 0,
) -> Iterator[dict]:
    """Every item once, in order, seen through `windows` clips spread evenly over it (one: its centre).

    A batch is a dict of
      video       [B W T H W C] uint8, W windows
      audio       [B W S] float32; audio_mask [B] is False where the file has no sound
      text        [B L] int32: the first caption that has words; text_mask [B] is False where there is none
      valid       [B] False on the rows that fill the last batch, which are zero
      ids         list of the valid items

    Args:
      threads: how many files are decoded at once (0: one a core).

    Raises:
      MediaError: a clip cannot be decoded.
    """

    def example(item: Item) -> dict:
        first, last = item.room(clip.seconds)
        starts = np.linspace(first, last, windows) if windows > 1 else [(first + last) / 2]
        views = [decode_clip(item.path, float(start), clip) for start in starts]
        captions = (vocabulary.encode(caption.text, clip.words) for caption in item.captions)
        text = next((ids for ids in captions if ids[0] != PAD), vocabulary.encode("", clip.words))
        return {
            "video": np.stack([view["video"] for view in views]),
            "audio": np.stack([view["audio"] for view in views]),
            "audio_mask": views[0]["audio_mask"],
            "text": text,
            "text_mask": text[0] != PAD,
            "valid": np.True_,
            "ids": item.id,
        }

    pool = ThreadPoolExecutor(threads or os.cpu_count())
    try:
        chunks = [items[first : first + batch_size] for first in range(0, len(items), batch_size)]
        ahead = [pool.submit(example, item) for chunk in chunks[:1] for item in chunk]
        for number in range(len(chunks)):
            current, ahead = (
                ahead,
                [pool.submit(example, item) for chunk in chunks[number + 1 : number + 2] for item in chunk],
            )
            batch = collate([future.result() for future in current])
            padding = batch_size - len(current)
            yield {
                name: value
                if name == "ids"
                else np.concatenate([value, np.zeros((padding, *value.shape[1:]), value.dtype)])
                for name, value in batch.items()
            }
    finally:
        pool.shutdown(cancel_futures=True)
