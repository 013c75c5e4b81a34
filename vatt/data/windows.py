"""Windows: what a file of any length shows and sounds like, one clip after the other.

Windows that follow on each other are decoded together as one long clip and then cut apart, so that a film is not opened
and sought anew for each. How they are grouped depends on the file and the configuration alone, and so do their bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vatt.config import ClipConfig
from vatt.data.crops import centre
from vatt.data.items import Decoded, Item
from vatt.data.media.clip import decode_clip
from vatt.errors import MediaError

TOGETHER = 8  # windows decoded at once: so many clips are held in memory, and a key frame is sought an eighth as often
LARGEST = 64 * 2**20  # bytes of video decoded at once


@dataclass(frozen=True, kw_only=True)
class Window:
    """One clip of a file, which begins at `start` (seconds).

    clip: what `decode_clip` gives of the modalities that can be decoded, without masks; empty if none can.
    errors: why another cannot, by modality.
    """

    start: float
    clip: dict[str, np.ndarray]
    errors: dict[str, MediaError] = field(default_factory=dict)


def window_starts(item: Item, seconds: float, hop: float = 0.0) -> list[float]:
    """Where windows of so many seconds begin: every `hop` (0: `seconds`) from the item's start, and one that ends with
    the item where the last would leave some of it out."""
    first, last = item.room(seconds)
    hop = hop or seconds
    starts = [first + i * hop for i in range(int((last - first) / hop + 1e-6) + 1)]
    return starts if last - starts[-1] < 0.01 * seconds else [*starts, last]


def groups(item: Item, starts: Sequence[float], clip: ClipConfig, *, hop: float, canvas: int) -> list[list[float]]:
    """The starts of windows, in order, divided into those that `decode_windows` should be given at once.

    They go together while they lie on one grid of frames and samples, and the long clip wastes little.
    """
    hop = hop or clip.seconds
    on_grid = all(abs(hop * rate - round(hop * rate)) < 1e-6 for rate in (clip.fps, clip.sample_rate))
    if item.still or isinstance(item.media, Decoded) or not on_grid or hop > 1.25 * clip.seconds:
        return [[start] for start in starts]
    frames = LARGEST // (canvas * canvas * 3 // 2)
    most = min(TOGETHER, max(1, 1 + int((frames - clip.frames) / (hop * clip.fps))))
    parts: list[list[float]] = []
    for start in starts:
        begun = parts and len(parts[-1]) < most
        if begun and abs(start - parts[-1][0] - len(parts[-1]) * hop) < 1e-6:
            parts[-1].append(start)
        else:
            parts.append([start])
    return parts


def decode_windows(item: Item, starts: Sequence[float], clip: ClipConfig, *, hop: float, canvas: int) -> list[Window]:
    """The windows at `starts`, which are one of `groups`: the centre square of video, and sound.

    What is damaged costs only the windows, and of them the modality, that it lies in.

    Args:
      item: the medium, and which of video and audio is wanted of it.
      starts: seconds from the start of the file, `hop` apart.
      clip, canvas: as of `decode_clip`.
    """
    try:
        long = replace(
            clip,
            frames=clip.frames + round((len(starts) - 1) * (hop or clip.seconds) * clip.fps),
            samples=clip.samples + round((len(starts) - 1) * (hop or clip.seconds) * clip.sample_rate),
        )
        return _cut(_decode(item, starts[0], long, canvas), starts, clip, hop)
    except MediaError as error:
        failure = error
    # Each modality for itself, so that its bytes do not depend on what is wrong with the other; then each window.
    if item.has_video and item.has_audio:
        halves = replace(item, has_audio=False), replace(item, has_video=False)
        pairs = zip(*(decode_windows(half, starts, clip, hop=hop, canvas=canvas) for half in halves), strict=True)
        return [Window(start=v.start, clip=v.clip | a.clip, errors=v.errors | a.errors) for v, a in pairs]
    if len(starts) > 1:
        return [window for start in starts for window in decode_windows(item, [start], clip, hop=hop, canvas=canvas)]
    return [Window(start=starts[0], clip={}, errors={"video" if item.has_video else "audio": failure})]


def _decode(item: Item, start: float, clip: ClipConfig, canvas: int) -> dict[str, np.ndarray]:
    """What `decode_clip` gives of the modalities wanted, without masks."""
    wanted = [name for name, has in (("video", item.has_video), ("audio", item.has_audio)) if has]
    decoded = decode_clip(item, start, clip, crop=centre, canvas=canvas)
    return {name: x for name, x in decoded.items() if name.startswith(tuple(wanted)) and not name.endswith("_mask")}


def _cut(long: dict[str, np.ndarray], starts: Sequence[float], clip: ClipConfig, hop: float) -> list[Window]:
    """Copies, so that no window keeps the whole of it in memory."""
    if len(starts) == 1:
        return [Window(start=starts[0], clip=long)]
    hop = hop or clip.seconds
    windows = []
    for i, start in enumerate(starts):
        parts = dict(long)
        if "video" in long:
            first = round(i * hop * clip.fps)
            parts["video"] = long["video"][first : first + clip.frames].copy()
        if "audio" in long:
            first = round(i * hop * clip.sample_rate)
            parts["audio"] = long["audio"][first : first + clip.samples].copy()
        windows.append(Window(start=start, clip=parts))
    return windows
