"""WebDataset shards: tar files in which the members of a sample share a key.

    0001.mp4 0001.txt 0001.cls      two samples, 0001 and 0002: a medium,
    0002.mp4 0002.srt               what is said of it, its label

The key is a member's path up to the first dot of its name. Of several media video is taken before sound, and sound
before a picture. Captions lie in .srt, .vtt, .json or .txt, as beside a file. Only headers and captions are read: media
are read in place later, so a shard must not be compressed.
"""

import glob
import itertools
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from vatt.data.captions import Beside, Caption, first_captions
from vatt.data.captions.encoding import LARGEST
from vatt.data.items import PICTURES, SOUND, VIDEO, Fault, Listing, Progress, Row, Slice
from vatt.data.listing.folder import extension, find, tolerant
from vatt.data.pool import in_parallel
from vatt.errors import DataError

BRACES = re.compile(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{},]*(?:,[^{},]*)+))\}")
MOST = 1_000_000  # shards
RANK = {extension: rank for rank, kind in enumerate((VIDEO, SOUND, PICTURES)) for extension in kind}
SAID = ("srt", "vtt", "json", "txt")
LONGEST_LABEL = 4096  # bytes
LONGEST_HEADER = 1 << 20  # bytes that may tell a member's name and facts
HEADERS = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE
)  # fmt: skip


def has_only_tars(folder: str) -> bool:
    return bool(_tars_of(folder)) and not find(folder)[0]


def list_tars(place: str, *, language: str = "", progress: Progress | None = None) -> Listing:
    """The samples of shards, in the order of the shards and of the media in them. An id is SHARD/KEY.EXTENSION.

    A member that leaves the archive (an absolute path, `..`), a link or a device is a fault "outside"; a shard that is
    missing or ends early is a fault, and what is whole in it is used.

    Args:
      place: a shard, a folder of them, or several in braces: shards-{000..010}.tar, {a,b}.tar.
      language: of the captions wanted; see `vatt.data.captions.beside`.
      progress: called with (shards read, shards in all).

    Raises:
      DataError: there are no such shards, or the only one cannot be read.
    """
    paths = _tars_of(place) if os.path.isdir(place) else list(expand(place))
    if not any(os.path.exists(path) for path in paths):
        raise DataError(f"{place}: no such shards")
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    names = [os.path.relpath(os.path.abspath(path), common).replace(os.sep, "/") for path in paths]
    jobs = list(zip(paths, names, strict=True))
    shards = in_parallel(lambda job: _list(*job, language=language), jobs, progress=progress)
    rows = [row for found, _ in shards for row in found]
    faults = [fault for _, found in shards for fault in found]
    return Listing(name=place, rows=rows, faults=faults)


def _tars_of(folder: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(folder), "**", "*.tar"), recursive=True))


def expand(pattern: str) -> Iterator[str]:
    """`a-{08..10}{x,y}` gives a-08x, a-08y, a-09x ... Raises DataError if there are more than a million."""
    if os.path.exists(pattern):
        yield pattern
        return
    parts, choices, total, end = [], [], 1, 0
    for match in BRACES.finditer(pattern):
        first, last, listed = match.groups()
        if listed is not None:
            choice = listed.split(",")
        else:
            width = len(first) if first.startswith("0") else 0
            choice = range(int(first), int(last) + 1)
            choice = [f"{i:0{width}d}" for i in choice] if len(choice) <= MOST else choice
        total *= len(choice)
        if not 0 < total <= MOST:
            raise DataError(f"{pattern}: names {total} shards; it should be 1 to {MOST}")
        parts.append(pattern[end : match.start()])
        choices.append(choice)
        end = match.end()
    for chosen in itertools.product(*choices):
        yield "".join(itertools.chain.from_iterable(zip(parts, chosen, strict=True))) + pattern[end:]


@dataclass(slots=True)
class Sample:
    """The members of a shard with one key."""

    media: list[Slice] = field(default_factory=list)
    said: dict[str, Slice] = field(default_factory=dict)  # by the name as if beside KEY
    label: Slice | None = None


def _list(path: str, name: str, language: str) -> tuple[list[Row], list[Fault]]:
    faults: list[Fault] = []
    samples: dict[str, Sample] = {}
    for member in members(path, name, faults):
        folder, slash, base = member.name.rpartition("/")
        stem, _, rest = base.partition(".")
        sample = samples.setdefault(folder + slash + stem, Sample())
        kind = extension(base)
        if kind in RANK:
            sample.media.append(member)
        elif kind == "cls":
            sample.label = member
        elif kind in SAID:
            sample.said[f"{stem}.{rest}"] = member
    rows = []
    for key, sample in samples.items():
        if sample.media:
            media = min(sample.media, key=lambda m: (RANK[extension(m.name)], m.name))
            id = f"{name}/{key}.{extension(media.name)}"
            captions = _captions(sample, id, key.rpartition("/")[2], language, faults)
            rows.append(Row(id=id, media=media, captions=captions, labels=_labels(sample, id, faults)))
    return rows, faults


def _captions(sample: Sample, id: str, stem: str, language: str, faults: list[Fault]) -> tuple[Caption, ...]:
    def read(candidate: str) -> tuple[bytes, str]:
        member = sample.said[candidate]
        if member.size > LARGEST:
            raise DataError(f"{member}: larger than {LARGEST >> 20} MiB, which captions never are")
        return member.read(), str(member)

    return tolerant(lambda bad: first_captions(Beside(sample.said, language).of(stem), read, bad), id, faults)


def _labels(sample: Sample, id: str, faults: list[Fault]) -> tuple[str, ...]:
    if sample.label is None:
        return ()
    try:
        if sample.label.size > LONGEST_LABEL:
            raise ValueError(f"{sample.label.size} bytes long")
        return (sample.label.read().decode().strip(),)
    except (ValueError, OSError) as error:
        faults.append(Fault(id=id, reason="bad_label", detail=f"{sample.label}: {error}"))
        return ()


class Member(tarfile.TarInfo):
    """A header that says how long it is before tarfile believes it, which reads as much at once as it says."""

    def _proc_member(self, tarfile):  # where every Python reads on by the size; newer ones pass over frombuf
        if self.type in HEADERS and not 0 <= self.size <= LONGEST_HEADER:
            raise HugeHeaderError(f"a header says that it is {self.size} bytes long, which none is")
        return super()._proc_member(tarfile)  # pyright: ignore[reportAttributeAccessIssue]


class HugeHeaderError(tarfile.TarError):
    """A header that is not to be read."""


def members(path: str, name: str, faults: list[Fault]) -> Iterator[Slice]:
    """The files in a tar whose data are all there. Adds to `faults` what cannot be used."""

    def fault(reason: str, detail: str, member: str = ""):
        faults.append(Fault(id=f"{name}/{member}" if member else name, reason=reason, detail=f"{path}: {detail}"))

    read = 0
    try:
        size = os.path.getsize(path)
        with tarfile.open(path, "r:", tarinfo=Member) as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]; kept for extraction only
                shown = member.name.encode("utf-8", "backslashreplace").decode()
                if member.offset < read or member.size < 0:
                    return fault("unreadable", f"its headers run in a circle at byte {member.offset}")
                read = member.offset + tarfile.BLOCKSIZE
                if member.isdir():
                    continue
                if shown.startswith("/") or ".." in shown.split("/") or "\0" in shown:
                    fault("outside", f"member {shown!r} leaves the archive", shown)
                elif not member.isreg():
                    fault("outside", f"member {shown!r} is a link or a device, not a file", shown)
                elif member.issparse():
                    fault("unreadable", f"member {shown!r} is stored with holes; pack it without --sparse", shown)
                elif shown != member.name:
                    fault("bad_name", f"the name of member {shown!r} is not UTF-8", shown)
                elif member.offset_data + member.size > size:
                    return fault("truncated", f"ends within member {shown!r}", shown)
                elif not shown.rpartition("/")[2].startswith("."):
                    yield Slice(path, member.offset_data, member.size, shown.removeprefix("./"))
            with open(path, "rb") as file:  # a damaged header ends the walk as the end does
                file.seek(tar.offset)
                block = file.read(tarfile.BLOCKSIZE)
                if 0 < len(block) < tarfile.BLOCKSIZE:
                    fault("truncated", f"ends within the header at byte {tar.offset}")
                elif block.strip(b"\0"):
                    fault("unreadable", f"damaged at byte {tar.offset}; what comes behind is lost")
    except FileNotFoundError:
        fault("missing", "no such shard")
    except OSError as error:
        fault("unreadable", str(error.strerror or error))
    except (HugeHeaderError, MemoryError, IndexError) as error:  # the last: a list of holes that ends early
        fault("unreadable", f"damaged: {error or 'a header asks for more memory than there is'}")
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError) as error:
        if _is_compressed(path):
            fault("unreadable", "compressed; unpack it first (gunzip, unzstd): media are read in place")
        else:
            fault("truncated" if read else "unreadable", str(error))


def _is_compressed(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
