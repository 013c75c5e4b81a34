"""What a preparation is of: its configuration, its units of work, and the shards that these fill.

All of it is a function of the source and the configuration alone.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vatt.config import check
from vatt.data.items import Listing, Row, Slice
from vatt.data.prepare.encode import Form
from vatt.errors import DataError

SHARD_BYTES = 2**30  # of originals that a shard holds, and so about of what they become, or a few times less
SPLIT = re.compile(r"\w[\w-]*", re.ASCII)  # what can stand in the name of a file of TFDS


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How media are cut and stored."""

    size: int = 256  # short side of the picture (pixels); smaller pictures stay as they are
    fps: float = 10.0  # frames a second
    sample_rate: int = 48_000  # samples a second (Hz), mono
    cut: Literal["windows", "captions"] = "windows"  # at regular windows, or around each caption
    seconds: float = 10.0  # length of a window; the last one lasts one to two of it
    min_seconds: float = 5.0  # captions are widened to this, about their centre
    candidates: int = 5  # so many captions nearest to any clip of a record are kept with it

    def __post_init__(self):
        check(16 <= self.size <= 4096, f"size is {self.size}; it must lie in 16 to 4096 pixels")
        check(self.size % 2 == 0, f"size is {self.size}; it must be even")
        check(0 < self.fps <= 240, f"fps is {self.fps:g}; it must lie in (0, 240]")
        check(8000 <= self.sample_rate <= 96_000, f"sample_rate is {self.sample_rate}; it must lie in 8000 to 96000 Hz")
        check(self.seconds >= 1 / self.fps, f"seconds is {self.seconds:g}; it must hold a frame ({1 / self.fps:g} s)")
        check(
            0 < self.min_seconds <= self.seconds,
            f"min_seconds is {self.min_seconds:g}; it must lie in (0, seconds], which is {self.seconds:g}",
        )
        check(self.candidates >= 1, f"candidates is {self.candidates}; it must be at least 1")

    @property
    def form(self) -> Form:
        return Form(size=self.size, fps=self.fps, sample_rate=self.sample_rate)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The unit of work: the rows of one medium in one split. It is prepared wholly, or not at all."""

    number: int
    split: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Units whose records lie in one file."""

    number: int
    split: str
    units: tuple[Unit, ...]


def plan_shards(listing: Listing, shard_bytes: int = SHARD_BYTES) -> list[Shard]:
    """Groups rows by split and medium, in the order in which each first comes, and fills shards with them.

    Raises:
      DataError: a split's name cannot be that of a file.
    """
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in listing.rows:
        split = row.split or "train"
        if not SPLIT.fullmatch(split):
            raise DataError(
                f"{listing.name}: {row.id} is of split {split!r}; name splits in letters, digits, _ and - alone"
            )
        groups.setdefault(split, {}).setdefault(str(row.media), []).append(row)
    shards: list[Shard] = []
    number = 0
    for split in sorted(groups):
        units: list[Unit] = []
        held = 0
        for rows in groups[split].values():
            size = _size(rows[0].media)
            if units and held + size > shard_bytes:
                shards.append(Shard(number=len(shards), split=split, units=tuple(units)))
                units, held = [], 0
            units.append(Unit(number=number, split=split, rows=tuple(rows)))
            number, held = number + 1, held + size
        shards.append(Shard(number=len(shards), split=split, units=tuple(units)))
    return shards


def _size(media: str | Slice) -> int:
    if isinstance(media, Slice):
        return media.size
    try:
        return os.stat(media).st_size
    except OSError:
        return 0  # what is wrong with it is told when it is opened


def digest(shards: Iterable[Shard]) -> str:
    """Of all rows, and of how they lie in shards."""
    state = hashlib.sha256()
    for shard in shards:
        for unit in shard.units:
            for row in unit.rows:
                state.update(json.dumps([shard.number, unit.number, row_to_json(row)]).encode() + b"\n")
    return state.hexdigest()


def row_to_json(row: Row) -> dict:
    captions = [[caption.start, caption.end, caption.text] for caption in row.captions]
    media = dataclasses.asdict(row.media) if isinstance(row.media, Slice) else row.media
    values = {name: getattr(row, name) for name in ("id", "start", "end", "labels", "split")}
    return {**values, "media": media, "captions": captions}


def staged_path(staging: Path, unit: Unit) -> Path:
    """Where a unit's records lie until their shard is joined; a thousand to a folder."""
    return staging / "units" / f"{unit.number // 1000:05d}" / f"{unit.number:08d}"


def shard_paths(staging: Path, number: int) -> tuple[Path, Path]:
    """The file of a shard until it has its name, and what is said of it."""
    return staging / "shards" / f"{number:05d}.array_record", staging / "shards" / f"{number:05d}.json"
