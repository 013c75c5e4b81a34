"""Which files look and sound the same: signatures small enough to keep for every file, and the search among them.

A signature survives re-encoding, rescaling and another frame rate, since it holds only coarse pictures and the coarse
course of loudness, at instants relative to the length. Picture and sound are witnesses: two files are alike if one
witness says so and the other does not deny it. A dark screen, a still picture's lack of motion or a steady hum say
nothing either way: files are never called alike for what they lack.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from av import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

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
CANDIDATE = 0.08  # how far below these a projected cosine may lie
PROJECTED = 96  # width of the vectors that are compared all with all
ROWS, COLUMNS = 512, 4096  # of a block of comparisons, which fits a cache


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


def alike(signatures: dict[int, Signature]) -> Iterator[tuple[int, int]]:
    """Pairs (first, other) of keys whose files are alike; every file but the first of its group is an `other` once.

    Compares all with all whose lengths are close, as a matrix product of short vectors.
    """
    keys = [i for i, s in signatures.items() if s.video is not None or s.audio is not None]
    keys.sort(key=lambda i: (signatures[i].seconds, i))
    chosen = [signatures[i] for i in keys]
    group = list(range(len(chosen)))
    for a, b in _candidates(chosen):
        if _root(group, a) != _root(group, b) and _same(chosen[a], chosen[b]):
            group[_root(group, b)] = _root(group, a)
    members: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        members.setdefault(_root(group, place), []).append(key)
    for together in members.values():
        first, *others = sorted(together)
        yield from ((first, other) for other in others)


def _candidates(chosen: list[Signature]) -> Iterator[tuple[int, int]]:
    """Pairs that one witness may call the same. Those that pictures tell of first, as most do: then sound only rules
    out."""
    seconds = np.array([s.seconds for s in chosen])
    looks = _vectors([s.video for s in chosen], PLAIN)
    sounds = _vectors([s.audio for s in chosen], 2 * VARIES)
    for a, b in _near(looks, seconds, LIKE_PICTURE):
        likeness = np.einsum("nd,nd->n", sounds.units[a], sounds.units[b])
        heard = sounds.tells[a] & sounds.tells[b]
        keep = ~heard | (likeness >= OTHER_SOUND - CANDIDATE)
        yield from zip(a[keep].tolist(), b[keep].tolist(), strict=True)
    if (sounds.tells & ~looks.tells).any():
        for a, b in _near(sounds, seconds, SAME_SOUND):
            keep = ~(looks.tells[a] & looks.tells[b])
            yield from zip(a[keep].tolist(), b[keep].tolist(), strict=True)


def _near(vectors: "_Vectors", seconds: np.ndarray, same: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of pairs a < b that tell something, are about as long, and whose cosine is about `same` or more."""
    telling = np.flatnonzero(vectors.tells)
    units, seconds = vectors.units[telling], seconds[telling]
    for low in range(0, len(units), ROWS):
        high = min(low + ROWS, len(units))
        last = int(np.searchsorted(seconds, seconds[high - 1] + _slack(seconds[high - 1]), "right"))
        for first in range(low, last, COLUMNS):
            close = units[low:high] @ units[first : min(first + COLUMNS, last)].T >= same - CANDIDATE
            a, b = np.nonzero(close)
            a, b = a + low, b + first
            yield telling[a[a < b]], telling[b[a < b]]


def _slack(seconds: float) -> float:
    """By how much copies may differ in length: codecs pad, and frame rates round."""
    return 0.15 + 0.02 * seconds


def _root(group: list[int], member: int) -> int:
    while group[member] != member:
        group[member] = member = group[group[member]]
    return member


@dataclass(frozen=True)
class _Vectors:
    units: np.ndarray  # [N PROJECTED]
    tells: np.ndarray  # [N] bool: whether it tells anything


def _vectors(parts: list[np.ndarray | None], least: float) -> _Vectors:
    units, tells = np.zeros((len(parts), PROJECTED), np.float32), np.zeros(len(parts), bool)
    projection: Any = None
    for index, part in enumerate(parts):
        if part is None:
            continue
        flat = _centred(part).ravel()
        if projection is None:
            projection = np.random.default_rng(0).standard_normal((flat.size, PROJECTED), np.float32)
        if flat.std() >= least:
            unit = flat @ projection
            units[index], tells[index] = unit / (np.linalg.norm(unit) + 1e-9), True
    return _Vectors(units, tells)


def _centred(part: np.ndarray) -> np.ndarray:
    """Without what brightness, or loudness and tone, add throughout: [..] float32."""
    part = part.astype(np.float32)
    return part - (part.mean() if part.ndim == 4 else part.mean(0))


def _same(a: Signature, b: Signature) -> bool:
    if abs(a.seconds - b.seconds) > _slack(max(a.seconds, b.seconds)) or (a.video is None) != (b.video is None):
        return False
    verdicts = {_same_video(a.video, b.video), _same_audio(a.audio, b.audio)}
    if "different" in verdicts:
        return False
    return "same" in verdicts or verdicts == {"still", "unknown"}


def _same_video(a: np.ndarray | None, b: np.ndarray | None) -> str:
    """same, different, like (not denied, as unknown), unknown; or still: the same picture, in which nothing moves."""
    if a is None or b is None:
        return "unknown"
    a, b = a.astype(np.float32), b.astype(np.float32)
    if np.sqrt(np.mean((a - b) ** 2)) > SAME_LEVEL:
        return "different"
    if max(a.std(), b.std()) < PLAIN:
        return "unknown"
    likeness = _cosine(a - a.mean(), b - b.mean())
    if likeness < LIKE_PICTURE:
        return "different"
    moves_a, moves_b = a - a.mean(0), b - b.mean(0)
    if max(moves_a.std(), moves_b.std()) < MOVES:
        return "still" if likeness >= SAME_STILL else "unknown"
    course = _cosine(moves_a, moves_b)
    if course < LIKE_MOTION:
        return "different"
    return "same" if likeness >= SAME_PICTURE and course >= SAME_MOTION else "like"


def _same_audio(a: np.ndarray | None, b: np.ndarray | None) -> str:
    """same, different or unknown."""
    if a is None or b is None:
        return "unknown"
    a, b = a.astype(np.float32) / 2, b.astype(np.float32) / 2
    tone = float((a.mean(0) - b.mean(0)).std())
    varies_a, varies_b = _centred(a), _centred(b)
    varies = min(varies_a.std(), varies_b.std()) >= VARIES
    likeness = _cosine(varies_a, varies_b)
    if tone > OTHER_TONE or (varies and likeness < OTHER_SOUND):
        return "different"
    return "same" if varies and likeness >= SAME_SOUND and tone < SAME_TONE else "unknown"


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))
