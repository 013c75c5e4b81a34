"""Sources opened: media files probed, those that cannot give a clip left out and told of."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vatt.config import ClipConfig, Modality
from vatt.data.columns import Items
from vatt.data.faults import FAULTS
from vatt.data.items import Fault, Item, Listing, Medium, Progress, Row, Source, absolute_path
from vatt.data.listing.rows import list_rows, parse_source
from vatt.data.media.clip import MediaInfo, probe
from vatt.data.pool import in_parallel
from vatt.data.records import PreparedSource, is_prepared
from vatt.data.text import words
from vatt.errors import DataError, MediaError, listed

SLACK = 1e-6  # seconds; 3.2 s cut from a film at 71.3 s may come out shorter by a rounding error
BOTH: tuple[Modality, ...] = ("video", "audio")

NOT_BAD = ("missing", "too_short")  # left out and told of, but nothing that is broken


class MediaSource:
    """Media files, or members of archives: a Source in the order of its listing. Nothing is read to make an item."""

    def __init__(self, name: str, items: Sequence[Item], faults: list[Fault]):
        self.name = name
        self.faults = faults
        self._items = Items(items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Item:
        return self._items[index]

    def word_counts(self) -> Counter:
        return self._items.word_counts()

    def labels(self) -> list[tuple[str, ...]]:
        return self._items.all_labels()

    def fingerprint(self) -> str:
        return self._items.fingerprint()


def open_clips(
    source: str,
    clip: ClipConfig,
    *,
    max_bad: float,
    modalities: Sequence[str] = BOTH,
    workers: int = 0,
    progress: Progress | None = None,
) -> Source:
    """Opens a source for a run, which it must serve.

    Raises DataError as `open_source` does, and if more than `max_bad` of its files cannot be used, or a prepared set
    holds less than the clip asks for.
    """
    seconds = clip.of(modalities).needed
    opened = open_source(source, seconds=seconds, modalities=modalities, workers=workers, progress=progress)
    if isinstance(opened, PreparedSource):
        opened.check(clip)
    check_faults(opened, max_bad)
    return opened


def check_faults(source: Source, max_bad: float) -> None:
    """Raises DataError if more than `max_bad` of a source's files were left out when it was opened. Those that are
    merely not there do not count (links rot, and published sets are seldom whole), nor those shorter than a clip."""
    bad = [fault for fault in source.faults if FAULTS[fault.reason].fatal and fault.reason not in NOT_BAD]
    total = len(source) + len(bad)
    if len(bad) > max_bad * total:
        kinds = Counter(fault.reason for fault in bad)
        files = [f"{fault.id}: {fault.detail or FAULTS[fault.reason].says}" for fault in bad]
        raise DataError(
            f"{source.name}: {len(bad)} of {total} files cannot be used "
            f"({', '.join(f'{count} {reason}' for reason, count in kinds.most_common())}), more than data.max_bad "
            f"{max_bad:g}. Repair or remove them (vatt data check tells what to do), or raise --data.max-bad:\n"
            + listed(files)
        )


def open_source(
    source: str,
    *,
    seconds: float,
    modalities: Sequence[str] = BOTH,
    workers: int = 0,
    progress: Progress | None = None,
) -> Source:
    """Opens a source (see `vatt.data.listing.rows`): a prepared set, a TFDS data set, or media, of which every file is
    probed.

    Args:
      source: by name.
      seconds: how long a clip is; what is shorter is left out.
      modalities: what is looked at. A media file is cut to where all of its streams run that are of these, and gives
        nothing of another. Prepared sets and those of TFDS stay as they are.
      workers: how many files are probed at once (0: one a core).
      progress: called with (files done, files in all).

    Returns:
      The source; its `faults` say what was left out.

    Raises:
      DataError: there is no such source, or nothing in it can be used: how many rows fail for which reason, the first
        of them, and what to do.
    """
    opened = open_records(source, seconds)
    if opened is not None:
        if not len(opened):
            raise DataError(f"{source}: holds no records")
        return opened
    listing = list_rows(source, progress=progress)
    return open_listing(listing, seconds=seconds, modalities=modalities, workers=workers, progress=progress)


def open_file(path: str | os.PathLike, seconds: float) -> Item:
    """One media file, from which clips of so many seconds can be cut. Raises MediaError, also if it is too short."""
    media = absolute_path(path)
    return open_row(Row(id=str(path), media=media), probe(media), seconds)


def open_row(row: Row, info: MediaInfo, seconds: float) -> Item:
    """A row of a file that was probed. Raises MediaError if it is shorter than a clip."""
    item = _item(row, info, seconds, BOTH)
    if isinstance(item, Fault):
        raise MediaError(str(row.media), item.detail.removeprefix(f"{row.media}: "), item.reason)
    return item


def open_records(source: str, seconds: float) -> Source | None:
    """A source that needs no probing; None if it does."""
    parsed = parse_source(source)
    if parsed.kind == "tfds":
        from vatt.data.foreign import ForeignSource

        return ForeignSource(source, seconds=seconds)
    if parsed.kind == "folder":
        folder = Path(parsed.place).expanduser()
        if is_prepared(folder):
            return PreparedSource(folder, parsed.split, seconds=seconds)
    return None


def open_listing(
    listing: Listing,
    *,
    seconds: float,
    modalities: Sequence[str] = BOTH,
    workers: int = 0,
    progress: Progress | None = None,
) -> Source:
    """Probes the media of a listing, each once however many rows cut it. Args and errors are those of `open_source`."""
    media: dict[Medium, None] = dict.fromkeys(row.media for row in listing.rows)
    found = in_parallel(_probe, list(media), workers=workers, progress=progress)
    infos = dict(zip(media, found, strict=True))
    items, faults = [], list(listing.faults)
    for row in listing.rows:
        item = _item(row, infos[row.media], seconds, modalities)
        if isinstance(item, Item):
            items.append(item)
        else:
            faults.append(item)
    if not items:
        raise DataError(_nothing_left(listing.name, faults))
    return MediaSource(listing.name, items, faults)


def _probe(media: Medium) -> MediaInfo | MediaError:
    try:
        return probe(media)
    except MediaError as error:
        return error


def _item(row: Row, info: MediaInfo | MediaError, seconds: float, modalities: Sequence[str]) -> Item | Fault:
    if isinstance(info, MediaError):
        return Fault(id=row.id, reason=info.kind, detail=str(info))
    first, last = info.span(modalities)
    start, end = max(row.start, first), min(math.inf if row.end is None else row.end, last)
    if math.isinf(last):  # a still, which is shown for as long as is asked
        start, end = 0.0, seconds
    if end - start < seconds - SLACK:
        part = "" if row.end is None and not row.start else f" from {row.start:g} s to {row.end or last:g} s"
        detail = f"{row.media}{part}: {max(0.0, end - start):.2f} s, a clip lasts {seconds:g} s"
        return Fault(id=row.id, reason="too_short", detail=detail)
    return Item(
        id=row.id,
        media=row.media,
        start=start,
        end=end,
        has_video=info.has_video and "video" in modalities,
        has_audio=info.has_audio and "audio" in modalities,
        still=info.still,
        captions=row.captions,
        labels=row.labels,
    )


def _nothing_left(name: str, faults: Sequence[Fault]) -> str:
    fatal = [fault for fault in faults if FAULTS[fault.reason].fatal]
    if not fatal:
        return f"{name}: holds no rows"
    counts = Counter(fault.reason for fault in fatal).most_common()
    kinds = [f"  {count} {reason}: {FAULTS[reason].says}; {FAULTS[reason].remedy}" for reason, count in counts]
    lines = [f"{name}: nothing in it can be used; vatt data check {name} tells more:", *kinds, "the first of them:"]
    return "\n".join([*lines, listed([fault.detail or fault.id for fault in fatal])])


def word_counts(source: str, *, progress: Progress | None = None) -> Counter:
    """How often each word occurs in the captions of a source. No media is opened. Raises DataError as `list_rows`."""
    opened = open_records(source, 0.0)
    if opened is not None:
        return opened.word_counts()
    rows = list_rows(source, progress=progress).rows
    return Counter(word for row in rows for caption in row.captions for word in words(caption.text))
