"""Where a medium is cut into records, and which captions go with each. Times are seconds on the medium's clock."""

import itertools
import math
from collections.abc import Sequence

from vatt.data.captions import Caption

Span = tuple[float, float]  # start, end
TIE = 1e-5  # seconds; above what `nearest` takes for a tie


def windows(start: float, end: float, seconds: float) -> list[Span]:
    """Regular windows from `start` on. The last takes what is left, so that it lasts one to two windows: nothing is
    lost, and no window is shorter but that of a part which itself is."""
    count = max(1, math.floor((end - start) / seconds + 1e-9))
    edges = [start + index * seconds for index in range(count)] + [end]
    return list(itertools.pairwise(edges))


def narrations(captions: Sequence[Caption], start: float, end: float, *, shortest: float, longest: float) -> list[Span]:
    """A span around each caption that touches [start, end], widened about its centre to `shortest` seconds and moved
    inside; what lasts longer than `longest` is cut into windows of that. In order of time, none twice.

    Widening narrations to 5 s is what MIL-NCE does with HowTo100M (Miech et al. 2020, arXiv 1912.06430).
    """
    spans: set[Span] = set()
    for caption in captions:
        if caption.end <= start or caption.start >= end or not caption.text.strip():
            continue
        low, high = max(caption.start, start), min(caption.end, end)
        if high - low < shortest:
            low = max(start, min((low + high - shortest) / 2, end - shortest))
            high = min(low + shortest, end)
        spans.update(windows(low, high, longest))
    return sorted(spans)


def neighbours(captions: Sequence[Caption], start: float, end: float, k: int) -> list[int]:
    """The captions, by index, that can be among the `k` nearest to an instant of [start, end].

    `vatt.data.captions.nearest` gives the same of these as of all, for any clip whose centre lies there: at least k
    captions are never farther away than `reach`, so one that never comes as near is never chosen.
    """
    farthest = sorted(max(caption.start - start, end - caption.end, 0.0) for caption in captions)
    reach = farthest[k - 1] if len(farthest) >= k else math.inf
    return [
        index
        for index, caption in enumerate(captions)
        if max(caption.start - end, start - caption.end, 0.0) <= reach + TIE
    ]


def shifted(captions: Sequence[Caption], by: float) -> tuple[Caption, ...]:
    """The captions on a clock that starts `by` seconds later."""
    return tuple(Caption(caption.start - by, caption.end - by, caption.text) for caption in captions)
