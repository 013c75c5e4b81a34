"""Batches of clips: a stream for training that is a function of the step, and one pass for evaluation."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grain
import numpy as np

from vatt.config import ClipConfig
from vatt.data.captions import nearest
from vatt.data.manifest import Item
from vatt.data.media import decode_clip
from vatt.data.text import PAD, Vocabulary
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
        threads: int = 0,
    ):
        """`threads` decode clips (0: one a core). Raises DataError when there are no items."""
        if not items:
            raise DataError("no clips to train on")
        self.items = items
        self.clip = clip
        self.vocabulary = vocabulary
        self.batch_size = batch_size
        self.seed = seed
        self.threads = threads or os.cpu_count() or 1
        order = grain.MapDataset.range(len(items)).seed(seed).shuffle().repeat()
        self.clips = order.map_with_index(self._example)

    def batch(self, step: int) -> dict:
        """The batch of a step (from 0). Raises MediaError when a clip cannot be decoded."""
        first = step * self.batch_size
        return collate([self.clips[position] for position in range(first, first + self.batch_size)])

    def iterate(self, start_step: int = 0) -> Iterator[dict]:
        """The batches from `start_step` on, without end; decoded ahead by threads, which `close()` stops.

        Raises MediaError, at the batch at fault, when a clip cannot be decoded.
        """
        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=self.threads + 2 * self.batch_size)
        clips = iter(self.clips.to_iter_dataset(options))
        clips.set_state({"next_index": start_step * self.batch_size})
        try:
            while True:
                yield collate([next(clips) for _ in range(self.batch_size)])
        finally:
            clips.close()

    def _example(self, position: int, index: int) -> dict:
        """The clip at a position of the endless shuffled sequence."""
        item = self.items[index]
        rng = np.random.default_rng((self.seed, position))
        start = rng.uniform(*item.room(self.clip.seconds))
        example: dict = decode_clip(item.path, start, self.clip)
        example["text"] = np.full((self.clip.candidates, self.clip.words), PAD, np.int32)
        for row, caption in enumerate(nearest(item.captions, start, start + self.clip.seconds, self.clip.candidates)):
            example["text"][row] = self.vocabulary.encode(caption.text, self.clip.words)
        example["text_mask"] = example["text"][:, 0] != PAD
        example["ids"] = item.id
        return example


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
      text        [B L] int32: the first caption; text_mask [B] is False where there is none, or none with
        words
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
        text = vocabulary.encode(item.captions[0].text if item.captions else "", clip.words)
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
