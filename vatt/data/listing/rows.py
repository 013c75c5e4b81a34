"""Sources by name, and the rows that they promise: a folder, a manifest, shards, demo media, a published data set.

    FOLDER                          media however nested, with captions beside them; or only .tar files: shards
    FILE.csv .tsv .jsonl .parquet   a manifest
    FILE.tar, shards-{000..010}.tar WebDataset shards
    demo:DIR/train, .../heldout     demo media, made first; with labels: DIR/few.csv, DIR/heldout.csv
    NAME:FOLDER                     a published data set in its official layout (`vatt.data.builders`)
    tfds:NAME[:VERSION]             a prepared TFDS data set, its features mapped to modalities (`vatt.data.foreign`)

A source may end in `@SPLIT`, and then in `?key=value&key=value`. What exists on disk under the whole name is that,
whatever colons, @ and question marks stand in it.
"""

import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode

from vatt.data import builders
from vatt.data.demo import make_demo
from vatt.data.items import EXTENSIONS, Fault, Listing, Progress, Row, absolute_path
from vatt.data.listing.archives import has_only_tars, list_tars
from vatt.data.listing.folder import list_folder
from vatt.data.listing.manifest import SUFFIXES, list_manifest
from vatt.errors import DataError

Kind = Literal["folder", "manifest", "tars", "demo", "builder", "tfds"]

QUERIES = {  # what may stand behind the question mark
    "folder": ("language",),
    "manifest": ("language", "root"),
    "tars": ("language",),
    "demo": (),
    "builder": (),
    "tfds": ("dir", "video", "audio", "image", "text", "label", "fps", "rate"),
}


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A source string, taken apart.

    place: the folder, file or pattern; of a TFDS data set its NAME[/CONFIG][:VERSION].
    name: of a published data set.
    """

    kind: Kind
    place: str
    split: str = ""
    query: dict[str, str] = field(default_factory=dict)
    name: str = ""


def parse_source(source: str) -> Parsed:
    """Takes a source string apart. Opens nothing, but looks what exists.

    Raises:
      DataError: empty, or with a key behind the question mark that its kind has not.
    """
    if not source:
        raise DataError("an empty source; name a folder of media files")
    head, _, rest = source.partition(":")
    if head in ("demo", "tfds") and rest:
        place, split, query = _ends(rest, on_disk=head == "demo")
        parsed = Parsed(kind=head, place=place, split=split, query=query)
    elif rest and not _exists(source) and head in builders.NAMES:
        place, split, query = _ends(rest, on_disk=True)
        parsed = Parsed(kind="builder", place=place, split=split, query=query, name=head)
    else:
        place, split, query = _ends(source, on_disk=True)
        kind = _kind(place)
        parsed = Parsed(kind=kind, place=place, split=split, query=query)
    for key in parsed.query:
        if key not in QUERIES[parsed.kind]:
            known = ", ".join(QUERIES[parsed.kind]) or "nothing"
            raise DataError(f"{source}: {key!r} means nothing here; behind the question mark may stand {known}")
    return parsed


def _kind(place: str) -> Kind:
    suffix = Path(place).suffix.lower()
    if _is_folder(place):
        return "folder"
    return "manifest" if suffix in SUFFIXES else "tars" if suffix == ".tar" else "folder"


def absolute(source: str) -> str:
    """The same source, whatever the working directory; "" stays."""
    if not source:
        return ""
    parsed = parse_source(source)
    place = parsed.place if parsed.kind == "tfds" else absolute_path(parsed.place)
    prefix = {"demo": "demo:", "tfds": "tfds:", "builder": f"{parsed.name}:"}.get(parsed.kind, "")
    query = {
        key: absolute_path(value) if key in ("root", "dir") and value else value for key, value in parsed.query.items()
    }
    return (
        f"{prefix}{place}"
        + (f"@{parsed.split}" if parsed.split else "")
        + (f"?{urlencode(query, safe='/:,. ')}" if query else "")
    )


def list_rows(source: str, *, progress: Progress | None = None) -> Listing:
    """The rows of a source, in an order that is its own, each under an id of its own. No media is opened.

    Args:
      source: see above; but for a TFDS data set or a prepared one, which are records rather than rows.
      progress: called with (files done, files in all).

    Raises:
      DataError: there is no such source, nothing in it, or it is not what its name says.
    """
    parsed = parse_source(source)
    if parsed.kind == "tfds":
        raise DataError(f"{source}: holds records that are ready, not media files to list; train on it as it is")
    return _distinct(replace(_list(source, parsed, progress), name=absolute(source)))


def _list(source: str, parsed: Parsed, progress: Progress | None) -> Listing:
    place, language = str(Path(parsed.place).expanduser()), parsed.query.get("language", "")
    if parsed.kind == "builder":
        module = builders.load(parsed.name)
        return module.rows(Path(place), parsed.split or module.DEFAULT_SPLIT)
    if parsed.kind == "manifest":
        root = parsed.query.get("root", "")
        return list_manifest(place, root=root, split=parsed.split, language=language, progress=progress)
    if parsed.split:
        what = "demo media end" if parsed.kind == "demo" else "a folder or shards have no splits; a source ends"
        raise DataError(f"{source}: {what} in the folder or file meant, not in @{parsed.split}")
    if parsed.kind == "demo":
        if Path(place).name not in ("train", "heldout", "few.csv", "heldout.csv"):
            ends = "/train or /heldout, or with labels in /few.csv or /heldout.csv"
            raise DataError(f"{source}: a source of demo media ends in {ends}, such as {source}/train")
        make_demo(Path(place).parent, progress=progress)
        return list_manifest(place, progress=progress) if place.endswith(".csv") else list_folder(place)
    if parsed.kind == "tars":
        return list_tars(place, language=language, progress=progress)
    if not Path(place).is_dir():
        kinds = "a folder, a manifest (.csv, .tsv, .jsonl, .parquet) or a .tar"
        raise DataError(f"{place}: " + (f"not {kinds}" if Path(place).exists() else "no such folder"))
    listing = list_folder(place, language=language, progress=progress)
    if not listing.rows and has_only_tars(place):
        return list_tars(place, language=language, progress=progress)
    if not listing.rows and not listing.faults:
        raise DataError(f"{place}: no media files found ({', '.join(EXTENSIONS)})")
    return listing


def _distinct(listing: Listing) -> Listing:
    """Leaves out rows whose id another has before them, also where only capitals or the way of writing accents differ:
    on a Mac or on Windows they would be one file, and what is prepared here could not be unpacked there."""
    first: dict[str, Row] = {}
    rows, faults = [], list(listing.faults)
    for row in listing.rows:
        key = row.id if row.id.isascii() and row.id.islower() else unicodedata.normalize("NFC", row.id).casefold()
        other = first.setdefault(key, row)
        if other is row:
            rows.append(row)
        else:
            detail = f"{row.media}: {row.id!r} is the id of {other.media} already ({other.id!r})"
            faults.append(Fault(id=row.id, reason="duplicate_id", detail=detail))
    return replace(listing, rows=rows, faults=faults)


def _ends(text: str, *, on_disk: bool) -> tuple[str, str, dict[str, str]]:
    """(place, split, query) of `PLACE@SPLIT?query`."""
    if on_disk and _exists(text):
        return text, "", {}
    place, _, tail = text.rpartition("?")
    query = dict(parse_qsl(tail, keep_blank_values=True)) if place and "=" in tail else {}
    place = place if query else text
    if on_disk and _exists(place):
        return place, "", query
    before, _, split = place.rpartition("@")
    return (before, split, query) if before and split and "/" not in split else (place, "", query)


def _exists(place: str) -> bool:
    try:
        return Path(place).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, or with a NUL; no such user
        return False


def _is_folder(place: str) -> bool:
    return _exists(place) and Path(place).expanduser().is_dir()
