"""Features of clips, seen through windows or through passes that vary them."""

import itertools
import os
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from vatt.config import AugmentConfig, ClipConfig
from vatt.data.crops import Crop, centre, training_crop
from vatt.data.items import Item, Progress, Source
from vatt.data.media.clip import decode_clip
from vatt.errors import MediaError
from vatt.evals.embedding import INPUTS, Embedder, check_finite
from vatt.evals.pretrained import Pretrained
from vatt.evals.probe.recipes import Seen

ROWS = 64  # views that are decoded before they are embedded together, a few clips' worth


@dataclass(frozen=True)
class Look:
    """One view of a clip: where it begins (seconds), what of the frame it shows, and how it is varied after that: by a
    seed, or not at all."""

    start: float
    crop: Crop
    seed: int | None = None


@dataclass(frozen=True)
class Windows:
    """Central squares of `count` windows, spread evenly over the clip; one: its middle."""

    count: int = 1

    def __call__(self, item: Item, clip: ClipConfig) -> list[Look]:
        first, last = _room(item, clip)
        starts = np.linspace(first, last, self.count) if self.count > 1 else [(first + last) / 2]
        return [Look(float(start), centre) for start in starts]


@dataclass(frozen=True)
class Passes:
    """The clip `count` times over, each time from another start and varied otherwise by `augment`, which depends on the
    seed, the pass and the clip's id alone. `augment.resize` is the run's."""

    count: int
    augment: AugmentConfig
    seed: int = 0

    def __call__(self, item: Item, clip: ClipConfig) -> list[Look]:
        first, last = _room(item, clip)
        looks = []
        for number in range(self.count):
            rng = np.random.default_rng((self.seed, number, zlib.crc32(item.id.encode())))
            start = first + int(rng.integers(int((last - first) * clip.fps + 1e-6) + 1)) / clip.fps
            looks.append(Look(start, training_crop(self.augment, rng), int(rng.integers(2**32))))
        return looks


Views = Windows | Passes


def features(
    model: Pretrained,
    source: Source,
    *,
    clip: ClipConfig,
    views: Views,
    modalities: Sequence[Seen],
    indices: Iterable[int] | None = None,
    failed: dict[int, MediaError],
    progress: Progress | None = None,
) -> dict[int, np.ndarray]:
    """The towers' features, before the heads, of each view of clips; those of several modalities one after the other.

    Args:
      clip: how a window is cut; as long as the model takes of the modalities.
      views: how each clip is looked at.
      modalities: which towers; a clip must have them all.
      indices: of the clips in the source; None: all.
      failed: takes the errors, by index, of clips that lack a modality or cannot be decoded, which are left out.
      progress: called with (clips done, clips in all).

    Returns:
      [V D] float32 by index.

    Raises:
      NonFiniteError: a feature is NaN or infinite; names the clip.
    """
    wanted = list(range(len(source)) if indices is None else indices)
    decode = _Decode(source, clip, model.cfg.canvas, views, tuple(modalities))
    embedder = model.embedder
    if isinstance(views, Passes) and views.augment != model.cfg.augment:
        embedder = Embedder(replace(model.cfg, augment=views.augment), model.mesh, model.params, model.stats)
    together = max(1, ROWS // views.count)
    pool = ThreadPoolExecutor(model.cfg.data.workers or os.cpu_count())
    found: dict[int, np.ndarray] = {}
    waiting, ahead = deque(wanted), deque()
    try:
        for done in itertools.count(together, together):
            while waiting and len(ahead) < 2 * together:
                index = waiting.popleft()
                ahead.append((index, pool.submit(decode, index)))
            clips = {}
            for index, future in [ahead.popleft() for _ in range(min(together, len(ahead)))]:
                try:
                    clips[index] = future.result()
                except MediaError as error:
                    failed[index] = error
            found |= _embed(embedder, source, clips, modalities)
            if progress:
                progress(min(done, len(wanted)), len(wanted))
            if not ahead and not waiting:
                return found
    finally:
        pool.shutdown(cancel_futures=True)
    return found


@dataclass(frozen=True)
class _Decode:
    """Decodes the views of the clip at an index: arrays [V ...]."""

    source: Source
    clip: ClipConfig
    canvas: int
    views: Views
    modalities: tuple[Seen, ...]

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        item = self.source[index]
        has = {"video": item.has_video, "audio": item.has_audio}
        for name in self.modalities:
            if not has[name]:
                raise MediaError(item.id, f"has no {name}", f"no_{name}")
        looks = self.views(item, self.clip)
        # What is not asked for is not decoded.
        item = replace(item, has_video="video" in self.modalities, has_audio="audio" in self.modalities)
        clips = [decode_clip(item, look.start, self.clip, crop=look.crop, canvas=self.canvas) for look in looks]
        names = [name for name in INPUTS if name.partition("_")[0] in self.modalities]
        arrays = {name: np.stack([clip[name] for clip in clips]) for name in names}
        if looks[0].seed is not None:
            arrays["seeds"] = np.array([look.seed for look in looks], np.uint32)
        return arrays


def _embed(embedder: Embedder, source: Source, clips: dict[int, dict], modalities: Sequence[Seen]) -> dict:
    """[V D] by index, of what `_Decode` gives."""
    if not clips:
        return {}
    arrays = {name: np.concatenate([clip[name] for clip in clips.values()]) for name in next(iter(clips.values()))}
    seeds = arrays.pop("seeds", None)
    out = embedder(arrays, seeds=seeds)
    x = np.concatenate([out[name] for name in modalities], axis=-1).reshape(
        len(clips), -1, sum(out[name].shape[-1] for name in modalities)
    )
    check_finite({"+".join(modalities): x}, [source[index].id for index in clips])
    return dict(zip(clips, x, strict=True))


def _room(item: Item, clip: ClipConfig) -> tuple[float, float]:
    """The first and the last instant at which a clip can begin. A still picture has one."""
    return (item.start, item.start) if item.still and not item.has_audio else item.room(clip.seconds)
