"""What a retrieval protocol states, and what an official file lists."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from vatt.config import ClipConfig
from vatt.evals.protocols.stated import Stated

Direction = Literal[
    "text_to_video", "video_to_text", "audio_to_video", "video_to_audio", "text_to_audio", "audio_to_text"
]


@dataclass(frozen=True, kw_only=True)
class Protocol(Stated):
    """A published protocol. Clips are as `Stated` says: of a run whose model takes other ones, a report says so.

    version: rises with any change of the fields below.
    source: the publication whose protocol this is.
    official: the file that names the items, and which of its lines.
    captions: which captions are queries.
    items: how many the publication ranked; 0 if unconfirmed.
    directions: what is asked by what; the first is what is published.
    windows: how many, spread evenly from the start of an item to the last at which one fits.
    margin: seconds at the end of an item in which no window may end.
    short: what becomes of an item shorter than a window: it is shown over and over, as DMVR does; or the window runs on
      past its end into the film, and is moved forward where the film ends.
    crop: the part of a frame that is seen.
    similarity: of the mean of the windows' raw embeddings with that of the query: cosine, or the raw dot product.
    ties: the rule for equal similarities (see `vatt.metrics.ranking`).
    post: what is done to similarities before ranking.
    """

    name: str
    version: int
    source: str
    official: str
    captions: str
    items: int
    directions: tuple[Direction, ...]
    windows: int
    margin: float = 0.0
    short: Literal["repeat", "runs_on"] = "repeat"
    crop: Literal["centre"] = "centre"
    similarity: Literal["cosine", "dot"] = "cosine"
    ties: Literal["expectation"] = "expectation"
    post: Literal["none"] = "none"

    @property
    def hash(self) -> str:
        """16 hex digits of all that it states."""
        return digest(asdict(self))

    @property
    def media(self) -> tuple[str, ...]:
        """The modalities, other than text, that it ranks by."""
        named = {part for direction in self.directions for part in direction.split("_to_")}
        return tuple(name for name in ("video", "audio") if name in named)

    @property
    def asks_by_text(self) -> bool:
        return any("text" in direction for direction in self.directions)

    def clip_of(self, clip: ClipConfig) -> ClipConfig:
        """How the items are cut for a run with this clip."""
        return replace(self.followed(clip, self.media), short="repeat" if self.short == "repeat" else "leave_out")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An item of an official file.

    stems: what its media file may be called, without the extension.
    captions: every one that asks for it, as the file has them.
    start, end: the part of the film meant (seconds); end None is the film's end.
    """

    id: str
    stems: tuple[str, ...]
    captions: tuple[str, ...] = ()
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True, kw_only=True)
class Official:
    """What an official file lists.

    extensions: of the media, of which the first is preferred.
    depth: how many parts of a medium's path its stems name.
    """

    file: Path
    entries: Sequence[Entry]
    extensions: tuple[str, ...]
    depth: int = 1

    @property
    def hash(self) -> str:
        """16 hex digits of the items, their times and their captions, in their order."""
        return digest([[entry.id, entry.start, entry.end, list(entry.captions)] for entry in self.entries])


def digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:16]


def one_line(text: str) -> str:
    """A caption without line breaks or repeated spaces: what is told apart as a caption."""
    return " ".join(text.split())


def unique(ids: Sequence[str]) -> list[str]:
    """The ids, a repeated one with its number behind it: a line of an official file is an item, even a repeated one."""
    seen: dict[str, int] = {}
    named = []
    for id in ids:
        seen[id] = seen.get(id, 0) + 1
        named.append(id if seen[id] == 1 else f"{id}#{seen[id]}")
    return named
