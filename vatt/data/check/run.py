"""The health check of a source: every file decoded or probed, what is wrong with which, and what to do about it."""

import json
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vatt.data.captions import Beside
from vatt.data.captions.faults import caption_faults
from vatt.data.check.alike import Signature, alike
from vatt.data.check.examine import Exam, Task, examine
from vatt.data.check.report import Thumbnails, write_html
from vatt.data.crew import Crew, Death
from vatt.data.faults import FAULTS
from vatt.data.items import Listing, Progress, Row, Slice, Source
from vatt.data.listing.rows import list_rows, parse_source
from vatt.data.sources import open_records
from vatt.errors import DataError, MediaError

PATIENCE = 120.0  # seconds without a sign of life after which reading a file is given up
TOLERANCE = 1e-3  # seconds; facts are rounded to milliseconds
CAPTIONS = (".srt", ".vtt", ".txt")  # files beside media that hold captions and nothing else


@dataclass(kw_only=True)
class Line:
    """What is reported of one file: a line of report.jsonl.

    id: of its row, or of the first of its rows. ids: of all. faults: (key of FAULTS, detail).
    """

    id: str
    path: str
    ids: list[str] = field(default_factory=list)
    split: str = ""
    captions: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        return not any(FAULTS[reason].fatal for reason, _ in self.faults)

    def json(self) -> str:
        described = [{"reason": reason, "detail": detail} for reason, detail in self.faults]
        ids = {"rows": self.ids} if len(self.ids) > 1 else {}
        split = {"split": self.split} if self.split else {}
        head = {"id": self.id, "path": self.path, **ids, **split, "usable": self.usable, "faults": described}
        return json.dumps({**head, "captions": self.captions, **self.facts}, allow_nan=False)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a check found. kinds: key of FAULTS -> the lines that have it, in the order of FAULTS."""

    source: str
    folder: Path
    lines: list[Line]
    ignored: dict[str, int] = field(default_factory=dict)
    quick: bool = False

    @property
    def usable(self) -> int:
        return sum(line.usable for line in self.lines)

    @property
    def kinds(self) -> dict[str, list[tuple[Line, str]]]:
        found = defaultdict(list)
        for line in self.lines:
            for reason, detail in line.faults:
                if not found[reason] or found[reason][-1][0] is not line:
                    found[reason].append((line, detail))
        return {reason: found[reason] for reason in FAULTS if reason in found}


def check(
    source: str,
    out: str | Path | None = None,
    *,
    seconds: float,
    workers: int = 0,
    quick: bool = False,
    patience: float = PATIENCE,
    progress: Progress | None = None,
) -> Report:
    """Examines every file of a source and writes `report.jsonl` and `report.html` into `out`.

    Args:
      source: a folder, manifest, shards or published data set (`vatt.data.listing.rows`).
      out: where to; None is check-NAME in the working directory, or beside the source where that lies within it.
      seconds: how long a clip is.
      workers: processes that read files (0: one a core).
      quick: probe only: finds neither damage, nor silence, nor files that look alike.
      patience: seconds without a sign of life after which the process that reads a file is given up.
      progress: called with (files done, files in all), and so again while those that look alike are sought.

    Raises:
      DataError: no such source, nothing in it, or `out` lies within it or cannot be written to.
    """
    folder = _place(source, out)
    records = open_records(source, 0.0)
    files = _Records(records) if records is not None else _Files(list_rows(source))
    timed = records is None
    ordered = timed and parse_source(source).kind in ("folder", "tars", "demo")  # a caption file each
    lines = files.lines
    _try_writing(folder)  # hours of decoding should not be lost to a folder that takes nothing
    signatures: dict[int, Signature] = {}
    count = min(workers or len(os.sched_getaffinity(0)), max(1, len(files)))
    with Thumbnails() as thumbnails, Crew(examine, count=count, patience=patience) as crew:
        for done, (task, result) in enumerate(crew.run(files.tasks(quick)), 1):
            exam = Exam(faults=[("crashes", result.reason)]) if isinstance(result, Death) else result
            _enter(lines[task.place], files.rows[task.place], exam, seconds, timed=timed, ordered=ordered)
            if exam.signature is not None and lines[task.place].usable:
                signatures[task.place] = exam.signature
            thumbnails.add(task.place, exam.thumbnail)
            if progress:
                progress(done, len(files))
        _copies(lines, signatures)
        report = Report(source=files.name, folder=folder, lines=lines, ignored=files.ignored, quick=quick)
        folder.mkdir(parents=True, exist_ok=True)
        _write_lines(report)  # what is known, before a search that may take long
        _look_alikes(lines, signatures, progress)
        _write_lines(report)
        _replace(folder / "report.html", write_html(report, thumbnails))
    return report


def _place(source: str, out: str | Path | None) -> Path:
    """The folder of the report, never within the source."""
    parsed = parse_source(source)
    place = Path(parsed.place).expanduser().absolute()
    inside = place if place.is_dir() else None
    if out is not None:
        folder = Path(out).expanduser().absolute()
        if inside and _lies_within(folder, inside):
            raise DataError(f"{folder}: lies within the source, which is only read; choose another folder with -o")
        return folder
    name = re.sub(r"[^\w.-]+", "-", place.resolve().name).strip("-.") or "source"
    folder = Path.cwd() / f"check-{name}"
    return place.resolve().parent / folder.name if inside and _lies_within(folder, inside) else folder


def _try_writing(folder: Path) -> None:
    """Raises DataError if no file can be written into a folder; leaves none behind that was not there."""
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        if made:
            folder.rmdir()
    except OSError as error:
        raise DataError(f"{folder}: cannot write the report there: {error.strerror}; choose with -o") from error


def _lies_within(folder: Path, source: Path) -> bool:
    return folder.resolve().is_relative_to(source.resolve())


class _Files:
    """The files of a listing. lines: one for each, and for everything that was listed as a fault. rows: by line."""

    def __init__(self, listing: Listing):
        self.name = listing.name
        self.ignored = dict(listing.ignored.most_common())
        files: dict[str | Slice, list[Row]] = {}
        for row in listing.rows:
            files.setdefault(row.media, []).append(row)
        self.media = list(files)
        self.rows = list(files.values())
        self.lines = [
            Line(
                id=rows[0].id,
                path=str(media),
                ids=[row.id for row in rows],
                split=rows[0].split,
                captions=sum(len(row.captions) for row in rows),
            )
            for media, rows in files.items()
        ]
        by_id = {name: line for line in self.lines for name in line.ids}
        for fault in listing.faults:
            line = None if FAULTS[fault.reason].fatal else by_id.get(fault.id)
            if line is None:
                line = Line(id=fault.id, path="", ids=[fault.id])
                self.lines.append(line)
            line.faults.append((fault.reason, fault.detail))
        beside = _CaptionFiles()
        for line, media in zip(self.lines, self.media, strict=False):  # the lines of faults come behind
            if not line.captions and not line.faults and (name := beside.of(media)):
                line.faults.append(("empty_captions", f"{name} holds none"))

    def __len__(self) -> int:
        return len(self.media)

    def tasks(self, quick: bool) -> Iterator[Task]:
        sizes = [_size(media) for media in self.media]
        shared = Counter(sizes)
        for place, (media, size) in enumerate(zip(self.media, sizes, strict=True)):
            yield Task(place=place, media=media, quick=quick, digest=size > 0 and shared[size] > 1)


class _Records:
    """The records of a prepared set, each a file of its own; they are read as they are examined."""

    def __init__(self, source: Source):
        self.name = source.name
        self.ignored: dict[str, int] = {}
        self._source = source
        self.lines: list[Line] = []
        self.rows: list[list[Row]] = []

    def __len__(self) -> int:
        return len(self._source)

    def tasks(self, quick: bool) -> Iterator[Task]:
        for place in range(len(self._source)):
            try:
                item = self._source[place]
            except MediaError as error:
                self.lines.append(Line(id=f"record {place}", path=error.path, faults=[(error.kind, error.reason)]))
                self.rows.append([])
                continue
            self.lines.append(Line(id=item.id, path="", ids=[item.id], captions=len(item.captions)))
            self.rows.append([Row(id=item.id, media="", captions=item.captions)])
            yield Task(place=place, media=item.media, quick=quick, digest=True)


class _CaptionFiles:
    """Finds the caption file beside a medium; a folder is listed once."""

    def __init__(self):
        self.folders: dict[str, Beside] = {}

    def of(self, media: str | Slice) -> str:
        if isinstance(media, Slice):
            return ""
        folder, name = os.path.split(media)
        if folder not in self.folders:
            try:
                self.folders[folder] = Beside(os.listdir(folder))
            except OSError:
                self.folders[folder] = Beside(())
        return next((c for c in self.folders[folder].of(name) if c.lower().endswith(CAPTIONS)), "")


def _size(media: str | Slice) -> int:
    if isinstance(media, Slice):
        return media.size
    try:
        return os.path.getsize(media)
    except OSError:
        return -1


def _enter(line: Line, rows: Sequence[Row], exam: Exam, seconds: float, *, timed: bool, ordered: bool) -> None:
    """Enters what was found in a file, and how its rows fit it, into its line."""
    line.facts = exam.facts
    line.faults += exam.faults
    if not line.usable:
        return
    begin, end = exam.facts.get("start", 0.0), exam.facts.get("end")
    short = [row for row in rows if _length(row, begin, end) < seconds - TOLERANCE]
    if short:
        detail = f"{max(0.0, _length(short[0], begin, end)):.2f} s of {seconds:.2f} s"
        if len(rows) > 1:
            detail = f"{len(short)} of {len(rows)} rows: {short[0].id}: {detail}"
        line.faults.append(("too_short" if len(short) == len(rows) else "short_rows", detail))
    for row in rows:
        line.faults += caption_faults(row.captions, end, timed=timed, ordered=ordered)


def _length(row: Row, begin: float, end: float | None) -> float:
    """How long the part of a file that a row means runs; of a picture, for ever."""
    if end is None:
        return float("inf")
    return min(end if row.end is None else row.end, end) - max(row.start, begin)


def _copies(lines: list[Line], signatures: dict[int, Signature]) -> None:
    """Enters which files are copies of an earlier one, and takes their signatures away."""
    first: dict[str, int] = {}
    for place, line in enumerate(lines):
        original = first.setdefault(line.facts.get("sha256") or f"{place}", place)
        if original != place:
            line.faults.append(("duplicate", _relation("the same as", lines[original], line)))
            signatures.pop(place, None)


def _look_alikes(lines: list[Line], signatures: dict[int, Signature], progress: Progress | None) -> None:
    """Enters which files look and sound like an earlier one."""
    for original, other in alike(signatures, progress):
        lines[other].faults.append(("near_duplicate", _relation("like", lines[original], lines[other])))


def _relation(how: str, original: Line, copy: Line) -> str:
    across = f" ({original.split}, and this is in {copy.split})" if original.split != copy.split else ""
    return f"{how} {original.id}{across}"


def _write_lines(report: Report) -> None:
    _replace(report.folder / "report.jsonl", (line.json() + "\n" for line in report.lines))


def _replace(path: Path, parts: Iterable[str]) -> None:
    """Writes a file that is whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(parts)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
