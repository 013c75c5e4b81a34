"""Parts of a media file, encoded anew so that clips of them decode fast: short side small, fixed rate, short GOP.

Frame i of a part shows what is on show at `start + i / fps` of the original, by the same rule as
`vatt.data.media.decode_clip`, and its sound starts at the same instant; so a clip of the part is that clip of the
original, but for the loss of the codecs. Parts that lie close together are cut in one pass over the file, and no more
of it is held than the sound of the parts being cut and one picture.
"""

import heapq
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image

from vatt.data.canvas import BT601, BT709
from vatt.data.container import Opened, check_size, opened
from vatt.data.gather import EPSILON, PRE_ROLL, TOLERANCE, aspect, colour_of
from vatt.data.items import Encoded, Slice
from vatt.data.media import BACK, NEAR
from vatt.data.resample import ZEROS, mono, resample
from vatt.data.stills import read_still
from vatt.errors import MediaError

# Measured on 10 s of Big Buck Bunny at 456x256 with a reader of random clips of 3.2 s, in clips per CPU-second and
# kB a second of media. x264: `fastdecode` doubles the speed (49 to 25 without); presets from superfast to medium
# decode alike within the noise, and veryfast makes files as small as medium in three quarters of the time; B frames
# save 12 % and cost 3 % of the speed, and their delay; a GOP of 5 gains nothing, and costs 24 %.
H264 = {"preset": "veryfast", "tune": "fastdecode", "crf": "23", "g": "10", "bf": "0", "threads": "1"}
# Sound: AAC at 96 kb/s 49 clips and 71 kB, FLAC 52 and 84 (twice as much for loud music), PCM 51-57 and 155, MP3 47
# and 71, ALAC 38 and 136, Opus 39 and 68. AAC it is: within 6 % of the fastest that is not twice the size. Its
# priming is told in the edit list. Without noise substitution it decodes alike from any packet.
AAC = {"aac_pns": "0"}
BIT_RATE = 96_000
JPEG_QUALITY = 90
APART = 20.0  # seconds between parts from which seeking is cheaper than decoding on
AT_ONCE = 16  # most parts cut in one pass at any instant: each has an encoder of some 10 MB
DRIFT = 0.02  # seconds that the sound's clock may stray from the count of its samples before it is set right
PRIMARIES = {BT601: 6, BT709: 1}  # SMPTE 170M and BT.709, for matrix, primaries and transfer alike (ISO/IEC 23091-2)


@dataclass(frozen=True, kw_only=True)
class Form:
    """How media are stored: short side at most `size` (pixels), `fps` frames a second, mono at `sample_rate` (Hz)."""

    size: int = 256
    fps: float = 10.0
    sample_rate: int = 48_000

    @property
    def rate(self) -> Fraction:
        return Fraction(self.fps).limit_denominator(1001)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What to cut: from `start` to `end` (seconds from the start of the file)."""

    start: float
    end: float


def transcode(
    medium: str | Slice | Encoded,
    parts: Sequence[Part],
    *,
    form: Form,
    has_video: bool,
    has_audio: bool,
    alive: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Part, bytes | MediaError]]:
    """Cuts the parts out of a medium, each as the bytes of an MP4 file, or the reason why it cannot be had.

    The same medium, parts and form give the same bytes with the same versions of the codecs.

    Args:
      parts: in order of their starts; they may overlap.
      has_video, has_audio: which of its streams to take.
      alive: called for every packet, so that a watchman sees that work goes on.

    Yields:
      Every part once, as soon as it is done.

    Raises:
      MediaError: the medium cannot be opened.
    """
    for group in _groups(parts):
        # A seek may land too late (MPEG-TS goes to the next key frame): then read from further back.
        start = group[0].start
        for entry in [None] if start < NEAR else [start - PRE_ROLL, start - BACK, None]:
            try:
                for part, result in _cut(medium, tuple(group), entry, form, has_video, has_audio, alive):
                    group.remove(part)
                    yield part, result
                break
            except _OvershotError:
                continue


def _groups(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Parts that are cut in one pass over the medium: near each other, and not too many at once."""
    waiting = list(parts)
    while waiting:
        group: list[Part] = []
        later: list[Part] = []
        ends: list[float] = []  # of the parts being cut at the start of the next, a heap
        last = 0.0
        for part in waiting:
            while ends and ends[0] <= part.start:
                heapq.heappop(ends)
            if group and (part.start > last + APART or len(ends) >= AT_ONCE):
                later.append(part)
                continue
            group.append(part)
            heapq.heappush(ends, part.end)
            last = max(last, part.end)
        yield group
        waiting = later


class _OvershotError(Exception):
    """A seek landed behind the part."""


def _cut(
    medium: str | Slice | Encoded,
    parts: Sequence[Part],
    entry: float | None,
    form: Form,
    has_video: bool,
    has_audio: bool,
    alive: Callable[[], None],
) -> Iterator[tuple[Part, bytes | MediaError]]:
    with opened(medium) as file:
        if entry is not None:
            if file.container.format.name == "mp3":
                raise _OvershotError  # it has no index, and guesses where it landed
            file.seek(entry)
        cuts = [_Cut(file.name, part, form, has_video, has_audio) for part in parts]
        feeds: dict[int, _Pictures | _Sounds] = {}
        if has_video and file.video is not None:
            feeds[file.video.index] = _Pictures(file, cuts, form, entry)
        if has_audio and file.audio is not None:
            feeds[file.audio.index] = _Sounds(file, cuts, form, entry)
        if len(feeds) < has_video + has_audio:
            raise MediaError(file.name, "lacks a stream that it had a moment ago")
        for packet in file.container.demux([stream for stream in file.streams if stream.index in feeds]):
            alive()
            feeds[packet.stream.index].feed(packet)  # its own index is wrong in the packets that end the streams
            yield from _finished(cuts)
            if not cuts:
                return
        for feed in feeds.values():
            feed.finish()
        yield from _finished(cuts)


def _finished(cuts: list["_Cut"]) -> Iterator[tuple[Part, bytes | MediaError]]:
    for cut in [cut for cut in cuts if cut.done]:
        cuts.remove(cut)
        yield cut.part, cut.result()


class _Cut:
    """One part in the making."""

    def __init__(self, name: str, part: Part, form: Form, has_video: bool, has_audio: bool):
        self.name = name
        self.part = part
        self.form = form
        self.has_audio = has_audio
        self.frames = max(1, ceil((part.end - part.start) * form.fps - 1e-6)) if has_video else 0
        self.kept = 0
        self.sound: np.ndarray | None = None  # [S] float32, once it is whole
        self.pieces: list[np.ndarray] = []  # of the original's sound, [S] float32 at its own rate
        self.first = np.inf  # where the pieces begin
        self.error: MediaError | None = None
        self.file = io.BytesIO()
        self.container: Any = None

    @property
    def instant(self) -> float:
        """Of the next frame to be shown."""
        return self.part.start + self.kept / self.form.fps

    @property
    def pictured(self) -> bool:
        return self.error is not None or self.kept == self.frames

    @property
    def sounded(self) -> bool:
        return self.error is not None or not self.has_audio or self.sound is not None

    @property
    def done(self) -> bool:
        return self.pictured and self.sounded

    def fail(self, reason: str, kind: str = "damaged") -> None:
        self.error = self.error or MediaError(self.name, f"from {self.part.start:.2f} s: {reason}", kind)
        self.pieces = []

    def show(self, picture: "_Picture") -> None:
        """Adds a frame."""
        if self.container is None:
            self.container = self._open(picture.shape, picture.colour)
        frame = picture.frame()
        frame.pts, frame.time_base = self.kept, 1 / self.form.rate
        self.container.mux(self.video.encode(frame))
        self.kept += 1

    def _open(self, shape: tuple[int, int] | None, colour: int) -> Any:
        # bitexact: no version of FFmpeg, no date.
        container: Any = av.open(self.file, "w", format="mp4", options={"fflags": "+bitexact"})
        if shape is not None:
            self.video = container.add_stream("libx264", self.form.rate, options=H264)
            self.video.width, self.video.height = shape
            self.video.pix_fmt = "yuv420p"
            context = self.video.codec_context
            context.color_range = ColorRange.MPEG
            context.colorspace = context.color_primaries = context.color_trc = PRIMARIES[colour]
        if self.has_audio:
            self.audio = container.add_stream("aac", self.form.sample_rate, options=AAC)
            self.audio.layout = "mono"
            self.audio.bit_rate = BIT_RATE
        return container

    def result(self) -> bytes | MediaError:
        if self.error is not None:
            return self.error
        if self.container is None:
            self.container = self._open(None, BT601)
        if self.frames:
            self.container.mux(self.video.encode(None))
        if self.sound is not None:
            frame = av.AudioFrame.from_ndarray(self.sound[None], "fltp", "mono")
            frame.pts, frame.sample_rate, frame.time_base = 0, self.form.sample_rate, Fraction(1, self.form.sample_rate)
            self.container.mux(self.audio.encode(frame))
            self.container.mux(self.audio.encode(None))
        self.container.close()
        return self.file.getvalue()


class _Picture:
    """A frame of the original, and what it becomes, once somebody wants it.

    shape: width and height that it gets, upright and with square pixels.
    colour: the matrix that it keeps, BT601 or BT709.
    """

    def __init__(self, frame: av.VideoFrame, pixel: float, reformatter: VideoReformatter, size: int):
        self._frame, self._reformatter = frame, reformatter
        width, height = frame.width * pixel, frame.height
        scale = min(1.0, size / min(width, height))
        # Even, as 4:2:0 has one sample of colour for two by two of light.
        self._scaled = max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))
        self._turns = round(frame.rotation / 90) % 4
        self.shape = (self._scaled[1], self._scaled[0]) if self._turns % 2 else self._scaled
        self.colour = colour_of(frame) % 2

    def frame(self) -> av.VideoFrame:
        return av.VideoFrame.from_ndarray(self._planes, "yuv420p")

    @cached_property
    def _planes(self) -> np.ndarray:
        """[3/2 H W] uint8, limited range."""
        width, height = self._scaled
        frame, matrix = self._frame, Colorspace.ITU709 if self.colour == BT709 else Colorspace.ITU601
        other = frame.colorspace in (Colorspace.SMPTE240M, Colorspace.BT2020)
        planes = self._reformatter.reformat(
            frame,
            width,
            height,
            "yuv420p",
            src_colorspace=frame.colorspace if other else matrix,
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG if colour_of(frame) >= 2 else ColorRange.MPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR,
            threads=1,  # swscale would start one a core for every frame
        ).to_ndarray()
        if not self._turns:
            return planes
        luma, chroma = planes[:height], planes[height:].reshape(2, height // 2, width // 2)
        turned = np.rot90(chroma, self._turns, axes=(1, 2)).reshape(-1, self.shape[0])
        return np.concatenate([np.rot90(luma, self._turns), turned])


class _Pictures:
    """Hands the frames of a file, in order, to the cuts that show them; converts only those.

    What depends on a damaged packet is not shown: its own frame, and any up to the next key frame, as in
    `vatt.data.gather.Pictures`.
    """

    def __init__(self, file: Opened, cuts: list[_Cut], form: Form, entry: float | None):
        self.name, self.cuts, self.form, self.entry = file.name, cuts, form, entry
        stream: Any = file.video
        self.context = stream.codec_context
        self.base, self.origin, self.pixel = float(stream.time_base), file.origin, aspect(stream)
        self.reformatter = VideoReformatter()
        self.shown: _Picture | None = None  # the frame on show, until the next one comes
        self.since = 0.0
        self.length = 0.0  # that the frame on show should last
        self.period = 0.0  # between the last two frames
        self.size: tuple[int, int] | None = None
        self.suspects: list[float] = []  # instants of packets that are damaged, or refer to such
        self.hurt = False  # since the last key frame
        self.healed = -np.inf  # the key frame that ended the damage; frames before it may still refer to it

    def feed(self, packet: av.Packet) -> None:
        """Takes the next packet, or the empty one that ends the stream."""
        time = None if packet.pts is None else packet.pts * self.base - self.origin
        try:
            frames = self.context.decode(packet)
        except av.error.FFmpegError:
            self.hurt, frames = True, []
            self.suspects.append(self.since if time is None else time)
        else:
            if time is not None and (self.hurt or time < self.healed):
                if self.hurt and packet.is_keyframe:
                    self.hurt, self.healed = False, time
                else:
                    self.suspects.append(time)
        for frame in frames:
            if frame.pts is not None:
                self._add(frame.pts * self.base - self.origin, frame)

    def _add(self, time: float, frame: av.VideoFrame) -> None:
        if frame.is_corrupt:
            self.suspects.append(time)
        if self.shown is None:
            if self.entry is not None and time > self.cuts[0].part.start + EPSILON:
                raise _OvershotError
            for cut in self.cuts:
                if time > cut.part.start + TOLERANCE:
                    cut.fail(f"the video starts at {time:.2f} s", "late_start")
        else:
            self._show_until(time - EPSILON)
            self.period = time - self.since
        check_size(self.name, frame.width, frame.height)
        self.size = self.size or (frame.width, frame.height)
        if (frame.width, frame.height) != self.size:  # shown at the size of the first, as players do
            frame = self.reformatter.reformat(frame, *self.size, threads=1)
        self.shown, self.since = _Picture(frame, self.pixel, self.reformatter, self.form.size), time
        self.length = float((frame.duration or 0) * frame.time_base) if frame.time_base else 0.0
        self.suspects = [suspect for suspect in self.suspects if suspect >= time - EPSILON]

    def _show_until(self, end: float) -> None:
        assert self.shown is not None
        for cut in self.cuts:
            while not cut.pictured and (instant := cut.instant) < end:
                if any(self.since - EPSILON <= time <= instant + EPSILON for time in self.suspects):
                    cut.fail(f"the video is damaged at {instant:.2f} s", "damaged")
                else:
                    cut.show(self.shown)

    def finish(self) -> None:
        """The stream has ended."""
        if self.shown is None and self.entry is not None:
            raise _OvershotError
        end = self.since + (self.length or self.period)
        if self.shown is not None:
            self._show_until(end + TOLERANCE)
        for cut in self.cuts:
            if not cut.pictured:
                cut.fail(f"the video ends at {end:.2f} s" if self.shown else "no frame could be decoded", "truncated")


class _Sounds:
    """Hands the sound of a file, in order, to the cuts that want it."""

    def __init__(self, file: Opened, cuts: list[_Cut], form: Form, entry: float | None):
        self.cuts, self.form, self.entry = cuts, form, entry
        stream: Any = file.audio
        self.context = stream.codec_context
        self.base, self.origin = float(stream.time_base), file.origin
        self.rate = 0
        self.first = np.inf
        self.since = np.inf  # where the next frame should begin
        self.ahead = 2 * ZEROS / min(form.sample_rate, 8000)  # as far as the filter that resamples looks

    def feed(self, packet: av.Packet) -> None:
        """Takes the next packet, or the empty one that ends the stream."""
        time = None if packet.pts is None else packet.pts * self.base - self.origin
        if time is not None and all(time < cut.part.start - PRE_ROLL for cut in self.cuts):
            return
        try:
            frames = self.context.decode(packet)
        except av.error.FFmpegError:
            time = self.since if time is None else time
            for cut in self.cuts:
                if cut.part.start - PRE_ROLL / 2 <= time < cut.part.end + self.ahead:
                    cut.fail(f"the audio is damaged at {time:.2f} s", "damaged")
            if self.first < np.inf:
                self.since = max(self.since, time)
            return
        for frame in frames:
            if frame.pts is not None:
                self._add(frame.pts * self.base - self.origin, frame)

    def _add(self, time: float, frame: av.AudioFrame) -> None:
        if self.first == np.inf:
            if self.entry is not None and time > self.cuts[0].part.start - PRE_ROLL / 2:
                raise _OvershotError
            self.rate = frame.sample_rate
            self.first = self.since = time
        sound = mono(frame)
        if frame.sample_rate != self.rate:
            self._fail(time, f"the audio changes its format at {time:.2f} s; re-encode it")
        elif abs(time - self.since) > TOLERANCE:
            self._fail(min(time, self.since), f"the audio jumps from {self.since:.2f} to {time:.2f} s; re-encode it")
            self.since = time
        elif abs(time - self.since) > DRIFT:
            strayed = round((time - self.since) * self.rate)
            sound = np.pad(sound, (strayed, 0)) if strayed > 0 else sound[-strayed:]
        begin, self.since = self.since, self.since + len(sound) / self.rate
        for cut in self.cuts:
            if cut.sounded or self.since < cut.part.start - self.ahead or begin > cut.part.end + self.ahead:
                continue
            if not cut.pieces:
                cut.first = begin
            cut.pieces.append(sound)
        for cut in self.cuts:
            if not cut.sounded and self.since > cut.part.end + self.ahead:
                self._complete(cut)

    def _fail(self, time: float, reason: str) -> None:
        for cut in self.cuts:
            if not cut.sounded and cut.part.end > time and cut.part.start - self.ahead < self.since:
                cut.fail(reason)

    def _complete(self, cut: _Cut) -> None:
        start, end = cut.part.start, cut.part.end
        last = cut.first + sum(map(len, cut.pieces)) / self.rate if cut.pieces else 0.0
        if not cut.pieces:
            cut.fail("no audio of it could be decoded", "truncated")
        elif cut.first > start + TOLERANCE:
            cut.fail(f"the audio starts at {cut.first:.2f} s", "late_start")
        elif last < end - TOLERANCE:
            cut.fail(f"the audio ends at {last:.2f} s", "truncated")
        else:
            source, target = self.rate, self.form.sample_rate
            sound = resample(
                np.concatenate(cut.pieces),
                source,
                target,
                offset=round(cut.first * source),
                start=round(start * target),
                samples=round((end - start) * target),
            )
            if np.isfinite(sound).all():
                cut.sound = sound.clip(-1, 1)
            else:
                cut.fail("the audio is not finite", "damaged")
            cut.pieces = []

    def finish(self) -> None:
        """The stream has ended."""
        if self.first == np.inf and self.entry is not None:
            raise _OvershotError
        for cut in self.cuts:
            if not cut.sounded:
                self._complete(cut)


def encode_still(medium: str | Slice | Encoded, form: Form) -> bytes:
    """A picture as JPEG, upright, its short side at most `form.size` pixels.

    Raises:
      MediaError: it cannot be read.
    """
    picture = read_still(medium)
    scale = form.size / min(picture.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
