"""What the builders share: finding and reading annotation files, and matching media files to what those name."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vatt.data.captions import Caption
from vatt.data.items import Fault, Listing, Row
from vatt.errors import DataError


def find(folder: Path, *names: str, get: str) -> Path:
    """The first of the annotation files that lies in the folder; a name may hold `*`, if one file alone matches.

    Args:
      folder: where the user's copy lies.
      names: where the file may lie in it, the official place first.
      get: where it is to be had from.

    Raises:
      DataError: no such folder, none of the files, or several that match one name.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    path = find_any(folder, *names)
    if path is None:
        raise DataError(f"{folder}: no {names[0]} there; looked for {', '.join(names)}. It is to be had from {get}")
    return path


def find_any(folder: Path, *names: str) -> Path | None:
    """As `find`, of files that need not be there."""
    for name in names:
        found = sorted(folder.glob(name)) if "*" in name else [folder / name]
        if len(found) > 1:
            listed = ", ".join(path.relative_to(folder).as_posix() for path in found[:5])
            raise DataError(f"{folder}: expected one file {name}, found {listed}; keep one edition in a folder")
        if found and found[0].is_file():
            return found[0]
    return None


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """(where, line) of each line of a text file that is not blank. Raises DataError if it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}, line {number}", line.strip()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8; download it again, or convert it with iconv") from error


def read_csv(
    path: Path, needed: Sequence[str], *, header: bool = True, comment: str = "\0"
) -> Iterator[tuple[str, dict[str, str]]]:
    """(where, {column: value}) of each row of a CSV file.

    Args:
      path: the file; fields are separated by commas, and a space after a comma is no part of the next.
      needed: the columns that must be there. Without a header, these are the first columns, in their order.
      header: whether the first line names the columns.
      comment: what a line that is no row begins with.

    Raises:
      DataError: the file cannot be read, lacks a column (those found are named), or has a malformed row.
    """
    columns = None if header else list(needed)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            for fields in reader:
                where = f"{path}, line {reader.line_num}"
                if not "".join(fields).strip() or fields[0].startswith(comment):
                    continue
                if columns is None:
                    columns = [field.strip() for field in fields]
                    lacking = [name for name in needed if name not in columns]
                    if lacking:
                        raise DataError(f"{path}: no column {', '.join(lacking)}; it has {', '.join(columns)}")
                elif len(fields) < len(columns) or (header and len(fields) > len(columns)):
                    raise DataError(f"{where}: {len(fields)} fields, expected {len(columns)} ({', '.join(columns)})")
                else:
                    yield where, dict(zip(columns, fields, strict=False))
            if columns is None:
                raise DataError(f"{path}: is empty; expected the columns {', '.join(needed)}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8; download it again, or convert it with iconv") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: malformed: {error}") from error


def read_json(path: Path, *needed: str) -> dict[str, Any]:
    """The object in a JSON file, with the keys that must be there. Raises DataError if it cannot be that."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON: {error.msg}; download it again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8; download it again") from error
    lacking = [key for key in needed if not isinstance(value, dict) or key not in value]
    if lacking:
        raise DataError(f"{path}: no {', '.join(lacking)} in it; is it the file of another data set?")
    return value


def number(text: Any, where: str, what: str) -> float:
    """A field that must be a number, such as a time in seconds. Raises DataError otherwise, or if it is negative."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value < float("inf"):
        raise DataError(f"{where}: {what} is {text!r}; expected a number from 0")
    return value


def throughout(texts: Iterable[str]) -> tuple[Caption, ...]:
    """Captions that hold for the whole of a clip; texts become one line each, empty ones are left out."""
    lines = (" ".join(text.split()) for text in texts)
    return tuple(Caption(0.0, float("inf"), line) for line in lines if line)


def clip_stems(video: str, start: float, end: float | None = None) -> list[str]:
    """What downloaders call a clip that they cut from a YouTube video, without the extension, the commonest first.

    abc_000030_000040 (Kinetics), abc_000030 (VGGSound), abc_30, abc_30.000, abc_30_40, abc_30000_40000 (milliseconds),
    abc_30.000_40.000.
    """
    pairs = [(f"{round(start):06d}", None), (f"{start:g}", None), (f"{start:.3f}", None), (f"{start:.1f}", None)]
    if end is not None:
        pairs = [
            (f"{round(start):06d}", f"{round(end):06d}"),
            *pairs,
            (f"{start:g}", f"{end:g}"),
            (f"{round(start * 1000)}", f"{round(end * 1000)}"),
            (f"{start:.3f}", f"{end:.3f}"),
        ]
    return ["_".join(filter(None, (video, *pair))) for pair in pairs]


class Catalogue:
    """The rows of one split, in the order in which they are added, and what is missing of them.

    name: of the data set.
    extensions: of the files meant; of two that differ in it alone, the one named first here is taken.
    depth: how many parts of a file's path tell it from others (2: files of one name lie in several classes).
    prefer: a file below a folder that begins so is taken before another of the same name.
    """

    def __init__(
        self, name: str, folder: Path, split: str, extensions: Sequence[str], *, depth: int = 1, prefer: str = "\0"
    ):
        self.name, self.folder, self.split = f"{name}:{folder}@{split}", folder, split
        self.files = _index(folder, extensions, depth, prefer)
        self.rows: dict[str, Row] = {}
        self.faults: dict[str, Fault] = {}

    def add(
        self,
        id: str,
        stems: Sequence[str],
        *,
        start: float = 0.0,
        end: float | None = None,
        captions: Sequence[Caption] = (),
        labels: Sequence[str] = (),
    ) -> None:
        """Adds a row with the first file there is, or a fault. A row named again gains the captions and labels, even if
        there is no file of the names given now.

        Args:
          id: unique among the rows.
          stems: what its file may be called, without the extension.
          start, end, captions, labels: as in Row.
        """
        path = next((self.files[stem] for stem in stems if stem in self.files), None)
        if id in self.rows:
            old = self.rows[id]
            if captions is not old.captions:
                captions = tuple(dict.fromkeys((*old.captions, *captions)))
            self.rows[id] = replace(old, captions=captions, labels=tuple(dict.fromkeys((*old.labels, *labels))))
        elif path is None:
            self.faults[id] = Fault(id=id, reason="missing", detail=f"no {stems[0]}.* below {self.folder}")
        else:
            self.faults.pop(id, None)
            self.rows[id] = Row(
                id=id, media=path, start=start, end=end, captions=captions, labels=tuple(labels), split=self.split
            )

    def listing(self) -> Listing:
        return Listing(name=self.name, rows=list(self.rows.values()), faults=list(self.faults.values()))


def check_split(name: str, split: str, splits: Sequence[str]) -> None:
    """Raises DataError if there is no such split."""
    if split not in splits:
        raise DataError(f"{name} has no split {split!r}; it has {', '.join(splits)}")


def _index(folder: Path, extensions: Sequence[str], depth: int, prefer: str) -> dict[str, str]:
    """The media files below a folder, by the last parts of their paths, without the extension. One walk, no stat."""
    ranks = {f".{extension}": rank for rank, extension in enumerate(extensions)}
    best: dict[str, tuple[bool, int, str]] = {}
    seen = set()

    def fail(error: OSError):
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for place, folders, names in os.walk(folder.absolute(), onerror=fail, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        parents = Path(place).parts
        other = not any(part.startswith(prefer) for part in parents)
        for name in names:
            stem, extension = os.path.splitext(name)
            rank = ranks.get(extension.lower())
            if rank is None or name.startswith("."):
                continue
            key = "/".join((*parents[len(parents) - depth + 1 :], stem))
            file = (other, rank, os.path.join(place, name))
            best[key] = min(best.get(key, file), file)
    return {key: file[2] for key, file in best.items()}
