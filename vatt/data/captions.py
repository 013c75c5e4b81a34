"""Timed captions: SubRip (.srt) files, and the captions nearest to a clip."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vatt.errors import DataError

# SubRip writes a comma before the milliseconds; many tools write a dot, leave them out, or drop the hours.
INSTANT = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[,.](\d{1,3}))?"
TIMING = re.compile(rf"\s*{INSTANT}\s*-->\s*{INSTANT}(?:\s.*)?", re.ASCII)
MARKUP = re.compile(r"</?[bius]>|</?font[^>]*>|\{\\[^}]*\}", re.IGNORECASE)


@dataclass(frozen=True)
class Caption:
    """What is said from `start` to `end` (seconds from the start of the file). The text is one line."""

    start: float
    end: float
    text: str


def read_srt(path: str | Path) -> tuple[Caption, ...]:
    """Reads the captions of a SubRip file in the order of the file.

    The text may span lines, which are joined by a space; index lines are optional; an empty file has no
    captions.

    Raises:
      DataError: the file cannot be read or is not UTF-8, or a line is where no caption has begun, or a time
        is malformed or runs backwards. The message names the file and the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot read the captions: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the captions are not UTF-8; convert the file, for instance with iconv") from error
    captions: list[Caption] = []
    timing: tuple[float, float] | None = None
    text: list[str] = []

    def finish():
        if timing is not None:
            captions.append(Caption(*timing, " ".join(" ".join(text).split())))

    for number, line in enumerate(lines, 1):
        if "-->" in line:
            finish()
            timing, text = _timing(line, f"{path}, line {number}"), []
        elif not line.strip() or _is_index(lines, number - 1, timing is None):
            continue  # a blank line ends no caption: texts may hold some
        elif timing is None:
            raise DataError(
                f"{path}, line {number}: expected a time such as 00:00:01,000 --> 00:00:02,500, "
                f"found {line.strip()[:60]!r}"
            )
        else:
            text.append(MARKUP.sub("", line))
    finish()
    return tuple(captions)


def _is_index(lines: Sequence[str], at: int, outside: bool) -> bool:
    """Whether a line is the number of a caption, rather than a text that is a number."""
    return lines[at].strip().isdecimal() and (outside or "-->" in "".join(lines[at + 1 : at + 2]))


def _timing(line: str, where: str) -> tuple[float, float]:
    match = TIMING.fullmatch(line)
    if match is None:
        raise DataError(
            f"{where}: malformed time {line.strip()[:60]!r}; it should read as 00:00:01,000 --> 00:00:02,500"
        )
    start, end = _seconds(*match.groups()[:4]), _seconds(*match.groups()[4:])
    if end < start:
        raise DataError(f"{where}: the caption ends ({end:g} s) before it starts ({start:g} s)")
    return start, end


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    milliseconds = int((fraction or "0").ljust(3, "0"))
    return (int(hours or 0) * 3600_000 + int(minutes) * 60_000 + int(seconds) * 1000 + milliseconds) / 1000


def write_srt(path: str | Path, captions: Iterable[Caption]) -> None:
    """Writes captions as UTF-8 SubRip, times rounded to milliseconds."""
    blocks = (
        f"{index}\n{_stamp(caption.start)} --> {_stamp(caption.end)}\n{caption.text}\n"
        for index, caption in enumerate(captions, 1)
    )
    Path(path).write_text("\n".join(blocks), encoding="utf-8", newline="\n")


def _stamp(instant: float) -> str:
    seconds, milliseconds = divmod(round(instant * 1000), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},{milliseconds:03d}"


def nearest(captions: Sequence[Caption], start: float, end: float, k: int) -> list[Caption]:
    """The k captions nearest in time to the centre of a clip, in time order; fewer when there are fewer.

    A caption's distance is that of its interval to the clip's centre, then that of its own centre, then its
    place in the sequence.

    Args:
      captions: the captions of the file.
      start, end: the clip (seconds).
      k: how many.
    """
    centre = (start + end) / 2

    def distance(index: int) -> tuple[float, float, int]:
        caption = captions[index]
        outside = max(caption.start - centre, centre - caption.end, 0.0)
        return outside, abs((caption.start + caption.end) / 2 - centre), index

    chosen = sorted(range(len(captions)), key=distance)[:k]
    return [captions[i] for i in sorted(chosen, key=lambda i: (captions[i].start, i))]
