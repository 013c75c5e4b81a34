"""A caption, and the captions nearest to a clip."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

THROUGHOUT = (0.0, math.inf)


@dataclass(frozen=True, slots=True)
class Caption:
    """What is said from `start` to `end` (seconds from the start of the file). The text is one line."""

    start: float
    end: float
    text: str


def throughout(text: str) -> Caption:
    """A caption of the whole file, such as a title."""
    return Caption(*THROUGHOUT, one_line(text))


def one_line(text: str) -> str:
    """The text with single spaces, and without halves of characters: JSON may hold some, and no file can."""
    return " ".join(text.split()).encode("utf-8", "replace").decode()


def checked(start: float, end: float, text: str) -> Caption:
    """A caption of one line. Raises ValueError, with the reason, on times that cannot be."""
    if math.isnan(start) or math.isnan(end) or math.isinf(start):
        raise ValueError(f"times must be numbers of seconds, found {start} and {end}")
    if start < 0:
        raise ValueError(f"the caption starts before the file does ({start:g} s)")
    if end < start:
        raise ValueError(f"the caption ends ({end:g} s) before it starts ({start:g} s)")
    return Caption(start, end, one_line(text))


def nearest(
    captions: Sequence[Caption], start: float, end: float, k: int, rng: np.random.Generator | None = None
) -> list[Caption]:
    """The k captions nearest in time to the centre of a clip, in time order; fewer when there are fewer.

    A caption's distance is that of its interval to the clip's centre, then that of its own centre, then its
    place in the sequence. Where several captions of equal distance span the whole clip, as the twenty that
    MSR-VTT gives a clip do, the first would be taken always: with `rng` they come in random order instead.

    Args:
      captions: the captions of the file.
      start, end: the clip (seconds).
      k: how many.
      rng: draws among captions that span the clip equally; None takes them in order.
    """
    centre = (start + end) / 2
    place = {}  # of the captions that span the clip: they change places among themselves
    if rng is not None:
        spanning = [i for i, caption in enumerate(captions) if caption.start <= start and end <= caption.end]
        place = dict(zip(spanning, rng.permutation(spanning).tolist(), strict=True))

    def distance(index: int) -> tuple[float, float, int]:
        caption = captions[index]
        outside = max(caption.start - centre, centre - caption.end, 0.0)
        # To the microsecond, so that what is equally far stays so on a clock that starts elsewhere, as a record's does.
        away = abs((caption.start + caption.end) / 2 - centre)
        return round(outside, 6), round(away, 6), place.get(index, index)

    chosen = heapq.nsmallest(k, range(len(captions)), key=distance)
    return [captions[i] for i in sorted(chosen, key=lambda i: (captions[i].start, i))]
