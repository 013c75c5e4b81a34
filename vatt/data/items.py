"""What the data package passes around: rows of a manifest, the items they become once opened, and sources of items.

    Row      a part of a media file and what is said of it; nothing has been opened yet
    Listing  the rows of a source, and what was expected there but cannot be used
    Item     a row whose media has been opened: clips can be cut from it
    Source   random access to items; what the stream draws from

Times are seconds from the start of the file; a file's start is where its container's clock starts.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from vatt.data.captions import Caption
from vatt.data.extensions import EXTENSIONS as EXTENSIONS
from vatt.data.extensions import PICTURES as PICTURES
from vatt.data.extensions import SOUND as SOUND
from vatt.data.extensions import VIDEO as VIDEO

Progress = Callable[[int, int], None]  # called with (done, in all)


@dataclass(frozen=True)
class Slice:
    """A file that lies within another, such as a member of a tar: `size` bytes from `offset` on."""

    path: str
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True, eq=False)
class Encoded:
    """A media file in memory, such as a record of a prepared set."""

    data: bytes
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Decoded:
    """Frames and samples as arrays, such as a record of a foreign data set.

    video: [T H W 3] uint8 at `fps`, or None; one frame is a still picture.
    audio: [S] float32 in [-1, 1] or int16, at `sample_rate` (Hz), or None.
    """

    name: str
    video: np.ndarray | None = None
    fps: float = 0.0
    audio: np.ndarray | None = None
    sample_rate: int = 0

    def __str__(self) -> str:
        return self.name


Medium = str | Slice | Encoded | Decoded  # str: the path of a file


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a manifest.

    id: unique in its source; for a folder the path within it, with forward slashes.
    start, end: the part of the file meant (seconds); end None is the file's end.
    captions: timed on the file's own clock. A caption that holds throughout spans (0, inf).
    """

    id: str
    media: str | Slice
    start: float = 0.0
    end: float | None = None
    captions: Sequence[Caption] = ()
    labels: tuple[str, ...] = ()
    split: str = ""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that was expected and cannot be used. `reason` is a key of `vatt.data.faults.FAULTS`."""

    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a source promises, before any media is opened. `ignored` counts files passed over, by extension."""

    name: str
    rows: list[Row]
    faults: list[Fault] = field(default_factory=list)
    ignored: Counter = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Media that has been opened. Clips can be cut between `start` and `end` (seconds), while all its streams run.

    still: the video is one picture, which is shown for as long as is asked.
    """

    id: str
    media: Medium
    start: float = 0.0
    end: float
    has_video: bool = True
    has_audio: bool = True
    still: bool = False
    captions: Sequence[Caption] = ()
    labels: tuple[str, ...] = ()

    def room(self, seconds: float) -> tuple[float, float]:
        """The first and the last instant at which a clip of so many seconds can begin."""
        return self.start, max(self.start, self.end - seconds)


class Source(Protocol):
    """Random access to the items of a source. It pickles, so that worker processes can have it.

    name: the source string, absolute.
    faults: what was left out when it was opened.
    """

    name: str
    faults: list[Fault]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item:
        """The item at `index`. May read the disk. Raises MediaError if what lies there cannot be read."""
        ...

    def word_counts(self) -> Counter:
        """How often each word (as `vatt.data.text.words` finds them) occurs in the captions."""
        ...

    def labels(self) -> list[tuple[str, ...]]:
        """The labels of every item, in order; none of one that cannot be read."""
        ...

    def fingerprint(self) -> str:
        """A digest of all that decides which clip an index gives, and what is said of it. Not of the media bytes."""
        ...


def absolute_path(path: str | os.PathLike) -> str:
    return str(Path(path).expanduser().absolute())
