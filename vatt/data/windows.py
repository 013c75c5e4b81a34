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
    if len(starts) > 1:
        try:
            return _cut(_decode(item, starts[0], _longer(clip, len(starts), hop), canvas), starts, clip, hop)
        except MediaError:
            pass  # then each on its own tells which of them it is
    return [_decode_window(item, start, clip, canvas) for start in starts]


def _decode_window(item: Item, start: float, clip: ClipConfig, canvas: int) -> Window:
    try:
        return Window(start=start, clip=_decode(item, start, clip, canvas))
    except MediaError as error:
        wanted = {"video": item.has_video, "audio": item.has_audio}
        if not all(wanted.values()):
            return Window(start=start, clip={}, errors={name: error for name in wanted if wanted[name]})
    parts = [
        _decode_window(replace(item, has_video=name == "video", has_audio=name == "audio"), start, clip, canvas)
        for name in wanted
    ]
    return Window(start=start, clip=parts[0].clip | parts[1].clip, errors=parts[0].errors | parts[1].errors)


def _decode(item: Item, start: float, clip: ClipConfig, canvas: int) -> dict[str, np.ndarray]:
    """What `decode_clip` gives of the modalities wanted, without masks."""
    wanted = [name for name, has in (("video", item.has_video), ("audio", item.has_audio)) if has]
    decoded = decode_clip(item, start, clip, crop=centre, canvas=canvas)
    return {name: x for name, x in decoded.items() if name.startswith(tuple(wanted)) and not name.endswith("_mask")}


def _longer(clip: ClipConfig, count: int, hop: float) -> ClipConfig:
    """A clip that spans so many windows."""
    return replace(
        clip,
        frames=clip.frames + round((count - 1) * (hop or clip.seconds) * clip.fps),
        samples=clip.samples + round((count - 1) * (hop or clip.seconds) * clip.sample_rate),
    )


def _cut(long: dict[str, np.ndarray], starts: Sequence[float], clip: ClipConfig, hop: float) -> list[Window]:
    """Copies, so that no window keeps the whole of it in memory."""
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
