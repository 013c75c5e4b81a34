"""Captions that roll over the screen, made into captions that each say a line once.

YouTube's automatic captions show two lines. A line appears at the bottom as it is spoken; it then moves up and stays,
spoken no more, while the next one is; and between them stands a cue of 10 ms that only repeats:

    00:00:00.160 --> 00:00:02.310          [blank]                 / hello<00:00:00.480><c> and</c>...
    00:00:02.310 --> 00:00:02.320          hello and welcome       / [blank]
    00:00:02.320 --> 00:00:04.950          hello and welcome       / to<00:00:02.560><c> my</c>...

Taken as they are, every line would come three times, mostly at the wrong instant. The same text comes as .srt when
yt-dlp has converted it, and television's roll-up captions do alike with three lines.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from vatt.data.captions.caption import Caption, one_line

PAUSE = 1.0  # seconds between two cues, above which a repeat says nothing
SCREEN = 8  # lines that fit on it; cues that a machine made may hold thousands
FLASH = 0.02  # seconds; YouTube's cues that only repeat last 10 ms


@dataclass(frozen=True, slots=True)
class Cue:
    """What a caption file shows from `start` to `end`. `lines` without markup, none blank.

    worded: the first line that has times within it, word by word: it is being spoken, so it cannot be a repeat.
    """

    start: float
    end: float
    lines: tuple[str, ...]
    worded: int | None = None

    def carries(self, before: Sequence[str]) -> int:
        """How many lines at the top stood at the bottom of the cue before."""
        for count in range(min(SCREEN, len(before), len(self.lines[: self.worded])), 0, -1):
            if before[-count:] == self.lines[:count]:
                return count
        return 0


def to_captions(cues: Sequence[Cue]) -> tuple[Caption, ...]:
    """One caption a cue; if the file rolls, one for each cue's new lines, timed as the cue in which they are new."""
    if not _rolls(cues):
        return tuple(Caption(cue.start, cue.end, one_line(" ".join(cue.lines))) for cue in cues)
    captions, before = [], ()
    for cue in cues:
        new = cue.lines[cue.carries(before) :]
        if new:
            captions.append(Caption(cue.start, cue.end, one_line(" ".join(new))))
        before = cue.lines or before  # a blank screen between: the line may come back, and was spoken all the same
    return tuple(captions)


def _rolls(cues: Sequence[Cue]) -> bool:
    """Whether lines move up as others come.

    A refrain in captions made by hand repeats whole cues. Lines that roll are told by new lines below one that was
    there before, in a quarter of the cues; or by a cue of no length that only repeats, and one such sign more; or,
    where words have times, by any repeat at all.
    """
    worded = any(cue.worded is not None for cue in cues)
    moves = flashes = 0
    for before, cue in itertools.pairwise(cues):
        carried = cue.carries(before.lines) if cue.start - before.end < PAUSE else 0
        if carried and worded:
            return True
        moves += 0 < carried < len(cue.lines)
        flashes += 0 < carried == len(cue.lines) and 0 < cue.end - cue.start <= FLASH
    return moves + flashes >= 2 and (flashes > 0 or 4 * moves >= len(cues) - 1)
