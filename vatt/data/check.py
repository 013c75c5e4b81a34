"""The health check of a source: every file decoded or probed, what is wrong with which, and what to do about it."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vatt.data.alike import Signature, alike
from vatt.data.captions import Beside, Caption
from vatt.data.examine import Exam, Task, examine
from vatt.data.faults import FAULTS
from vatt.data.guarded import Lost, each
from vatt.data.items import Listing, Progress, Row, Slice
from vatt.data.listing import list_rows, parse_source
from vatt.data.report import Thumbnails, write_html
from vatt.data.text import words
from vatt.errors import DataError

LIMIT = 120.0  # seconds a file may take to open; decoding it may take twice as long as it lasts, and a minute
TOLERANCE = 0.05  # seconds by which a clip may be longer than the file (vatt.data.media)
OVERHANG = 2.0  # seconds by which a caption may outlast its file: people still read
CAPTIONS = (".srt", ".vtt", ".txt")  # files beside media that hold captions and nothing else
TAG = re.compile(r"</?[a-z][^<>]*>|&[a-z]+;|\{\\[^{}]*\}|https?://\S+", re.IGNORECASE)
NAMED = 3  # captions at fault that a detail names


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
        return json.dumps({**head, "captions": self.captions, **self.facts})


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
    limit: float = LIMIT,
    progress: Progress | None = None,
) -> Report:
    """Examines every file of a source and writes `report.jsonl` and `report.html` into `out`.

    Args:
      source: a folder, manifest, shards or published data set (`vatt.data.listing`).
      out: where to; None is check-NAME in the working directory, or beside the source where that lies within it.
      seconds: how long a clip is.
      workers: processes that read files (0: one a core).
      quick: probe only: finds neither damage, nor silence, nor files that look alike.
      limit: seconds after which a file that does not even open is given up.
      progress: called with (files done, files in all).

    Raises:
      DataError: no such source, nothing in it, or `out` lies within it.
    """
    folder = _place(source, out)
    listing = list_rows(source)
    lines, tasks = _lines(listing, quick)
    signatures: list[Signature | None] = [None] * len(lines)
    with Thumbnails() as thumbnails:
        count = min(workers or len(os.sched_getaffinity(0)), max(1, len(tasks)))
        done = each(examine, [task for _, task, _ in tasks], workers=count, seconds=limit)
        for number, (index, exam) in enumerate(done, 1):
            place, _, rows = tasks[index]
            signatures[place] = _enter(lines[place], rows, exam, seconds)
            if isinstance(exam, Exam):
                thumbnails.add(place, exam.thumbnail)
            if progress:
                progress(number, len(tasks))
        _copies(lines, signatures)
        report = Report(
            source=listing.name, folder=folder, lines=lines, ignored=dict(listing.ignored.most_common()), quick=quick
        )
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / "report.jsonl", (line.json() + "\n" for line in lines))
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


def _lies_within(folder: Path, source: Path) -> bool:
    return folder.resolve().is_relative_to(source.resolve())


def _lines(listing: Listing, quick: bool) -> tuple[list[Line], list[tuple[int, Task, list[Row]]]]:
    """A line for every file, and for everything that was listed as a fault; and what is to be examined."""
    files: dict[str | Slice, list[Row]] = {}
    for row in listing.rows:
        files.setdefault(row.media, []).append(row)
    sizes: dict[int, int] = defaultdict(int)
    size = {media: _size(media) for media in files}
    for number in size.values():
        sizes[number] += 1
    lines: list[Line] = []
    tasks, by_id = [], {}
    for media, rows in files.items():
        line = Line(id=rows[0].id, path=str(media), ids=[row.id for row in rows], split=rows[0].split)
        line.captions = sum(len(row.captions) for row in rows)
        by_id.update(dict.fromkeys(line.ids, line))
        tasks.append(
            (len(lines), Task(media=media, quick=quick, digest=size[media] > 0 and sizes[size[media]] > 1), rows)
        )
        lines.append(line)
    told = defaultdict(set)
    for fault in listing.faults:
        told[fault.id].add(fault.reason)
        line = None if FAULTS[fault.reason].fatal else by_id.get(fault.id)
        if line is None:
            line = Line(id=fault.id, path="", ids=[fault.id])
            lines.append(line)
        line.faults.append((fault.reason, fault.detail))
    beside = _CaptionFiles()
    for place, _, rows in tasks:
        if not lines[place].captions and not lines[place].faults and (name := beside.of(rows[0].media)):
            lines[place].faults.append(("empty_captions", f"{name} holds none"))
    return lines, tasks


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


def _enter(line: Line, rows: Sequence[Row], exam: Exam | Lost, seconds: float) -> Signature | None:
    """Enters what was found in a file into its line; returns its signature if it may be compared with others."""
    if isinstance(exam, Lost):
        line.faults.append(("crashes", exam.reason))
        return None
    line.facts = exam.facts
    line.faults += exam.faults
    if not line.usable:
        return None
    begin, end = exam.facts.get("start", 0.0), exam.facts.get("end")
    short = [row for row in rows if _length(row, begin, end) < seconds - TOLERANCE]
    if short:
        length = _length(short[0], begin, end)
        detail = f"{max(0.0, length):.2f} s of {seconds:.2f} s"
        many = f"{len(short)} of {len(rows)} rows: {short[0].id}: {detail}"
        if len(short) == len(rows):
            line.faults.append(("too_short", detail if len(rows) == 1 else many))
        else:
            line.faults.append(("short_rows", many))
    for row in rows:
        line.faults += caption_faults(row.captions, end)
    return exam.signature


def _length(row: Row, begin: float, end: float | None) -> float:
    """How long the part of a file that a row means runs; of a picture, for ever."""
    if end is None:
        return float("inf")
    return min(end if row.end is None else row.end, end) - max(row.start, begin)


def caption_faults(captions: Iterable[Caption], end: float | None) -> list[tuple[str, str]]:
    """The faults of captions of a file that ends at `end` (seconds; None: never)."""
    found: dict[str, list[str]] = defaultdict(list)
    last = 0.0
    for caption in captions:
        start, stop = caption.start, caption.end
        shown = f"{start:g}-{stop:g} s" if stop < float("inf") else "throughout"
        outside = end is not None and (start >= end or (stop < float("inf") and stop > end + OVERHANG))
        if outside:
            found["caption_times"].append(f"{shown} in a file of {end:.2f} s")
        elif start < 0 or stop < start or start < last:
            found["caption_times"].append(f"{shown} after {last:g} s")
        last = start
        if not caption.text.strip():
            found["empty_captions"].append(shown)
        elif not is_text(caption.text):
            found["not_text"].append(f"{shown}: {caption.text[:40]!r}")
    return [
        (reason, f"{len(at)}: {'; '.join(at[:NAMED])}" + ("; …" if len(at) > NAMED else ""))
        for reason, at in found.items()
    ]


def is_text(text: str) -> bool:
    """Whether a caption says something: it has a letter outside of markup and links."""
    said = words(TAG.sub(" ", text))
    return any(character.isalpha() for word in said for character in word) and "\ufffd" not in text


def _copies(lines: list[Line], signatures: list[Signature | None]) -> None:
    """Enters which files are copies of an earlier one."""
    first: dict[str, int] = {}
    for place, line in enumerate(lines):
        original = first.setdefault(line.facts.get("sha256") or f"{place}", place)
        if original != place:
            line.faults.append(("duplicate", _relation("the same as", lines[original], line)))
            signatures[place] = None
    for original, other in alike(signatures):
        lines[other].faults.append(("near_duplicate", _relation("like", lines[original], lines[other])))


def _relation(how: str, original: Line, copy: Line) -> str:
    across = f" ({original.split}, and this is in {copy.split})" if original.split != copy.split else ""
    return f"{how} {original.id}{across}"


def _replace(path: Path, parts: Iterable[str]) -> None:
    """Writes a file that is whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(parts)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
