"""One clip out of a media file: video frames and mono audio that begin at the same instant.

Times are seconds from the start of the container, so that files whose clocks start elsewhere (MPEG-TS) need
no care. Frames are picked by their time stamps, never by counting, so that variable frame rates come out
right. Nothing is padded in silence: a file that cannot give the clip raises `MediaError`.

Tolerances, because files seldom end both streams at the same instant:
  video: a frame is shown for its duration; the last one up to 50 ms longer, the first one from 50 ms before.
  audio: up to 50 ms missing at either end of the clip are zeros. An AAC frame lasts 21 to 64 ms.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from vatt.config import ClipConfig
from vatt.data.resample import ZEROS, mono, resample
from vatt.errors import MediaError

TOLERANCE = 0.05  # seconds; see above
EPSILON = 1e-3  # seconds; Matroska rounds time stamps to milliseconds
PRE_ROLL = 0.3  # seconds decoded before the clip: audio codecs need some (Opus 80 ms, AAC at 8 kHz 128 ms)
NEAR = 1.0  # seconds; decoding from the beginning is as fast as seeking up to here
BACK = 10.0  # seconds before the clip at which reading starts again when a seek overshot


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a file holds. Clips can be cut between `start` and `duration`, while all its streams run.

    Both are seconds from the start of the container; `start` is 0 but where one stream begins late.
    """

    path: str
    duration: float
    has_audio: bool
    start: float = 0.0


def probe(path: str | Path) -> MediaInfo:
    """Reads how long a file is, from the packets at its end: headers may promise more than there is.

    Raises:
      MediaError: the file is missing, is not media, has no video, or is truncated.
    """
    with _opened(path) as container:
        streams, origin = _streams(container), _origin(container)
        begins = [float((stream.start_time or 0) * stream.time_base) - origin for stream in streams]
        stated = (container.duration or 0) / av.time_base
        ends = _ends(container, streams, origin, stated)
    if len(ends) < len(streams):
        with _opened(path) as container:  # a seek may miss what a long stream's short companion holds
            ends = _ends(container, _streams(container), origin, 0.0)
    if len(ends) < len(streams):
        raise MediaError(path, "a stream of the file is empty; it may be truncated")
    # Matroska states the end on its own clock, which may start late, rather than how long it lasts.
    last = max(ends.values())
    if last < stated - max(origin, 0.0) - 1.0:
        raise MediaError(path, f"truncated: it should last {stated:.2f} s but ends at {last:.2f} s")
    start = max(begins) if max(begins) > TOLERANCE else 0.0
    return MediaInfo(path=str(path), duration=min(ends.values()), has_audio=len(streams) > 1, start=start)


def decode_clip(path: str | Path, start: float, clip: ClipConfig) -> dict[str, np.ndarray]:
    """Decodes the clip that begins at `start`.

    Frame i is the one shown at `start + i / clip.fps`, its short side scaled to `clip.size` and its centre
    cut out; the file's rotation is applied. The audio is mixed down to mono and resampled to
    `clip.sample_rate`; it starts at the same instant, to the nearest sample, or to the container's clock
    where that is coarser (Matroska: 1 ms).

    Args:
      path: the media file.
      start: where the clip begins (seconds from the start of the file).
      clip: frames, frame rate, picture size, sampling rate, samples.

    Returns:
      `video` [T H W C] uint8, `audio` [S] float32 in [-1, 1], `audio_mask` [] bool: False, and zeros for
      audio, when the file has no audio stream.

    Raises:
      MediaError: the file is missing, is not media, is damaged, or does not hold the whole clip.
    """
    # A seek may land too late (MPEG-TS goes to the next key frame): then read from further back.
    for entry in [None] if start < NEAR else [start - PRE_ROLL, start - BACK, None]:
        with _opened(path) as container:
            streams, origin = _streams(container), _origin(container)
            parts: dict[int, _Picture | _Sound] = {streams[0].index: _Picture(path, start, clip)}
            if len(streams) > 1:
                parts[streams[1].index] = _Sound(path, start, clip)
            if entry is not None:
                container.seek(int((entry + origin) * av.time_base))
            _read(container, streams, parts, origin)
            if entry is None or all(part.entered for part in parts.values()):
                results = [part.result() for part in parts.values()]
                audio = results[1] if len(results) > 1 else np.zeros(clip.samples, np.float32)
                return {"video": results[0], "audio": audio, "audio_mask": np.array(len(results) > 1)}
    raise AssertionError("the last entry is the beginning of the file")


def _read(container, streams: list, parts: dict, origin: float) -> None:
    """Decodes packets from where the container stands until every part has what it needs."""
    bases = {stream.index: float(stream.time_base) for stream in streams}
    waiting = len(parts)
    for packet in container.demux(streams):
        index = packet.stream_index
        part, base = parts[index], bases[index]
        if part.done or (packet.pts is not None and part.skips(packet.pts * base - origin)):
            continue
        for frame in packet.decode():
            if frame.pts is not None and not part.done:
                part.add(frame.pts * base - origin, frame)
        if part.done:
            waiting -= 1
            if not waiting:
                return


class _Picture:
    """Gathers the frames shown at the instants of a clip, out of frames in order; converts only those."""

    def __init__(self, path, start: float, clip: ClipConfig):
        self.path = path
        self.start = start
        self.fps = clip.fps
        self.pictures = np.empty((clip.frames, clip.size, clip.size, 3), np.uint8)
        self.kept = 0
        self.shown: Any = None  # the frame on show, until the next one comes
        self.since = 0.0
        self.period = 0.0  # between the last two frames
        self.first = np.inf
        self.reformatter = VideoReformatter()

    @property
    def done(self) -> bool:
        return self.kept == len(self.pictures)

    @property
    def entered(self) -> bool:
        return self.first <= self.start + EPSILON

    def skips(self, time: float) -> bool:
        return False  # later frames may refer to any earlier one

    def add(self, time: float, frame: av.VideoFrame) -> None:
        if self.shown is None:
            self.first = time
        else:
            self._show_until(time - EPSILON)
            self.period = time - self.since
        self.shown, self.since = frame, time

    def _show_until(self, end: float) -> None:
        picture = None
        while not self.done and self.start + self.kept / self.fps < end:
            if picture is None:
                picture = self._convert(self.shown)
            self.pictures[self.kept] = picture
            self.kept += 1

    def _convert(self, frame: av.VideoFrame) -> np.ndarray:
        """Scales the short side and cuts out the centre. [H W C]"""
        size = self.pictures.shape[1]
        scale = size / min(frame.width, frame.height)
        width, height = max(size, round(frame.width * scale)), max(size, round(frame.height * scale))
        # One thread: swscale would start one a core for every frame.
        picture = self.reformatter.reformat(
            frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR, threads=1
        ).to_ndarray()
        top, left = (height - size) // 2, (width - size) // 2
        picture = picture[top : top + size, left : left + size]
        return np.rot90(picture, frame.rotation // 90) if frame.rotation else picture

    def result(self) -> np.ndarray:
        clip_end = self.start + (len(self.pictures) - 1) / self.fps
        asked = f"asked for video from {self.start:.2f} to {clip_end:.2f} s"
        if self.shown is None:
            raise MediaError(self.path, f"{asked}; no frame of it could be decoded")
        if self.first > self.start + TOLERANCE:
            raise MediaError(self.path, f"{asked}; the video starts at {self.first:.2f} s")
        if not self.done:
            frame = self.shown
            end = self.since + (float(frame.duration * frame.time_base) or self.period)
            self._show_until(end + TOLERANCE)
            if not self.done:
                raise MediaError(self.path, f"{asked}; the video ends at {end:.2f} s")
        return self.pictures


class _Sound:
    """Gathers the audio around a clip, out of frames that come in order."""

    def __init__(self, path, start: float, clip: ClipConfig):
        self.path = path
        self.start = start
        self.clip = clip
        self.end = start + clip.samples / clip.sample_rate
        self.samples = av.AudioFifo()  # joins frames in one array, which costs less than an array each
        self.first = np.inf
        self.since = np.inf  # where the next frame should begin
        self.ahead = 2 * ZEROS / min(clip.sample_rate, 8000)  # as far as the filter that resamples looks

    @property
    def done(self) -> bool:
        return self.first < np.inf and self.since > self.end + self.ahead

    @property
    def entered(self) -> bool:
        return self.first <= self.start - PRE_ROLL / 2

    def skips(self, time: float) -> bool:
        return time < self.start - PRE_ROLL

    def add(self, time: float, frame: av.AudioFrame) -> None:
        if self.first == np.inf:
            self.first = self.since = time
        elif abs(time - self.since) > TOLERANCE and time < self.end:
            raise MediaError(self.path, f"the audio jumps from {self.since:.2f} to {time:.2f} s; re-encode it")
        frame.pts = None  # checked just now; the queue would allow for no rounding
        try:
            self.samples.write(frame)
        except ValueError as error:
            raise MediaError(self.path, f"the audio changes its format at {time:.2f} s; re-encode it") from error
        self.since += frame.samples / frame.sample_rate

    def result(self) -> np.ndarray:
        clip = self.clip
        asked = f"asked for audio from {self.start:.2f} to {self.end:.2f} s"
        sound = self.samples.read()
        if sound is None:
            raise MediaError(self.path, f"{asked}; none of it could be decoded")
        if self.first > self.start + TOLERANCE:
            raise MediaError(self.path, f"{asked}; the audio starts at {self.first:.2f} s")
        if self.since < self.end - TOLERANCE:
            raise MediaError(self.path, f"{asked}; the audio ends at {self.since:.2f} s")
        # Samples count from the start of the container at either rate, so that a clip does not depend on
        # where decoding began.
        source, target = sound.sample_rate, clip.sample_rate
        first, start = round(self.first * source), round(self.start * target)
        audio = resample(mono(sound), source, target, offset=first, start=start, samples=clip.samples)
        return np.clip(audio, -1, 1, out=audio)


@contextmanager
def _opened(path) -> Iterator:
    """The open container. Errors of the codecs, within the block too, become `MediaError`."""
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            yield container
    except FileNotFoundError as error:
        raise MediaError(path, "no such file") from error
    except (av.error.FFmpegError, OSError) as error:
        reason = f"cannot be decoded ({error.strerror or error}); it may be damaged or not media"
        raise MediaError(path, reason) from error


def _streams(container) -> list:
    """The video stream and, if there is one, the audio stream, each set to decode in the calling thread."""
    video = container.streams.best("video")
    if video is None or video.disposition & Disposition.attached_pic:
        raise MediaError(container.name, "has no video stream")
    audio = container.streams.best("audio")
    streams = [video] if audio is None else [video, audio]
    for stream in streams:
        stream.thread_type = "NONE"  # callers decode many clips at once; codec threads would only add work
        stream.codec_context.thread_count = 1
    return streams


def _origin(container) -> float:
    return (container.start_time or 0) / av.time_base


def _ends(container, streams: list, origin: float, stated: float) -> dict[int, float]:
    """Where each stream ends, by its index, from the packets of the last second (of all, if not `stated`)."""
    if stated > 2 * NEAR:
        container.seek(int((stated + origin - NEAR) * av.time_base))
    ends: dict[int, float] = {}
    for packet in container.demux(streams):
        if packet.pts is not None:
            duration = packet.duration or 0
            end = float((packet.pts + duration) * packet.time_base) - origin
            ends[packet.stream_index] = max(end, ends.get(packet.stream_index, 0.0))
    for stream in streams:
        if stream.index in ends and stream.duration:  # the end of the last packet may be padding
            stated_end = float(((stream.start_time or 0) + stream.duration) * stream.time_base) - origin
            ends[stream.index] = min(ends[stream.index], stated_end)
    return ends
