"""SubRip (.srt) files."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from vatt.data.captions.bad import Bad, check_count
from vatt.data.captions.caption import Caption, one_line
from vatt.data.captions.encoding import read_bytes, to_text
from vatt.data.captions.markup import plain
from vatt.data.captions.rolling import Cue, to_captions
from vatt.errors import DataError

# SubRip writes a comma before the milliseconds; many tools write a dot, leave them out, or drop the hours.
INSTANT = r"(?:(\d{1,5}):)?(\d{1,2}):(\d{1,2})(?:[,.](\d{1,9}))?"
TIMING = re.compile(rf"\s*{INSTANT}\s*-->\s*{INSTANT}(?:\s.*)?", re.ASCII)


def read_srt(path: str | Path) -> tuple[Caption, ...]:
    """Reads the captions of a SubRip file in the order of the file.

    The text may span lines, which are joined by a space; index lines are optional; an empty file has no
    captions; lines that roll are undone (`rolling`).

    Raises:
      DataError: the file cannot be read or is not UTF-8, or a line is where no caption has begun, or a time
        is malformed or runs backwards. The message names the file and the line.
    """
    bad = Bad()
    captions = parse_srt(to_text(read_bytes(path), str(path)), str(path), bad)
    bad.refuse()
    return captions


def parse_srt(content: str, where: str, bad: Bad) -> tuple[Caption, ...]:
    """The captions of a SubRip file's content, as of `read_srt`.

    Args:
      content: the file's text.
      where: names the file in errors.
      bad: gathers what `read_srt` raises; the text below a time that is bad is left out with it.
    """
    lines = content.split("\n")
    cues: list[Cue] = []
    timing: tuple[float, float] | None = None
    text: list[str] = []
    passing = False  # over the text of a caption that was found bad

    def finish():
        if timing is not None:
            cues.append(Cue(*timing, tuple(line for line in map(one_line, text) if line)))

    for number, line in enumerate(lines, 1):
        if "-->" in line:
            finish()
            check_count(len(cues) + bad.count + 1, where)
            timing, text, passing = None, [], False
            try:
                timing = read_timing(line, f"{where}, line {number}")
            except DataError as error:
                bad.add(error)
                passing = True
        elif not line.strip() or _is_index(lines, number - 1, timing is None):
            continue  # a blank line ends no caption: texts may hold some
        elif timing is not None:
            text.append(plain(line))
        elif not passing:
            expected = "a time such as 00:00:01,000 --> 00:00:02,500"
            bad.add(DataError(f"{where}, line {number}: expected {expected}, found {line.strip()[:60]!r}"))
            passing = True
    finish()
    return to_captions(cues)


def _is_index(lines: Sequence[str], at: int, outside: bool) -> bool:
    """Whether a line is the number of a caption, rather than a text that is a number."""
    return lines[at].strip().isdecimal() and (outside or "-->" in "".join(lines[at + 1 : at + 2]))


def read_timing(line: str, where: str) -> tuple[float, float]:
    """Start and end of `00:00:01,000 --> 00:00:02,500` (seconds), whatever stands behind. Raises DataError."""
    match = TIMING.fullmatch(line)
    if match is None:
        raise DataError(
            f"{where}: malformed time {line.strip()[:60]!r}; it should read as 00:00:01,000 --> 00:00:02,500"
        )
    start, end = seconds(*match.groups()[:4]), seconds(*match.groups()[4:])
    if end < start:
        raise DataError(f"{where}: the caption ends ({end:g} s) before it starts ({start:g} s)")
    return start, end


def seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    """The groups of INSTANT, to milliseconds."""
    milliseconds = int((fraction or "0")[:3].ljust(3, "0"))
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
