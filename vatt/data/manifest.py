"""The list of clips to train or evaluate on: media files in a folder, with the captions beside them."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from vatt.data.captions import Caption, read_srt
from vatt.data.demo import make_demo
from vatt.data.media import probe
from vatt.errors import DataError, MediaError

EXTENSIONS = ("mp4", "mkv", "webm", "avi", "mov", "m4v")
NAMED = 5  # how many of the files at fault an error names

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One media file. `id` is its path within its source, with forward slashes.

    Clips can be cut between `start` and `duration` (seconds from the start of the file).
    """

    id: str
    path: str
    duration: float
    has_audio: bool
    captions: tuple[Caption, ...]
    start: float = 0.0

    def room(self, seconds: float) -> tuple[float, float]:
        """The first and the last instant at which a clip of so many seconds can begin."""
        return self.start, max(self.start, self.duration - seconds)


def absolute(source: str) -> str:
    """The same source, whatever the working directory; "" stays."""
    kind, place = _parts(source)
    return f"{kind}{Path(place).expanduser().absolute()}" if source else ""


def _parts(source: str) -> tuple[str, str]:
    """("demo:", DIR/train) of demo media, else ("", the folder): its own name may hold a colon."""
    return ("demo:", source.removeprefix("demo:")) if source.startswith("demo:") else ("", source)


def load_source(source: str, *, seconds: float, threads: int = 0, progress: Progress | None = None) -> list[Item]:
    """The items of a source: a folder, or `demo:DIR/train` or `demo:DIR/heldout`: DIR is filled first.

    Args and errors are those of `scan` and, for demo media, of `make_demo`.
    """
    kind, place = _parts(source)
    if not kind:
        return scan(source, seconds=seconds, threads=threads, progress=progress)
    folder = Path(place)
    if folder.name not in ("train", "heldout"):
        raise DataError(f"{source}: a source of demo media ends in /train or /heldout, such as {source}/train")
    make_demo(folder.parent, progress=progress)
    return scan(folder, seconds=seconds, threads=threads, progress=progress)


def scan(folder: str | Path, *, seconds: float, threads: int = 0, progress: Progress | None = None) -> list[Item]:
    """Finds the media files of a folder and of its subfolders, and their captions (`x.srt` beside `x.mp4`).

    Args:
      folder: where to look.
      seconds: how long a clip is; every file must last as long.
      threads: how many files are read at once (0: one a core).
      progress: called with (files done, files in all).

    Returns:
      The items, sorted by id.

    Raises:
      DataError: no such folder, no media in it, malformed captions, or media that cannot be used: all such
        files are counted, and the first of them named.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix.lower().lstrip(".") in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    }
    if not paths:
        raise DataError(f"{folder}: no media files found ({', '.join(EXTENSIONS)})")
    items, faults = [], []
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        futures = [pool.submit(_item, name, paths[name]) for name in sorted(paths)]
        for done, _ in enumerate(as_completed(futures), 1):
            if progress:
                progress(done, len(futures))
        for future in futures:
            try:
                items.append(future.result())
            except MediaError as error:
                faults.append(str(error))
    if faults:
        raise DataError(
            f"{folder}: {len(faults)} of {len(paths)} media files cannot be used; remove or repair them:\n"
            + _listed(faults)
        )
    short = [
        f"{item.path}: {item.duration - item.start:.2f} s" for item in items if item.duration - item.start < seconds
    ]
    if short:
        raise DataError(
            f"{folder}: {len(short)} of {len(items)} media files are shorter than a clip ({seconds:g} s); "
            "remove them, or shorten the clip (clip.frames, clip.fps, clip.samples):\n" + _listed(short)
        )
    return items


def _item(name: str, path: Path) -> Item:
    info = probe(path)
    captions = path.with_suffix(".srt")
    return Item(
        id=name,
        path=str(path),
        duration=info.duration,
        has_audio=info.has_audio,
        start=info.start,
        captions=read_srt(captions) if captions.exists() else (),
    )


def _listed(lines: Sequence[str]) -> str:
    rest = len(lines) - NAMED
    return "\n".join([f"  {line}" for line in lines[:NAMED]] + ([f"  and {rest} more"] if rest > 0 else []))
