"""Which files look and sound the same: signatures small enough to keep for every file, and the search among them.

A signature survives re-encoding, rescaling and another frame rate, since it holds only coarse pictures and the coarse
course of loudness, at instants relative to the length. Picture and sound are witnesses: two files are alike if one
witness says so and the other does not deny it. A dark screen, a still picture's lack of motion or a steady hum say
nothing either way: files are never called alike for what they lack.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from av import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from vatt.data.items import Progress

PICTURES, SIDE = 8, 12  # pictures a signature, and their height and width
TIMES, BANDS = 64, 8  # instants and bands of the loudness
LOWEST, HIGHEST = 100.0, 3800.0  # Hz; what survives any codec
BLOCK = 0.032  # seconds of sound a measure of loudness
FLOOR = -100.0  # dB; below is silence
RANGE = 40.0  # dB; what is so much fainter than the loudest is not compared
SMOOTH = 0.25  # seconds over which loudness is averaged, if the instants lie closer

# Copies lie within, other videos beyond; tests/test_alike.py measures both on media that look much alike.
PLAIN = 6.0  # a picture whose levels (0-255) spread less tells nothing
MOVES = 1.5  # levels; less motion tells nothing
VARIES = 3.0  # dB; sound that varies less tells nothing
SAME_LEVEL = 10.0  # levels between copies, root mean square
LIKE_PICTURE, LIKE_MOTION = 0.94, 0.8  # cosines of pictures, and of their course: enough if the sound agrees
SAME_PICTURE, SAME_MOTION, SAME_STILL = 0.97, 0.9, 0.998  # enough if there is no other witness
SAME_SOUND, OTHER_SOUND = 0.97, 0.7  # cosines of the course of loudness: from here on, and up to here
SAME_TONE, OTHER_TONE = 2.0, 8.0  # dB between the mean spectra, root mean square: up to here, and from here on
PROJECTED = 96  # width of the vectors that are compared all with all
ROWS, COLUMNS = 512, 4096  # of a block of comparisons, which fits a cache
PAIRS = 512  # compared exactly at once


class Pictures:
    """Gathers coarse pictures of a video, spread evenly over a length that is known only at its end."""

    LIMIT = 128

    def __init__(self):
        self.times: list[float] = []
        self.pictures: list[np.ndarray] = []  # [H W 3], the longer side 128
        self.stride, self.next, self.end = 0.04, -np.inf, 0.0
        self.reformatter = VideoReformatter()

    def add(self, time: float, frame: VideoFrame) -> None:
        """The frame shown from `time` on."""
        self.end = time + float((frame.duration or 0) * (frame.time_base or 0))
        if time >= self.next:
            self.take(time, self._small(frame))

    def take(self, time: float, picture: np.ndarray) -> None:
        """A picture [H W 3] shown from `time` on."""
        self.times.append(time)
        self.pictures.append(picture)
        if len(self.times) == self.LIMIT:  # twice as sparse from here on, and so far
            self.times, self.pictures, self.stride = self.times[::2], self.pictures[::2], 2 * self.stride
        self.next = self.times[-1] + self.stride

    def _small(self, frame: VideoFrame) -> np.ndarray:
        scale = 128 / max(frame.width, frame.height)
        width, height = (max(SIDE, round(side * scale)) for side in (frame.width, frame.height))
        picture = self.reformatter.reformat(
            frame, width, height, "rgb24", interpolation=Interpolation.AREA, threads=1
        ).to_ndarray()
        return np.rot90(picture, frame.rotation // 90) if frame.rotation else picture

    def signature(self) -> np.ndarray:
        """[PICTURES SIDE SIDE 3] uint8: the mean picture of each equal part of the length, whatever the frame rate."""
        boxes = [Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.BOX) for p in self.pictures]
        edges = np.append(self.times, max(self.end, self.times[-1] + 1e-3))
        shown = np.stack([np.asarray(box, np.float32).ravel() for box in boxes]) * np.diff(edges)[:, None]
        parts = _sums(shown, edges, np.linspace(edges[0], edges[-1], PICTURES + 1))
        means = parts * PICTURES / (edges[-1] - edges[0])
        return np.rint(np.clip(means, 0, 255)).astype(np.uint8).reshape(PICTURES, SIDE, SIDE, 3)

    def clearest(self) -> np.ndarray:
        """The picture with most contrast [H W 3]."""
        return max(self.pictures, key=lambda picture: float(picture.std()))


def _sums(amounts: np.ndarray, edges: np.ndarray, at: np.ndarray) -> np.ndarray:
    """[M D]: what of `amounts` [N D], each spread between two `edges` [N + 1], lies between instants `at` [M + 1]."""
    total = np.concatenate([np.zeros((1, amounts.shape[1])), np.cumsum(amounts, axis=0)])
    place = np.interp(at, edges, np.arange(len(edges)))
    whole = np.minimum(place.astype(int), len(amounts) - 1)
    upto = total[whole] + (place - whole)[:, None] * amounts[whole]
    return np.diff(upto, axis=0)


class Loudness:
    """Gathers the loudness of a sound by time and band, in bounded memory."""

    LIMIT = 2048

    def __init__(self):
        self.energies = np.zeros((self.LIMIT, BANDS))
        self.kept, self.joined = 0, 1  # measures so far, and how many blocks each of them joins
        self.partial, self.pending = np.zeros(BANDS), 0
        self.rest, self.rate = np.zeros(0, np.float32), 0

    def add(self, samples: np.ndarray, rate: int) -> None:
        """samples: mono [S] in [-1, 1], which follow the last ones."""
        self.rest = np.concatenate([self.rest, samples])
        block = _block(rate)
        self.rate = rate
        if len(self.rest) >= 8 * block:
            self._take(block)

    def _take(self, block: int) -> None:
        """Measures all whole blocks of what has gathered."""
        whole = len(self.rest) // block * block
        self._measure(self.rest[:whole].reshape(-1, block), self.rate)
        self.rest = self.rest[whole:]

    def _measure(self, blocks: np.ndarray, rate: int) -> None:
        spectrum = abs(np.fft.rfft(blocks * np.hanning(blocks.shape[1]))) ** 2 / blocks.shape[1] ** 2
        edges = LOWEST * (HIGHEST / LOWEST) ** (np.arange(BANDS + 1) / BANDS) * blocks.shape[1] / rate
        bins = np.arange(spectrum.shape[1])
        inside = (bins >= edges[:-1, None]) & (bins < edges[1:, None])  # [BANDS bins]
        for energy in spectrum @ inside.T:
            self.partial, self.pending = self.partial + energy, self.pending + 1
            if self.pending == self.joined:
                self.energies[self.kept] = self.partial / self.joined
                self.partial, self.pending, self.kept = np.zeros(BANDS), 0, self.kept + 1
                if self.kept == self.LIMIT:
                    self.energies[: self.kept // 2] = self.energies[: self.kept].reshape(-1, 2, BANDS).mean(1)
                    self.kept, self.joined = self.kept // 2, 2 * self.joined

    def signature(self) -> np.ndarray | None:
        """[TIMES BANDS] uint8, in half decibels above FLOOR; None for less than half a second."""
        if len(self.rest):
            self._take(_block(self.rate))
        if self.kept * self.joined * BLOCK < 0.5:
            return None
        part = self.kept / TIMES
        energy = (
            _sums(self.energies[: self.kept], np.arange(self.kept + 1.0), np.linspace(0, self.kept, TIMES + 1)) / part
        )
        width = int(SMOOTH / (part * self.joined * BLOCK)) // 2 * 2 + 1  # codecs delay sound by some 50 ms
        padded = np.pad(energy, ((width // 2, width // 2), (0, 0)), "edge")
        energy = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0).mean(-1)
        level = 10 * np.log10(np.maximum(energy, 1e-12))
        level = np.maximum(level, level.max() - RANGE)  # what is faint, codecs leave out
        return np.clip(2 * (level - FLOOR), 0, 255).astype(np.uint8)


def _block(rate: int) -> int:
    return max(64, round(BLOCK * rate))


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a file looks and sounds like. video: [PICTURES SIDE SIDE 3] uint8; audio: [TIMES BANDS] uint8."""

    seconds: float
    video: np.ndarray | None
    audio: np.ndarray | None


def alike(signatures: dict[int, Signature], progress: Progress | None = None) -> Iterator[tuple[int, int]]:
    """Pairs (first, other) of keys whose files are alike; every file but the first of its group is an `other` once.

    Compares all with all whose lengths are close: first as matrix products of short vectors, which leave few pairs.

    Args:
      signatures: by key.
      progress: called with (files compared with all, files in all).
    """
    keys = [i for i, s in signatures.items() if s.video is not None or s.audio is not None]
    keys.sort(key=lambda i: (signatures[i].seconds, i))
    chosen = [signatures[i] for i in keys]
    group = list(range(len(chosen)))
    for done, a, b in _candidates(chosen):
        _join(group, chosen, a, b)
        if progress:
            progress(done, len(chosen))
    members: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        members.setdefault(_root(group, place), []).append(key)
    for together in members.values():
        first, *others = sorted(together)
        yield from ((first, other) for other in others)


def _candidates(chosen: list[Signature]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Blocks of pairs a < b that may be the same as far as short vectors tell, after how many files are done with."""
    seconds = np.array([s.seconds for s in chosen])
    looks = _Vectors([None if s.video is None else _centred(s.video) for s in chosen], PLAIN)
    moves = _Vectors([None if s.video is None else _motion(s.video) for s in chosen], MOVES)
    sounds = _Vectors([None if s.audio is None else _centred(s.audio) for s in chosen], 2 * VARIES)
    for low in range(0, len(chosen), ROWS):
        high = min(low + ROWS, len(chosen))
        last = int(np.searchsorted(seconds, seconds[high - 1] + _slack(seconds[high - 1]), "right"))
        for first in range(low, last, COLUMNS):
            rows, columns = slice(low, high), slice(first, min(first + COLUMNS, last))
            seen, look = looks.compare(rows, columns)
            heard, sound = sounds.compare(rows, columns)
            moving = moves.tells[rows, None] | moves.tells[columns]
            _, course = moves.compare(rows, columns)
            # What sound will not affirm, pictures must; what does not move must be the very picture.
            least = np.where(moving, _about(SAME_PICTURE), _about(SAME_STILL))
            least[heard] = _about(LIKE_PICTURE)
            by_sight = seen & (look >= least) & (~moving | (course >= _about(LIKE_MOTION)))
            by_sight &= ~heard | (sound >= _about(OTHER_SOUND))
            a, b = np.nonzero(by_sight | (~seen & heard & (sound >= _about(SAME_SOUND))))
            a, b = a + low, b + first
            yield (high if first + COLUMNS >= last else low), a[a < b], b[a < b]


def _about(cosine: float) -> float:
    """What the projections of vectors of this cosine fall below by five standard deviations of chance."""
    return cosine - 5 * (1 - cosine**2) / PROJECTED**0.5


def _slack(seconds: float | np.ndarray) -> Any:
    """By how much copies may differ in length: codecs pad, and frame rates round."""
    return 0.15 + 0.02 * seconds


def _root(group: list[int], member: int) -> int:
    while group[member] != member:
        group[member] = member = group[group[member]]
    return member


def _join(group: list[int], chosen: list[Signature], a: np.ndarray, b: np.ndarray) -> None:
    """Joins the groups of those of the pairs that are the same."""

    def roots(members: np.ndarray) -> np.ndarray:
        first = members.min(initial=len(group))
        found = [_root(group, member) for member in range(first, members.max(initial=-1) + 1)]
        return np.array(found, int)[members - first]

    apart = roots(a) != roots(b)
    a, b = a[apart], b[apart]
    for at in range(0, len(a), PAIRS):
        pairs = [
            (one, other)
            for one, other in zip(a[at : at + PAIRS].tolist(), b[at : at + PAIRS].tolist(), strict=True)
            if _root(group, one) != _root(group, other)
        ]
        if not pairs:
            continue
        names, places = np.unique(pairs, return_inverse=True)
        one, other = places.reshape(-1, 2).T
        same = _same(_Exact([chosen[name] for name in names]), one, other)
        for left, right in np.array(pairs)[same].tolist():
            group[_root(group, right)] = _root(group, left)


class _Vectors:
    """Short vectors of unit length, whose products are about the cosines of the long ones; a None tells nothing."""

    def __init__(self, parts: Sequence[np.ndarray | None], least: float):
        self.units = np.zeros((len(parts), PROJECTED), np.float32)
        self.tells = np.zeros(len(parts), bool)
        projection: Any = None
        for index, part in enumerate(parts):
            if part is None:
                continue
            if projection is None:
                projection = np.random.default_rng(0).standard_normal((part.size, PROJECTED), np.float32)
            if part.std() >= least:
                unit = part.ravel() @ projection
                self.units[index], self.tells[index] = unit / (np.linalg.norm(unit) + 1e-9), True

    def compare(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """Whether both tell something [R C], and the cosines [R C]."""
        return self.tells[rows, None] & self.tells[columns], self.units[rows] @ self.units[columns].T


def _centred(part: np.ndarray) -> np.ndarray:
    """Without what brightness, or loudness and tone, add throughout: [..] float32."""
    part = part.astype(np.float32)
    return part - (part.mean() if part.ndim == 4 else part.mean(0))


def _motion(pictures: np.ndarray) -> np.ndarray:
    """How pictures differ from their mean [PICTURES SIDE SIDE 3] float32."""
    pictures = pictures.astype(np.float32)
    return pictures - pictures.mean(0)


class _Exact:
    """What is compared of N files, the way that many pairs are compared at once."""

    def __init__(self, files: Sequence[Signature]):
        silent, blind = np.zeros((TIMES, BANDS), np.float32), np.zeros((PICTURES, SIDE, SIDE, 3), np.uint8)
        self.seconds = np.array([file.seconds for file in files])
        self.seen = np.array([file.video is not None for file in files])
        self.heard = np.array([file.audio is not None for file in files])
        video = np.stack([blind if file.video is None else file.video for file in files]).astype(np.float32)
        audio = np.stack([silent if file.audio is None else file.audio for file in files]).astype(np.float32) / 2
        self.pictures = video.reshape(len(files), -1)  # [N D]
        self.contrast = self.pictures.std(1)
        self.looks = _units(self.pictures - self.pictures.mean(1, keepdims=True))
        motion = (video - video.mean(1, keepdims=True)).reshape(len(files), -1)
        self.motion, self.moves = motion.std(1), _units(motion)
        self.tone = audio.mean(1)  # [N BANDS]
        course = (audio - self.tone[:, None]).reshape(len(files), -1)
        self.varies, self.course = course.std(1), _units(course)


def _units(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)


def _same(files: _Exact, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether files a [M] are the same as files b [M]: a witness says so, and none denies it. [M] bool"""

    def cosine(units: np.ndarray) -> np.ndarray:
        return np.einsum("md,md->m", units[a], units[b])

    length = abs(files.seconds[a] - files.seconds[b]) <= _slack(np.maximum(files.seconds[a], files.seconds[b]))
    both = files.seen[a] & files.seen[b]
    plain = np.maximum(files.contrast[a], files.contrast[b]) < PLAIN
    moving = np.maximum(files.motion[a], files.motion[b]) >= MOVES
    level = np.sqrt(np.mean((files.pictures[a] - files.pictures[b]) ** 2, axis=1))
    look, course = cosine(files.looks), cosine(files.moves)
    other_look = both & ((level > SAME_LEVEL) | (~plain & ((look < LIKE_PICTURE) | (moving & (course < LIKE_MOTION)))))
    same_look = both & ~plain & np.where(moving, (look >= SAME_PICTURE) & (course >= SAME_MOTION), look >= SAME_STILL)

    heard = files.heard[a] & files.heard[b]
    varies = np.minimum(files.varies[a], files.varies[b]) >= VARIES
    tone, sound = (files.tone[a] - files.tone[b]).std(1), cosine(files.course)
    other_sound = heard & ((tone > OTHER_TONE) | (varies & (sound < OTHER_SOUND)))
    same_sound = heard & varies & (sound >= SAME_SOUND) & (tone < SAME_TONE)

    comparable = length & (files.seen[a] == files.seen[b])
    return comparable & ~other_look & ~other_sound & (same_look | same_sound)
