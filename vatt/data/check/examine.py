"""One media file, examined: its facts, its faults, a thumbnail, and what it looks and sounds like."""

import hashlib
import io
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import av
import av.error
import numpy as np
from PIL import Image

from vatt.config import ClipConfig
from vatt.data.check.alike import Loudness, Pictures, Signature
from vatt.data.crops import Box
from vatt.data.items import VIDEO, Decoded, Encoded, Item, Medium, Slice
from vatt.data.media.canvas import to_rgb
from vatt.data.media.clip import MediaInfo, decode_clip, is_silent, probe
from vatt.data.media.container import Opened, opened
from vatt.data.media.resample import mono
from vatt.errors import MediaError

MEMORY = 8 << 30  # bytes of address space
BUDGET, SLOWEST = 60.0, 10.0  # seconds of a core a file may take, and how many more for each that it lasts
LOUDEST = 1e4  # of full scale (80 dB): no sound, but damage
GAP = 0.05  # seconds by which sound may jump: no clip can be cut across more
DIFFER = 0.25  # seconds between the ends of sound and picture that go unreported
LATE = 0.05  # seconds after the start at which sound or picture may begin unreported
NAMED = 3


@dataclass(kw_only=True)
class Exam:
    """What was found in a file. faults: (a key of FAULTS, details). thumbnail: JPEG."""

    facts: dict[str, Any] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    thumbnail: bytes = b""
    signature: Signature | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """place: tells it from others. quick: probe only. digest: hash the content: another file has the same size."""

    media: Medium
    place: int = 0
    quick: bool = False
    digest: bool = False


def examine(task: Task, alive: Callable[[], None] = lambda: None) -> Exam:
    """Probes a file and, unless quick, decodes it from beginning to end once, in bounded memory.

    Args:
      alive: called while it is at work (vatt.data.crew).
    """
    _limit_memory()
    try:
        return _examine(task, alive)
    except Exception as error:  # whatever a file does to the libraries that read it costs that file alone
        return Exam(faults=[("crashes", f"{type(error).__name__}: {error}")])


@lru_cache(maxsize=1)
def _limit_memory() -> None:
    """Of worker processes: a file that asks for more fails, before the system ends other processes for it."""
    if sys.platform == "linux" and multiprocessing.parent_process() is not None:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY if hard < 0 else min(MEMORY, hard), hard))


def _examine(task: Task, alive: Callable[[], None]) -> Exam:
    exam, media = Exam(), task.media
    name = media.name if isinstance(media, Slice | Encoded | Decoded) else str(media)
    try:
        if not isinstance(media, Decoded):
            exam.facts["bytes"] = _size(media)
            if task.digest:
                exam.facts["sha256"] = _digest(media, alive)
        info = probe(media)
    except FileNotFoundError:
        exam.faults.append(("missing", ""))
        return exam
    except OSError as error:
        exam.faults.append(("unreadable", error.strerror or str(error)))
        return exam
    except MediaError as error:
        exam.faults.append((error.kind, error.reason))
        if error.kind != "truncated":
            return exam
        info = None  # there may be something to see
    if info is not None:
        _tell(exam, info, name)
    try:
        if isinstance(media, Decoded):
            return exam
        if info is not None and info.still:
            if not task.quick:
                _look(exam, media, info)
            return exam
        with opened(media) as file:
            _read(exam, file, quick=task.quick, alive=alive)
    except MediaError as error:
        exam.faults.append((error.kind, error.reason))
    if info is None:  # all else follows from its being cut short
        exam.faults = [(kind, reason) for kind, reason in exam.faults if kind == "truncated"]
    return exam


def _look(exam: Exam, media: Medium, info: MediaInfo) -> None:
    """Decodes a picture."""
    item = Item(id="", media=media, end=np.inf, has_audio=False, still=True)
    clip = ClipConfig(frames=1, size=128, samples=1)
    drawn = decode_clip(item, 0.0, clip, crop=lambda width, height: Box(0, 0, height, width), canvas=128)
    picture = to_rgb(drawn["video"], drawn["video_box"], int(drawn["video_colour"]), 128)[0]
    pictures = Pictures()
    pictures.take(0.0, picture)
    exam.signature = Signature(seconds=0.0, video=pictures.signature(), audio=None)
    scale = 128 / max(info.width, info.height)
    shape = max(1, round(info.width * scale)), max(1, round(info.height * scale))
    exam.thumbnail = _jpeg(np.asarray(Image.fromarray(picture).resize(shape)))


def _size(media: str | Slice | Encoded) -> int:
    if isinstance(media, Encoded):
        return len(media.data)
    return media.size if isinstance(media, Slice) else os.path.getsize(media)


def _digest(media: str | Slice | Encoded, alive: Callable[[], None]) -> str:
    if isinstance(media, Encoded):
        return hashlib.sha256(media.data).hexdigest()
    digest, left = hashlib.sha256(), _size(media)
    with open(media.path if isinstance(media, Slice) else media, "rb") as file:
        file.seek(media.offset if isinstance(media, Slice) else 0)
        while left > 0 and (part := file.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)
            alive()
    return digest.hexdigest()


def _tell(exam: Exam, info: MediaInfo, name: str) -> None:
    """Facts and faults that the probe knows."""
    exam.facts |= {
        key: _rounded(value) if isinstance(value, float) else value
        for key, value in {
            "start": info.start,
            "end": info.end,
            "still": info.still,
            "has_video": info.has_video,
            "has_audio": info.has_audio,
            "width": info.width,
            "height": info.height,
            "fps": info.fps,
            "rotation": info.rotation,
            "sample_rate": info.sample_rate,
            "channels": info.channels,
        }.items()
    }
    if not info.has_video and name.lower().rpartition(".")[2] in VIDEO:  # a sound file is not expected to have any
        exam.faults.append(("no_video", ""))
    if info.has_video and not info.has_audio and not info.still:
        exam.faults.append(("no_audio", ""))
    if info.rotation % 360:
        exam.faults.append(("rotated", f"by {info.rotation}°"))
    if info.variable_rate:
        exam.faults.append(("variable_rate", f"{info.fps:.2f} fps on average"))
    if info.has_video and info.has_audio:
        picture, sound = info.duration_video, info.duration_audio
        if abs(picture - sound) > DIFFER:
            exam.faults.append(("lengths_differ", f"picture {picture:.2f} s, sound {sound:.2f} s"))
        if info.late_start > LATE:
            exam.faults.append(("late_start", f"both run from {info.late_start:.2f} s on"))


def _rounded(value: float) -> float | None:
    """To thousandths; None for what JSON has no number for, such as the end of a picture."""
    return round(value, 3) if np.isfinite(value) else None


def _read(exam: Exam, file: Opened, *, quick: bool, alive: Callable[[], None]) -> None:
    """The pass over all packets."""
    for stream in file.streams:
        exam.facts[f"{stream.type}_codec"] = stream.codec_context.name
    if quick:
        return
    allowed = BUDGET + SLOWEST * (file.container.duration or 0) / av.time_base
    until = time.process_time() + allowed  # whoever hangs, or is alone on a slow disk, uses none: that is Crew.patience
    picture = _Picture(file.origin) if file.video is not None else None
    sound = _Sound(file.origin) if file.audio is not None else None
    sinks = {}
    if file.video is not None:
        sinks[file.video.index] = picture
    if file.audio is not None:
        sinks[file.audio.index] = sound
    for packet, frames in _decoded(exam, file):
        alive()
        if time.process_time() > until:
            exam.faults.append(("unchecked", f"decoding takes longer than {allowed:.0f} s of a core"))
            return  # a part tells neither silence nor likeness
        sink = sinks[packet.stream_index]
        if frames is None:
            sink.bad += 1
        for frame in frames or ():
            sink.add(frame)
    _conclude(exam, picture, sound)


def _decoded(exam: Exam, file: Opened) -> Iterator[tuple[Any, list | None]]:
    """Packets with the frames they gave; None where one cannot be decoded. Damage to the file ends it."""
    packets = file.container.demux(file.streams)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            exam.faults.append(("damaged", f"reading stops: {error.strerror}"))
            return
        if packet is None:
            return
        try:
            yield packet, packet.decode()
        except (av.error.FFmpegError, ValueError):
            yield packet, None


class _Picture:
    def __init__(self, origin: float):
        self.pictures, self.origin = Pictures(), origin
        self.frames = self.bad = self.corrupt = 0
        self.last = 0.0

    def add(self, frame: av.VideoFrame) -> None:
        self.frames += 1
        self.corrupt += frame.is_corrupt
        if frame.time is not None:
            self.last = frame.time - self.origin
        self.pictures.add(self.last, frame)


class _Sound:
    def __init__(self, origin: float):
        self.loudness, self.origin = Loudness(), origin
        self.frames = self.bad = 0
        self.low = self.high = 0.0  # of full scale
        self.odd = 0  # samples that are not finite, or beyond what is sound
        self.next: float | None = None
        self.gaps: list[str] = []

    def add(self, frame: av.AudioFrame) -> None:
        self.frames += 1
        samples = mono(frame)
        sane = abs(samples) < LOUDEST
        if not sane.all():
            self.odd += int((~sane).sum())
            samples = np.where(sane, samples, np.float32(0))
        self.low, self.high = float(samples.min(initial=self.low)), float(samples.max(initial=self.high))
        self.loudness.add(samples, frame.sample_rate)
        at = frame.time
        if at is not None and self.next is not None and abs(at - self.next) > GAP:
            self.gaps.append(f"{self.next - self.origin:.2f} to {at - self.origin:.2f} s")
        begin = at if at is not None else self.next
        self.next = None if begin is None else begin + frame.samples / frame.sample_rate

    @property
    def silent(self) -> bool:
        """As training judges a clip."""
        extremes = np.rint(np.clip([self.low * 32768, self.high * 32768], -32768, 32767))
        return is_silent(extremes.astype(np.int16))


def _conclude(exam: Exam, picture: _Picture | None, sound: _Sound | None) -> None:
    """Faults and the signature, from all that was decoded."""
    facts, faults = exam.facts, exam.faults
    for what, sink in (("picture", picture), ("sound", sound)):
        if sink is None:
            continue
        if not sink.frames:
            faults.append(("unreadable", f"nothing of its {what} can be decoded"))
        elif sink.bad:
            packets = "1 packet" if sink.bad == 1 else f"{sink.bad} packets"
            faults.append(("damaged", f"{packets} of its {what} cannot be decoded"))
    if picture and picture.frames:
        facts["frames"] = picture.frames
        if picture.corrupt and not picture.bad:
            faults.append(("damaged", f"{picture.corrupt} frames are decoded with errors"))
    if sound and sound.frames:
        facts["peak_db"] = round(20 * np.log10(max(sound.high, -sound.low, 1e-6)), 1)
        if sound.odd:
            faults.append(("damaged", f"{sound.odd} samples of its sound are no numbers, or beyond any loudness"))
        if sound.silent:
            faults.append(("silent", f"peak {facts['peak_db']:.0f} dB"))
        if sound.gaps:
            more = f" and {len(sound.gaps) - NAMED} more" if len(sound.gaps) > NAMED else ""
            faults.append(("damaged", f"the sound jumps from {', '.join(sound.gaps[:NAMED])}{more}"))
    video = None
    if picture and picture.frames:
        video = picture.pictures.signature()
        exam.thumbnail = _jpeg(picture.pictures.clearest())
    audio = None if sound is None or not sound.frames or sound.silent else sound.loudness.signature()
    seconds = max(picture.last if picture else 0.0, (sound.next or 0.0) - sound.origin if sound else 0.0)
    exam.signature = Signature(seconds=seconds, video=video, audio=audio)


def _jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=70)
    return buffer.getvalue()
