"""A folder of media as yt-dlp or a camera leaves it: files however nested, captions beside them."""

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vatt.data.captions import Bad, Beside, Caption, read_captions
from vatt.data.items import EXTENSIONS, PICTURES, Fault, Listing, Progress, Row
from vatt.data.pool import in_parallel
from vatt.errors import DataError

UNFINISHED = re.compile(r"\.(part|temp|tmp)\.\w+$|\.part-Frag\d+", re.IGNORECASE)  # as yt-dlp and ffmpeg name them
ASIDE = ("srt", "vtt", "json", "txt")  # may belong to media; never counted as passed over


@dataclass(frozen=True, slots=True)
class Found:
    """A media file of a folder: its path within it with forward slashes, its path, what lies beside."""

    id: str
    path: str
    beside: Beside


def list_folder(folder: str | Path, *, language: str = "", progress: Progress | None = None) -> Listing:
    """The media files of a folder and its subfolders, sorted by path, with the captions beside them.

    Hidden files and unfinished downloads are passed over, and so is a picture beside video, sound or an .info.json of
    the same name: it is a thumbnail; but beside a .mov it is a live photo, of which both are taken. Links
    are followed. Captions that cannot be read are a fault, and the others of their file are kept.

    Args:
      folder: where to look.
      language: of the captions wanted; see `vatt.data.captions.beside`.
      progress: called with (files whose captions are read, files in all).

    Raises:
      DataError: no such folder, or it cannot be read.
    """
    found, faults, ignored = find(folder, language)

    def row(file: Found) -> tuple[Row, list[Fault]]:
        faults: list[Fault] = []
        captions = captions_beside(file.path, file.beside, file.id, faults)
        return Row(id=file.id, media=file.path, captions=captions), faults

    read = in_parallel(row, found, progress=progress)
    faults += [fault for _, found in read for fault in found]
    return Listing(name=str(folder), rows=[row for row, _ in read], faults=faults, ignored=ignored)


def captions_beside(path: str, beside: Beside, id: str, faults: list[Fault]) -> tuple[Caption, ...]:
    """The captions beside a media file; what of them cannot be read is added to `faults`."""
    return tolerant(lambda bad: read_captions(path, beside, bad), id, faults)


def tolerant(read: Callable[[Bad], tuple[Caption, ...]], id: str, faults: list[Fault]) -> tuple[Caption, ...]:
    """What `read` gives; what it cannot read is added to `faults`, under `id`."""
    captions, bad = (), Bad()
    try:
        captions = read(bad)
        trouble = str(bad) if bad else ""
    except (DataError, OSError) as error:
        trouble = str(error)
    if trouble:
        faults.append(Fault(id=id, reason="bad_captions", detail=trouble))
    return captions


def find(folder: str | Path, language: str = "") -> tuple[list[Found], list[Fault], Counter]:
    """The media files, sorted; those whose names cannot be used; how many other files there are, by extension."""
    root = str(folder)
    found: list[Found] = []
    faults: list[Fault] = []
    ignored: Counter = Counter()
    queue, seen = [("", root)], set()
    while queue:
        inside, place = queue.pop()
        try:
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in seen:
                continue  # a link to a folder above, or a second one to the same
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as listed:
                entries = sorted((entry for entry in listed if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            if place == root:
                raise DataError(f"{folder}: cannot read the folder: {error.strerror}") from error
            faults.append(Fault(id=inside.rstrip("/"), reason="unreadable", detail=f"{place}: {error.strerror}"))
            continue
        files = []
        for entry in entries:
            if _is(entry.is_dir):
                queue.append((f"{inside}{entry.name}/", entry.path))
            else:
                files.append(entry)
        names = [entry.name for entry in files]
        beside = Beside(names, language)
        # A picture of the name of video, sound or yt-dlp's facts is a thumbnail: of a film, or of a whole channel.
        lasting = {os.path.splitext(name)[0] for name in names if extension(name) in MOVING}
        lasting |= {name.removesuffix(".info.json") for name in names if name.endswith(".info.json")}
        for entry in files:
            kind, name = extension(entry.name), inside + entry.name
            thumbnail = kind in PICTURES and os.path.splitext(entry.name)[0] in lasting
            if kind not in EXTENSIONS or thumbnail or UNFINISHED.search(entry.name):
                ignored[kind] += kind not in ASIDE
            elif not _is_unicode(name):
                shown = os.fsencode(name).decode("utf-8", "backslashreplace")
                faults.append(Fault(id=shown, reason="bad_name", detail=f"{shown}: the name is not UTF-8"))
            elif not _is(entry.is_file):
                faults.append(Fault(id=name, reason="missing", detail=f"{entry.path}: a broken link, or no file"))
            else:
                found.append(Found(name, entry.path, beside))
    return sorted(found, key=lambda file: file.id), faults, +ignored


MOVING = frozenset(EXTENSIONS) - frozenset(PICTURES) - {"mov"}  # what may have a thumbnail


def extension(name: str) -> str:
    """The last part of a file's name in lower case, without its dot; "" where it has none."""
    return os.path.splitext(name)[1].lower().lstrip(".")


def _is(kind: Callable[[], bool]) -> bool:
    """False of what cannot be told, such as a link to itself."""
    try:
        return kind()
    except OSError:
        return False


def _is_unicode(name: str) -> bool:
    """Python shows bytes that are no UTF-8 as lone surrogates, which no report could be written with."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
