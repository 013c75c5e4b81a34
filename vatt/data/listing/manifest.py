"""Manifests: CSV, TSV, JSON Lines or Parquet with a row for each part of a media file.

    path            the file: relative to the manifest's folder, or to another named with ?root=FOLDER; or absolute
    id              a name of its own; without it the path, with the times behind if there are any
    start, end      the part meant (seconds, or 00:01:02.5); without them all of it
    caption...      text, captions, caption_1, caption_en ...: a text that holds throughout, a list of texts, or a list
                    of {text, start, end}, timed on the file's own clock; any number of such columns
    label, labels   a label, or a list of them
    split           which split the row belongs to; `MANIFEST@train` takes its rows alone

Other columns are not read, which a fault says; but one that is called almost like the times, such as start_time, is an
error, since without them every row would be the whole file.

In CSV and TSV a list is written as JSON. Lines without an id that name the same part of the same file are one row with
the captions of all. Without caption columns the captions lie beside the files, as in a folder.

An absolute path is taken as it is: whoever writes a manifest may name any file. A relative one must stay in its folder,
also through links, so that a manifest that comes with a download reaches nothing else.
"""

import ast
import functools
import json
import math
import os
import re
from collections.abc import Collection
from dataclasses import replace
from decimal import Decimal
from typing import Any

from vatt.data.captions import Beside, Caption
from vatt.data.captions.caption import one_line
from vatt.data.captions.document import entries, number
from vatt.data.captions.subrip import INSTANT, seconds
from vatt.data.items import Fault, Listing, Progress, Row
from vatt.data.listing.folder import captions_beside
from vatt.data.listing.tables import SUFFIXES, records
from vatt.errors import DataError

__all__ = ["SUFFIXES", "list_manifest"]

CAPTIONS = re.compile(r"text|captions?([ _-]?\w+)?")
READ = ("path", "id", "start", "end", "label", "labels", "split")
ALMOST = {
    "start": re.compile(r"(t|time|clip|segment)?[ _-]?(start|begin)([ _-]?(time|timestamp|at|s|secs?|seconds?|ms))?"),
    "end": re.compile(r"(t|time|clip|segment)?[ _-]?(end|stop)([ _-]?(time|timestamp|at|s|secs?|seconds?|ms))?"),
}
LISTED = re.compile(r"""\s*\[\s*(["'{]|\])""")  # a list that somebody wrote into a cell; not "[music]"
CLOCK = re.compile(INSTANT, re.ASCII)


def list_manifest(
    path: str, *, root: str = "", split: str = "", language: str = "", progress: Progress | None = None
) -> Listing:
    """The rows of a manifest, in its order. A line that cannot be used is a fault that names it.

    Args:
      path: of the manifest; its suffix tells the format.
      root: what relative paths are relative to; "" for the manifest's folder.
      split: take only rows of this split; "" takes all.
      language: of the captions beside files; see `vatt.data.captions.beside`.
      progress: called once, at the end.

    Raises:
      DataError: the manifest cannot be read, or has no column `path`, or one that is called almost like the times, or
        no row of the split.
    """
    folder = os.path.abspath(os.path.expanduser(root) if root else os.path.dirname(path) or ".")
    reader = _Reader(folder, language)
    rows: list[Row] = []
    without_id: dict[str, int] = {}  # where in `rows` they are: lines of one part of one file are merged
    said: dict[int, list[Caption]] = {}
    faults: list[Fault] = []
    splits: set[str] = set()
    columns: dict[str, None] = {}
    for where, record in records(path):
        try:
            if isinstance(record, str):
                raise BadRowError(record)
            if record.keys() != columns.keys():
                columns.update(dict.fromkeys(record))
            row, own = reader.row(record)
        except BadRowError as bad:
            name = (isinstance(record, dict) and (record.get("id") or record.get("path"))) or where
            faults.append(Fault(id=str(name)[:200], reason=bad.reason, detail=f"{path}, {where}: {bad}"))
            continue
        splits.add(row.split)
        if split and row.split != split:
            continue
        at = without_id.setdefault(row.id, len(rows)) if not own else len(rows)
        if at < len(rows) and (rows[at].labels, rows[at].split) == (row.labels, row.split):
            said.setdefault(at, list(rows[at].captions)).extend(row.captions)
        else:
            rows.append(row)
    for at, captions in said.items():
        rows[at] = replace(rows[at], captions=tuple(captions))
    if columns:
        faults += _check_columns(path, columns)
    if split and split not in splits:
        known = ", ".join(sorted(splits - {""})) or "no column 'split'"
        raise DataError(f"{path}: no rows of split {split!r}; it has {known}")
    if not any(map(_speaks, columns)):
        rows = [reader.with_captions_beside(row, faults) for row in rows]
    if progress:
        progress(1, 1)
    return Listing(name=path, rows=rows, faults=faults)


def _check_columns(path: str, columns: Collection[str]) -> list[Fault]:
    """The fault that says which columns are not read. Raises DataError on those that should be, and cannot."""
    if "path" not in columns:
        raise DataError(f"{path}: no column 'path'; it has {', '.join(map(repr, columns))}")
    unread = [column for column in columns if column not in READ and not _speaks(column)]
    for name, almost in ALMOST.items():
        like = next(filter(almost.fullmatch, unread), None)
        if like and name not in columns:
            raise DataError(f"{path}: the column {like!r} is not read; call it {name!r} (seconds), or leave it out")
    if not unread:
        return []
    shown = ", ".join(map(repr, unread[:10])) + (", ..." if len(unread) > 10 else "")
    return [Fault(id=os.path.basename(path), reason="unread_columns", detail=shown)]


class BadRowError(Exception):
    """Why a record gives no row, and under which name it is counted."""

    def __init__(self, text: str, reason: str = "bad_row"):
        super().__init__(text)
        self.reason = reason


class _Reader:
    """Makes rows of records whose paths are relative to `folder`."""

    def __init__(self, folder: str, language: str):
        self.folder = folder
        self.real = os.path.realpath(folder)
        self.language = language
        self.captions: dict[str, tuple[Caption, ...]] = {}
        self.beside = functools.cache(self._beside)
        self.place = functools.lru_cache(1 << 16)(self._place)

    def row(self, record: dict[str, Any]) -> tuple[Row, bool]:
        """The row, and whether its id is its own. Raises BadRowError."""
        written = record.get("path")
        if not isinstance(written, str) or not written.strip() or "\0" in written:
            raise BadRowError(f"no path: {_shown(written)}")
        media = self._path(written.strip())
        start, end = self._instant(record, "start"), self._instant(record, "end")
        if end is not None and end <= (start or 0.0):
            raise BadRowError(f"ends ({end:g} s) before it starts ({start or 0.0:g} s)")
        captions = tuple(caption for key, value in record.items() if _speaks(key) for caption in self._said(key, value))
        labels = tuple(_label(x) for key in ("label", "labels") for x in _list(_cell(record.get(key))))
        id, split = record.get("id"), record.get("split")
        own = not _absent(id)
        name = _label(id) if own else written.strip().replace(os.sep, "/")
        if not own and (start is not None or end is not None):
            name += f"#{start or 0.0:.10g}-" + ("" if end is None else f"{end:.10g}")
        row = Row(
            id=name,
            media=media,
            start=start or 0.0,
            end=None if end == math.inf else end,
            captions=captions,
            labels=labels,
            split="" if _absent(split) else _label(split),
        )
        try:
            row.id.encode(), media.encode()
        except UnicodeEncodeError as error:
            raise BadRowError(f"{_shown(written)} is not Unicode", "bad_name") from error
        return row, own

    def with_captions_beside(self, row: Row, faults: list[Fault]) -> Row:
        assert isinstance(row.media, str)
        if row.media not in self.captions:
            beside = self.beside(os.path.dirname(row.media))
            self.captions[row.media] = captions_beside(row.media, beside, row.id, faults)
        return replace(row, captions=self.captions[row.media])

    def _beside(self, folder: str) -> Beside:
        try:
            return Beside(os.listdir(folder), self.language)
        except OSError:
            return Beside(())  # the file is not there either, and that is said of it

    def _path(self, written: str) -> str:
        if os.path.isabs(written):
            return written
        inside, name = os.path.split(written)
        if name in ("", ".", ".."):
            raise BadRowError(f"path {_shown(written)} names no file")
        try:
            folder, within = self.place(inside)
            path = os.path.join(folder, name)
            if within and os.path.islink(path):
                within = _within(os.path.realpath(path), self.real)
        except (OSError, ValueError) as error:
            raise BadRowError(f"path {_shown(written)}: {error}") from error
        if not within:
            why = f"path {_shown(written)} leaves {self.folder}; an absolute path may name any file"
            raise BadRowError(why, "outside")
        return path

    def _place(self, inside: str) -> tuple[str, bool]:
        """A folder of relative paths, and whether it lies within where they must stay, links followed."""
        place = os.path.normpath(os.path.join(self.folder, inside))
        return place, _within(os.path.realpath(place), self.real)

    def _instant(self, record: dict, key: str) -> float | None:
        value = record.get(key)
        if _absent(value):
            return None
        clock = CLOCK.fullmatch(value.strip()) if isinstance(value, str) and ":" in value else None
        try:
            found = seconds(*clock.groups()) if clock else number(value)
        except (ValueError, OverflowError) as error:
            raise BadRowError(f"{key}: {error}") from error
        if math.isnan(found) or found < 0 or (key == "start" and math.isinf(found)):
            raise BadRowError(f"{key}: {found:g} s is not a time in a file")
        return found

    def _said(self, key: str, value: Any) -> tuple[Caption, ...]:
        value = _cell(value)
        if _absent(value):
            return ()
        try:
            return entries(value, key)
        except DataError as error:
            raise BadRowError(str(error)) from error


@functools.lru_cache(1024)
def _speaks(column: str) -> bool:
    """Whether a column holds captions."""
    return CAPTIONS.fullmatch(column) is not None


def _cell(value: Any) -> Any:
    """A list that was written into a cell, as JSON or as pandas writes it; else the value."""
    if isinstance(value, str) and LISTED.match(value):
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(value.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if isinstance(found, list):
                return found
    return value


def _list(value: Any) -> list:
    return [] if _absent(value) else value if isinstance(value, list) else [value]


def _label(value: Any) -> str:
    # pandas makes floats of whole numbers beside an empty cell
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise BadRowError(f"expected a text or a number, found {_shown(value)}")
    return one_line(str(value))


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or (value != value)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _shown(value: Any) -> str:
    return repr(value)[:80]
