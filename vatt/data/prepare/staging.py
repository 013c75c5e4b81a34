"""The unit of preparation: one media file becomes one file of records, and files of records become a shard.

All of it is a function of its arguments, and every file appears whole under its name or not at all, so that a
preparation that was killed goes on where it was, and one that runs on many machines gives the same files.
"""

import errno
import hashlib
import json
import math
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vatt.data.crew import Death
from vatt.data.items import Fault, Row
from vatt.data.media.clip import probe
from vatt.data.prepare.cutting import narrations, neighbours, shifted, windows
from vatt.data.prepare.encode import Part, encode_still
from vatt.data.prepare.plan import PrepareConfig, Unit
from vatt.data.prepare.transcode import transcode
from vatt.data.records import Record, index_line, serialise
from vatt.data.text import words
from vatt.errors import MediaError

TAIL = struct.Struct("<Q8s")  # bytes of the summary before it, and the mark of a whole file
MARK = b"vatt-001"


@dataclass(frozen=True)
class Staged:
    """The records of one medium, in a file: where each lies, and what else there is to say."""

    records: list[dict]  # offset, bytes, index (a line of the index), digest
    words: dict[str, int]
    faults: list[Fault]


def make_unit(unit: Unit, path: Path, config: PrepareConfig, alive: Callable[[], None] = lambda: None) -> None:
    """Prepares the rows of one medium into the file `path`. What is wrong with the medium is told in that file.

    Raises:
      OSError: the file cannot be written.
    """
    with _whole(path) as file:
        try:
            planned = _plan_rows(unit, config)
        except Exception as error:
            error = _media_error(unit, error)
            faults = [Fault(id=row.id, reason=error.kind, detail=error.reason) for row in unit.rows]
            _close(file, Staged([], {}, faults))
            return
        _close(file, _write_records(file, unit, planned, config, alive))


def bury_unit(unit: Unit, path: Path, death: Death) -> None:
    """Writes the file of a medium over which processes died."""
    with _whole(path) as file:
        _close(file, Staged([], {}, [Fault(id=row.id, reason="crashes", detail=death.reason) for row in unit.rows]))


@dataclass(frozen=True)
class _Planned:
    """A record to be: which row of the unit it is of, and its part; None for a still."""

    id: str
    row: Row
    part: Part | None
    has_video: bool
    has_audio: bool


def _plan_rows(unit: Unit, config: PrepareConfig) -> tuple[list[_Planned], list[Fault]]:
    info = probe(unit.rows[0].media)
    planned: list[_Planned] = []
    faults: list[Fault] = []
    for row in unit.rows:
        if info.still:
            planned.append(_Planned(row.id, row, None, True, False))
            continue
        start, end = max(row.start, info.start), min(info.end, math.inf if row.end is None else row.end)
        if end - start < 1 / config.fps:
            detail = f"{row.start:g} to {'its end' if row.end is None else f'{row.end:g} s'} of {info.end:.2f} s"
            faults.append(Fault(id=row.id, reason="too_short", detail=detail))
            continue
        if config.cut == "captions":
            spans = narrations(row.captions, start, end, shortest=config.min_seconds, longest=config.seconds)
            if not spans:
                faults.append(Fault(id=row.id, reason="no_captions", detail="nothing to cut at"))
        else:
            spans = windows(start, end, config.seconds)
        for low, high in spans:
            name = row.id if len(spans) == 1 else f"{row.id}@{low:.3f}-{high:.3f}"
            planned.append(_Planned(name, row, Part(start=low, end=high), info.has_video, info.has_audio))
    return planned, faults


def _write_records(file, unit: Unit, planned: tuple[list[_Planned], list[Fault]], config, alive) -> Staged:
    """Writes records as they are done, and says where they lie in the order of the plan."""
    wanted, faults = planned
    written: dict[int, dict] = {}
    failed: dict[int, Fault] = {}
    spoken: dict[str, set[int]] = {row.id: set() for row in unit.rows}

    def finish(number: int, result: bytes | MediaError) -> None:
        plan = wanted[number]
        if isinstance(result, MediaError):
            failed[number] = Fault(id=plan.id, reason=result.kind, detail=result.reason)
            return
        part, row = plan.part, plan.row
        near = list(range(len(row.captions)))
        captions = tuple(row.captions)
        if part is not None:
            near = neighbours(row.captions, part.start, part.end, config.candidates)
            captions = shifted([captions[index] for index in near], part.start)
        spoken[row.id].update(near)
        record = Record(
            id=plan.id,
            media=result,
            path=str(row.media),
            start=part.start if part else 0.0,
            end=part.end if part else math.inf,
            has_video=plan.has_video,
            has_audio=plan.has_audio,
            still=part is None,
            captions=captions,
            labels=row.labels,
        )
        try:
            data = serialise(record)
            says = json.dumps(record.says(), ensure_ascii=False).encode()
        except Exception as error:  # such as text that no file can hold; it must not end the preparation of the others
            failed[number] = Fault(id=plan.id, reason="unreadable", detail=f"{type(error).__name__}: {error}")
            return
        written[number] = {
            "offset": file.tell(),
            "bytes": len(data),
            "index": index_line(record),
            "digest": hashlib.sha256(says).hexdigest(),
        }
        file.write(data)

    for numbers, result in _encoded(unit, wanted, config, alive):
        for number in numbers:
            finish(number, result)
    counts: Counter = Counter()
    for row in unit.rows:
        for index in spoken[row.id]:
            counts.update(words(row.captions[index].text))
    faults = faults + [failed[number] for number in sorted(failed)]
    return Staged([written[number] for number in sorted(written)], dict(sorted(counts.items())), faults)


def _encoded(unit: Unit, wanted: Sequence[_Planned], config: PrepareConfig, alive):
    """The media of the records, each with the numbers of those that share it."""
    medium = unit.rows[0].media
    stills = [number for number, plan in enumerate(wanted) if plan.part is None]
    if stills:
        try:
            yield stills, encode_still(medium, config.form)
        except Exception as error:
            yield stills, _media_error(unit, error)
    sharing: dict[Part, list[int]] = {}
    for number, plan in enumerate(wanted):
        if plan.part is not None:
            sharing.setdefault(plan.part, []).append(number)
    if not sharing:
        return
    parts = sorted(sharing, key=lambda part: (part.start, part.end))
    streams = {"has_video": wanted[0].has_video, "has_audio": wanted[0].has_audio}
    left = dict(sharing)
    try:
        for part, result in transcode(medium, parts, form=config.form, alive=alive, **streams):
            yield left.pop(part), result
    except Exception as error:
        for numbers in left.values():
            yield numbers, _media_error(unit, error)


def _media_error(unit: Unit, error: Exception) -> MediaError:
    """Whatever a medium leads its readers to is that medium's own fault, and must not stop the others."""
    if isinstance(error, MediaError):
        return error
    kind = "too_large" if isinstance(error, MemoryError) else "unreadable"
    return MediaError(unit.rows[0].media, f"{type(error).__name__}: {error}", kind)


def read_staged(path: Path) -> Staged | None:
    """What `make_unit` wrote; None if it did not, or not to the end."""
    try:
        with open(path, "rb") as file:
            file.seek(-TAIL.size, os.SEEK_END)
            size, mark = TAIL.unpack(file.read(TAIL.size))
            file.seek(-TAIL.size - size, os.SEEK_END)
            summary = json.loads(file.read(size))
    except (FileNotFoundError, ValueError, struct.error):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a seek before the beginning
            return None
        raise
    if mark != MARK:
        return None
    return Staged(summary["records"], summary["words"], [Fault(**fault) for fault in summary["faults"]])


def is_made(path: Path) -> bool:
    """Whether a unit needs no more work. What was missing may be there now, if a disk was away for a while."""
    staged = read_staged(path)
    return staged is not None and not any(fault.reason == "missing" for fault in staged.faults)


def _close(file, staged: Staged) -> None:
    faults = [vars(fault) for fault in staged.faults]
    summary = json.dumps({"records": staged.records, "words": staged.words, "faults": faults}).encode()
    file.write(summary + TAIL.pack(len(summary), MARK))


def make_shard(units: Iterable[Path], data: Path, about: Path) -> None:
    """Joins files of `make_unit`, in order, into an ArrayRecord file `data`, and says in `about` what is in it.

    `about` appears last: a shard is done when it is there.

    Raises:
      OSError: a file cannot be read or written.
    """
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    count, payload, digest = 0, 0, hashlib.sha256()
    counts: Counter = Counter()
    index: list[dict] = []
    faults: list[dict] = []
    temporary = _temporary(data)
    try:
        # Group size 1 is random access; media do not compress further.
        writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
        for unit in units:
            staged = read_staged(unit)
            if staged is None:
                raise OSError(errno.EIO, "a file of records is gone or damaged", str(unit))
            with open(unit, "rb") as file:
                for entry in staged.records:
                    file.seek(entry["offset"])
                    writer.write(file.read(entry["bytes"]))
                    digest.update(bytes.fromhex(entry["digest"]))
                    index.append(entry["index"])
                    payload += entry["bytes"]
                    count += 1
            counts.update(staged.words)
            faults += [vars(fault) for fault in staged.faults]
        writer.close()
        if count:  # a full disk shows in what was written, not in an error
            reader = ArrayRecordReader(str(temporary))
            found = reader.num_records()
            reader.close()
            if found != count:
                raise OSError(errno.EIO, f"{found} of {count} records arrived", str(data))
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, data)
    except OSError:
        raise
    except Exception as error:  # ArrayRecord's own
        raise _disk_error(data, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    summary = {
        "records": count,
        "payload": payload,
        "bytes": data.stat().st_size,
        "digest": digest.hexdigest(),
        "index": index,
        "words": dict(sorted(counts.items())),
        "faults": faults,
    }
    write_whole(about, json.dumps(summary).encode())


def _disk_error(path: Path, error: Exception) -> OSError:
    space = os.statvfs(path.parent)
    full = space.f_bavail * space.f_frsize < 2**20
    return OSError(errno.ENOSPC if full else errno.EIO, "No space left on device" if full else str(error), str(path))


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that it is there whole or not at all, also after a power cut."""
    with _whole(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _whole(path: Path):
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
