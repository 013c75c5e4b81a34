"""What is wrong with captions that can be read: times that do not fit, nothing said, no text."""

import re
from collections import defaultdict
from collections.abc import Iterable

from vatt.data.captions.caption import THROUGHOUT, Caption
from vatt.data.text import words

OVERHANG = 2.0  # seconds by which a caption may outlast its file: people still read
TAG = re.compile(r"</?[a-z][^<>]*>|&[a-z]+;|\{\\[^{}]*\}|https?://\S+", re.IGNORECASE)
NAMED = 3  # captions at fault that a detail names


def caption_faults(
    captions: Iterable[Caption], end: float | None, *, timed: bool = True, ordered: bool = True
) -> list[tuple[str, str]]:
    """The faults of the captions of a file: (key of FAULTS, detail).

    Args:
      captions: in the order of their file.
      end: where the file ends (seconds); None is never.
      timed: whether their times must fit the file; those of records, which keep their neighbours', need not.
      ordered: whether each must begin no earlier than the one before, as in a caption file, not in a manifest.
    """
    found: dict[str, list[str]] = defaultdict(list)
    last = 0.0
    for caption in captions:
        start, stop = caption.start, caption.end
        shown = f"{start:g}-{stop:g} s" if stop < float("inf") else "throughout"
        if timed and (start, stop) != THROUGHOUT:
            if end is not None and (start >= end or end + OVERHANG < stop < float("inf")):
                found["caption_times"].append(f"{shown} in a file of {end:.2f} s")
            elif start < 0 or stop < start or (ordered and start < last):
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
