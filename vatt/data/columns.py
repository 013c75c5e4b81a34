"""Items by the million: their fields in a few arrays, some 100 bytes an item beside its captions.

A list of as many objects would take ten times that, be copied whole to every worker process, and be walked through by
Python's garbage collector again and again.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from vatt.data.captions import Caption
from vatt.data.items import Item, Medium, Slice
from vatt.data.text import words


class Strings:
    """A list of strings, end to end."""

    def __init__(self, texts: Iterable[str]):
        encoded = [text.encode() for text in texts]
        self.data = b"".join(encoded)
        self.ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        return self.data[int(self.ends[index - 1]) if index else 0 : int(self.ends[index])].decode()


class Ragged:
    """Rows of different lengths: row i is `values[starts[i] : starts[i] + lengths[i]]`. A row that is given twice, as
    one and the same object, is kept once."""

    def __init__(self, rows: Sequence[Sequence]):
        self.values: list = []
        self.starts = np.zeros(len(rows), np.int64)
        self.lengths = np.array([len(row) for row in rows], np.int32)
        kept: dict[int, int] = {}
        for i, row in enumerate(rows):
            if row and id(row) not in kept:
                kept[id(row)] = len(self.values)
                self.values.extend(row)
            self.starts[i] = kept.get(id(row), 0)

    def span(self, index: int) -> range:
        start = int(self.starts[index])
        return range(start, start + int(self.lengths[index]))


class Items:
    """A sequence of items, made when they are asked for."""

    def __init__(self, items: Sequence[Item]):
        """The media must be files or slices of files."""
        slices = [item.media if isinstance(item.media, Slice) else Slice(str(item.media), -1, -1, "") for item in items]
        self.ids = Strings(item.id for item in items)
        self.paths = Strings(media.path for media in slices)
        self.members = Strings(media.name for media in slices)
        self.places = np.array([(media.offset, media.size) for media in slices], np.int64).reshape(-1, 2)
        self.times = np.array([(item.start, item.end) for item in items], np.float64).reshape(-1, 2)
        self.flags = np.array([(item.has_video, item.has_audio, item.still) for item in items], bool).reshape(-1, 3)
        # What is read when asked for, such as HowTo100M's hundred million narrations, stays where it is.
        self.lazy = {i: item.captions for i, item in enumerate(items) if not isinstance(item.captions, tuple | list)}
        captions = Ragged([() if i in self.lazy else item.captions for i, item in enumerate(items)])
        self.texts = Strings(caption.text for caption in captions.values)
        self.said = np.array([(c.start, c.end) for c in captions.values], np.float64).reshape(-1, 2)
        labels = Ragged([item.labels for item in items])
        self.labels = Strings(labels.values)
        captions.values, labels.values = [], []
        self.captions_of, self.labels_of = captions, labels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start, end = self.times[index].tolist()
        has_video, has_audio, still = self.flags[index].tolist()
        return Item(
            id=self.ids[index],
            media=self._medium(index),
            start=start,
            end=end,
            has_video=has_video,
            has_audio=has_audio,
            still=still,
            captions=self._captions(index),
            labels=self._labels(index),
        )

    def _labels(self, index: int) -> tuple[str, ...]:
        return tuple(self.labels[i] for i in self.labels_of.span(index))

    def all_labels(self) -> list[tuple[str, ...]]:
        return [self._labels(index) for index in range(len(self))]

    def _captions(self, index: int) -> Sequence[Caption]:
        if index in self.lazy:
            return self.lazy[index]
        span = self.captions_of.span(index)
        return tuple(Caption(float(self.said[i, 0]), float(self.said[i, 1]), self.texts[i]) for i in span)

    def _medium(self, index: int) -> Medium:
        offset, size = self.places[index].tolist()
        path = self.paths[index]
        return path if offset < 0 else Slice(path, offset, size, self.members[index])

    def word_counts(self) -> Counter:
        """How often each word occurs in the captions; of those that items share, once an item."""
        shared: Counter = Counter()
        for index in range(len(self)):
            span = self.captions_of.span(index)
            if span:
                shared[span] += 1
        counts: Counter = Counter()
        for captions in self.lazy.values():
            counts.update(word for caption in captions for word in words(caption.text))
        for span, times in shared.items():
            for i in span:
                for word in words(self.texts[i]):
                    counts[word] += times
        return counts

    def fingerprint(self) -> str:
        """A digest of ids, times, flags, captions and labels. Not of where the files lie."""
        digest = hashlib.sha256()
        for strings in (self.ids, self.texts, self.labels):
            digest.update(np.int64(len(strings.data)).tobytes() + strings.data + strings.ends.tobytes())
        for array in (self.times, self.flags, self.said, self.captions_of.starts, self.captions_of.lengths):
            digest.update(array.tobytes())
        digest.update(self.labels_of.starts.tobytes() + self.labels_of.lengths.tobytes())
        digest.update(repr(self.lazy).encode())
        return digest.hexdigest()
