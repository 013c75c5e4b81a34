"""The media files that sources name, each once, in the order of their paths."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vatt.data.captions import Beside, Caption
from vatt.data.faults import FAULTS
from vatt.data.items import Fault, Progress, Row, Slice, absolute_path
from vatt.data.listing.archives import members
from vatt.data.listing.folder import captions_beside
from vatt.data.listing.rows import absolute, list_rows, parse_source
from vatt.data.records import is_prepared
from vatt.errors import DataError


@dataclass(frozen=True, kw_only=True)
class MediaFile:
    """A media file, or a member of an archive, and the parts of it that are meant.

    path: absolute; of a member of an archive, ARCHIVE: MEMBER.
    rows: in the order of their times, of which no two have the same.
    """

    path: str
    media: str | Slice
    rows: tuple[Row, ...]

    def key(self) -> str:
        """A digest that changes with the file (as far as its size and time tell), with what is meant of it, and with
        what is said of it."""
        media = self.media if isinstance(self.media, Slice) else Slice(self.media, 0, 0, "")
        try:
            status = os.stat(media.path)
            stamp = status.st_size, status.st_mtime_ns
        except OSError:
            stamp = None
        said = [(row.start, row.end, [dataclasses.astuple(c) for c in row.captions]) for row in self.rows]
        return hashlib.sha256(repr((self.path, media.offset, media.size, stamp, said)).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """Something a source promised that cannot be used. reason: a key of `vatt.data.faults.FAULTS`."""

    path: str
    reason: str
    detail: str


def list_media(sources: Sequence[str], *, progress: Progress | None = None) -> tuple[list[MediaFile], list[Unusable]]:
    """What files, folders and other sources (see `vatt.data.listing.rows`) name. No media is opened.

    A file that several of them name is meant once: the parts that they mean of it, and their captions, are joined.

    Raises:
      DataError: there is no such file or source, or it is a set of records, which have no files.
    """
    rows: list[Row] = []
    faults: set[Unusable] = set()
    beside = functools.cache(lambda folder: Beside(os.listdir(folder)))  # of a folder, once for all its files
    for source in sources:
        found, wrong = _list_file(source, beside) if _is_media(source) else _list_source(source, progress)
        rows += found
        faults.update(wrong)
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(str(row.media), []).append(row)
    files = [MediaFile(path=path, media=grouped[path][0].media, rows=_join(grouped[path])) for path in sorted(grouped)]
    return files, sorted(faults, key=lambda fault: (fault.path, fault.reason, fault.detail))


def place_of(path: str) -> str:
    """The file on the disk that holds a file: itself, or the archive of ARCHIVE: MEMBER. It may be gone."""
    if not os.path.lexists(path):
        at = path.find(": ")
        while at > 0:
            if os.path.isfile(path[:at]):
                return path[:at]
            at = path.find(": ", at + 1)
    return path


def find_members(archive: str) -> dict[str, Slice]:
    """The members of an archive, by name. Empty if it cannot be read."""
    return {member.name: member for member in members(archive, archive, [])}


def _is_media(source: str) -> bool:
    """Whether it is one file, and not one that lists others."""
    return Path(source).expanduser().is_file() and parse_source(source).kind == "folder"


def _list_file(source: str, beside: Callable[[str], Beside]) -> tuple[list[Row], list[Unusable]]:
    path, faults = absolute_path(source), []
    captions = captions_beside(path, beside(os.path.dirname(path)), path, faults)
    row = Row(id=path, media=path, captions=captions)
    return [row], [Unusable(path=path, reason=fault.reason, detail=fault.detail) for fault in faults]


def _list_source(source: str, progress: Progress | None) -> tuple[list[Row], list[Unusable]]:
    parsed = parse_source(source)
    place = Path(parsed.place).expanduser()
    if parsed.kind == "folder" and not place.exists():
        raise DataError(f"{source}: no such file, folder or source; see vatt data --help for what a source may be")
    if parsed.kind == "folder" and is_prepared(place):
        raise DataError(
            f"{source}: a prepared set holds records, not files to point at; give the media it was made from"
        )
    listing = list_rows(source, progress=progress)
    rows = [dataclasses.replace(row, media=_absolute(row.media)) for row in listing.rows]
    name = absolute(source)
    inside = parsed.kind in ("folder", "demo")

    def path(fault: Fault) -> str:
        return os.path.join(absolute_path(parsed.place), fault.id) if inside else f"{name}: {fault.id}"

    wrong = [
        Unusable(path=path(fault), reason=fault.reason, detail=fault.detail or FAULTS[fault.reason].says)
        for fault in listing.faults
        if FAULTS[fault.reason].fatal or fault.reason == "bad_captions"
    ]
    return rows, wrong


def _absolute(media: str | Slice) -> str | Slice:
    if isinstance(media, Slice):
        return dataclasses.replace(media, path=absolute_path(media.path))
    return absolute_path(media)


def _join(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The parts of a file, each once, with all captions that are said of it."""
    captions: dict[tuple, dict[Caption, None]] = {}
    for row in rows:
        captions.setdefault((row.start, row.end), {}).update(dict.fromkeys(row.captions))
    parts = sorted(captions, key=lambda part: (part[0], part[1] is None, part[1] or 0.0))
    first = rows[0]
    return tuple(
        Row(
            id=first.id,
            media=first.media,
            start=start,
            end=end,
            captions=tuple(sorted(captions[start, end], key=lambda c: (c.start, c.end, c.text))),
        )
        for start, end in parts
    )
