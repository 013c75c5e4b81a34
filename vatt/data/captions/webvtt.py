"""WebVTT (.vtt) files, as yt-dlp, ffmpeg, Whisper and web players write them."""

import itertools
import re

from vatt.data.captions.bad import Bad, check_count
from vatt.data.captions.caption import Caption, one_line
from vatt.data.captions.markup import plain
from vatt.data.captions.rolling import Cue, to_captions
from vatt.data.captions.subrip import read_timing
from vatt.errors import DataError

WORD_TIME = re.compile(r"<[\d:.]+>")
BLOCK = re.compile(r"(NOTE|STYLE|REGION)(\s|$)")


def parse_vtt(content: str, where: str, bad: Bad) -> tuple[Caption, ...]:
    """The captions of a WebVTT file's content, in the order of the file.

    Tags are removed and entities (`&amp;`) written out; comments, styles, regions and cue identifiers are
    passed over; lines that roll are undone (`rolling`).

    Args:
      content: the file's text.
      where: names the file in errors.
      bad: gathers cues whose time is malformed or runs backwards, and text that has none: that which follows a blank
        line in a cue, as the specification has it. The messages name the file and the line.

    Raises:
      DataError: the file does not begin with WEBVTT.
    """
    blocks = _blocks(content)
    number, head = next(blocks, (1, [""]))
    if not re.match(r"WEBVTT(\s|$)", head[0]):
        raise DataError(f"{where}, line {number}: a WebVTT file begins with WEBVTT, found {head[0].strip()[:60]!r}")
    cues: list[Cue] = []
    # Some writers leave out the blank line that should end the header.
    for first, lines in itertools.chain([(number, head)], blocks):
        if BLOCK.match(lines[0]):
            continue
        at = [i for i, line in enumerate(lines) if "-->" in line]
        # Without a time a block is no cue: the specification passes over it, but text must not be lost in silence.
        if not at:
            if first != number:
                expected = "a time such as 00:01.000 --> 00:02.500"
                bad.add(DataError(f"{where}, line {first}: expected {expected}, found {lines[0].strip()[:60]!r}"))
            continue
        # A line of spaces may be meant to end a cue: then the next one's number and times stand in the same block.
        for i, end in zip(at, [*(_before_number(lines, j) for j in at[1:]), len(lines)], strict=True):
            try:
                cues.append(_cue(read_timing(lines[i], f"{where}, line {first + i}"), lines[i + 1 : end]))
            except DataError as error:
                bad.add(error)
            check_count(len(cues) + bad.count, where)
    return to_captions(cues)


def _before_number(lines: list[str], at: int) -> int:
    """Where the cue before ends, if the next one's time stands at `at`."""
    return at - 1 if lines[at - 1].strip().isdecimal() else at


def _cue(timing: tuple[float, float], lines: list[str]) -> Cue:
    shown = [(one_line(plain(line)), WORD_TIME.search(line)) for line in lines]
    shown = [(text, timed) for text, timed in shown if text]
    worded = next((i for i, (_, timed) in enumerate(shown) if timed), None)
    return Cue(*timing, tuple(text for text, _ in shown), worded)


def _blocks(content: str):
    """Yields (number of the first line, lines). Blocks end at empty lines; a line of spaces is a line of a cue."""
    block: list[str] = []
    first = 1
    for number, line in enumerate([*content.split("\n"), ""], 1):
        if line:
            first = first if block else number
            block.append(line)
        elif block:
            yield first, block
            block = []
