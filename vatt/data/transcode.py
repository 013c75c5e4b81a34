"""Parts of a media file, encoded anew so that clips of them decode fast: short side small, fixed rate, short GOP.

Frame i of a part shows what is on show at `start + i / fps` of the original, by the same rule as
`vatt.data.media.decode_clip`, and its sound starts at the same instant; so a clip of the part is that clip of the
original, but for the loss of the codecs. Parts that lie close together are cut in one pass over the file, and no more
of it is held than the sound of the parts being cut and one picture.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import ceil
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from vatt.data.items import Encoded, Medium, Slice
from vatt.data.media import EPSILON, NEAR, PRE_ROLL, TOLERANCE
from vatt.data.resample import ZEROS, mono, resample
from vatt.errors import MediaError

H264 = {"preset": "veryfast", "tune": "fastdecode", "crf": "23", "g": "10", "bf": "0", "threads": "1"}
CODEC = "aac"
AAC = {"aac_pns": "0"}  # without noise substitution AAC decodes alike from any packet
BIT_RATE = 96_000
CONTAINER = "mp4"
APART = 20.0  # seconds between parts from which seeking is cheaper than decoding on
DRIFT = 0.02  # seconds that the sound's clock may stray from the count of its samples before it is set right
BT709 = 1  # FFmpeg's number of the matrix; all but BT.709 and BT.2020 are treated as BT.601


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
    medium: Medium,
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
        left = {id(part): part for part in group}
        for entry in [None] if group[0].start < NEAR else [group[0].start - PRE_ROLL, group[0].start - 10.0, None]:
            try:
                for part, result in _cut(medium, group, entry, form, has_video, has_audio, alive):
                    del left[id(part)]
                    yield part, result
                break
            except _OvershotError:
                continue
        assert not left


def _groups(parts: Sequence[Part]) -> Iterator[list[Part]]:
    group, end = [], 0.0
    for part in parts:
        if group and part.start > end + APART:
            yield group
            group = []
        group.append(part)
        end = max(end, part.end) if len(group) > 1 else part.end
    if group:
        yield group


class _OvershotError(Exception):
    """A seek landed behind the part: MPEG-TS goes to the next key frame."""


def _cut(
    medium: Medium,
    parts: list[Part],
    entry: float | None,
    form: Form,
    has_video: bool,
    has_audio: bool,
    alive: Callable[[], None],
) -> Iterator[tuple[Part, bytes | MediaError]]:
    with _opened(medium) as container:
        origin = (container.start_time or 0) / av.time_base
        streams = [container.streams.best(kind) for kind in ["video"] * has_video + ["audio"] * has_audio]
        if None in streams:
            raise MediaError(medium, "a stream of it is gone; it may have changed")
        cuts = [_Cut(medium, part, form, has_video, has_audio) for part in parts]
        feeds: dict[int, _Pictures | _Sounds] = {}
        for stream in streams:
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1  # a process a core does this already
            feed = _Pictures(cuts, form, entry) if stream.type == "video" else _Sounds(cuts, form, entry)
            feeds[stream.index] = feed
        if entry is not None:
            container.seek(int((entry + origin) * av.time_base))
        packets = container.demux(streams)
        while cuts:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:  # of the container: what lies behind cannot be found
                packet = None
            alive()
            if packet is None:
                break
            feed, base = feeds[packet.stream_index], float(packet.time_base)
            if packet.pts is not None and feed.skips(packet.pts * base - origin):
                continue
            try:
                frames = packet.decode()
            except (av.error.InvalidDataError, av.error.ArgumentError, av.error.ExternalError) as error:
                feed.damaged(error)
                continue
            for frame in frames:
                if frame.pts is not None:
                    feed.add(frame.pts * base - origin, frame)
            yield from _finished(cuts)
        for feed in feeds.values():
            feed.finish()
        yield from _finished(cuts)


def _finished(cuts: list["_Cut"]) -> Iterator[tuple[Part, bytes | MediaError]]:
    for cut in [cut for cut in cuts if cut.done]:
        cuts.remove(cut)
        yield cut.part, cut.result()


class _Cut:
    """One part in the making."""

    def __init__(self, medium: Medium, part: Part, form: Form, has_video: bool, has_audio: bool):
        self.medium = medium
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
        self.error = self.error or MediaError(self.medium, f"from {self.part.start:.2f} s: {reason}", kind)
        self.pieces = []

    def show(self, picture: "_Picture") -> None:
        """Adds a frame."""
        if self.container is None:
            self._open(picture.shape, picture.matrix)
        frame = picture.frame()
        frame.pts, frame.time_base = self.kept, 1 / self.form.rate
        self.container.mux(self.video.encode(frame))
        self.kept += 1

    def _open(self, shape: tuple[int, int] | None, matrix: int) -> None:
        # bitexact: no version of FFmpeg, no date.
        self.container = av.open(self.file, "w", format=CONTAINER, options={"fflags": "+bitexact"})
        if shape is not None:
            self.video = self.container.add_stream("libx264", self.form.rate, options=H264)
            self.video.width, self.video.height = shape
            self.video.pix_fmt = "yuv420p"
            context = self.video.codec_context
            context.color_range, context.colorspace = ColorRange.MPEG, matrix
            context.color_primaries = context.color_trc = BT709 if matrix == BT709 else 6  # 6: SMPTE 170M
        if self.has_audio:
            self.audio = self.container.add_stream(CODEC, self.form.sample_rate, options=AAC)
            self.audio.layout = "mono"
            self.audio.bit_rate = BIT_RATE

    def result(self) -> bytes | MediaError:
        if self.error is not None:
            return self.error
        if self.container is None:
            self._open(None, BT709)
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
    """A frame of the original, and what it becomes, once somebody wants it."""

    def __init__(self, frame: av.VideoFrame, reformatter: VideoReformatter, size: int):
        self._frame, self._reformatter = frame, reformatter
        width, height = frame.width, frame.height
        scale = min(1.0, size / min(width, height))
        # Even, as 4:2:0 has one sample of colour for two by two of light.
        self._scaled = max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))
        self._turns = round(frame.rotation / 90) % 4
        self.shape = self._scaled[::-1] if self._turns % 2 else self._scaled
        self.matrix = matrix_of(frame)

    def frame(self) -> av.VideoFrame:
        return av.VideoFrame.from_ndarray(self._planes, "yuv420p")

    @cached_property
    def _planes(self) -> np.ndarray:
        """[3/2 H W] uint8, limited range, the original's matrix."""
        width, height = self._scaled
        matrix = Colorspace.ITU709 if self.matrix == BT709 else Colorspace.ITU601
        wide = self._frame.colorspace == Colorspace.BT2020
        full = self._frame.color_range == ColorRange.JPEG or self._frame.format.name.startswith("yuvj")
        planes = self._reformatter.reformat(
            self._frame,
            width,
            height,
            "yuv420p",
            src_colorspace=Colorspace.BT2020 if wide else matrix,
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR,
            threads=1,
        ).to_ndarray()
        if not self._turns:
            return planes
        luma, chroma = planes[:height], planes[height:].reshape(2, height // 2, width // 2)
        turned = np.rot90(chroma, self._turns, axes=(1, 2)).reshape(-1, self.shape[0])
        return np.concatenate([np.rot90(luma, self._turns), turned])


def matrix_of(frame: av.VideoFrame) -> int:
    """1 (BT.709) or 6 (BT.601): as the file says; if it does not, large pictures are BT.709, as players take them."""
    if frame.colorspace in (Colorspace.ITU709, Colorspace.BT2020):
        return BT709
    unknown = frame.colorspace in (0, 2) and not frame.format.is_rgb
    return BT709 if unknown and min(frame.width, frame.height) >= 720 else 6


@dataclass
class _Pictures:
    """Hands the frames of a file, in order, to the cuts that show them; converts only those."""

    cuts: list[_Cut]
    form: Form
    entry: float | None
    shown: _Picture | None = None  # the frame on show, until the next one comes
    since: float = 0.0
    period: float = 0.0  # between the last two frames
    length: float = 0.0  # that the frame on show should last
    broken: str = ""  # what went wrong since the last good frame
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    def skips(self, time: float) -> bool:
        return False  # later frames may refer to any earlier one

    def damaged(self, error: Exception) -> None:
        self.broken = self.broken or f"the picture cannot be decoded after {self.since:.2f} s ({error})"

    def add(self, time: float, frame: av.VideoFrame) -> None:
        if self.shown is None:
            if self.entry is not None and time > self.cuts[0].part.start + EPSILON:
                raise _OvershotError
            for cut in self.cuts:
                if time > cut.part.start + TOLERANCE and cut.frames:
                    cut.fail(f"the video starts at {time:.2f} s", "late_start")
        else:
            self._show_until(time - EPSILON)
            self.period = time - self.since
        if frame.is_corrupt:
            self.broken = self.broken or f"the picture is damaged at {time:.2f} s"
        else:
            self.broken = ""
        self.shown, self.since = _Picture(frame, self.reformatter, self.form.size), time
        self.length = float((frame.duration or 0) * frame.time_base)

    def _show_until(self, end: float) -> None:
        assert self.shown is not None
        for cut in self.cuts:
            while not cut.pictured and cut.instant < end:
                if self.broken:
                    cut.fail(self.broken)
                else:
                    cut.show(self.shown)

    def finish(self) -> None:
        end = self.since + (self.length or self.period)
        if self.shown is not None:
            self._show_until(end + TOLERANCE)
        for cut in self.cuts:
            if not cut.pictured:
                cut.fail(f"the video ends at {end:.2f} s" if self.shown else "no frame could be decoded", "truncated")


@dataclass
class _Sounds:
    """Hands the sound of a file, in order, to the cuts that want it."""

    cuts: list[_Cut]
    form: Form
    entry: float | None
    rate: int = 0
    first: float = np.inf
    since: float = np.inf  # where the next frame should begin
    ahead: float = 0.0  # as far as the filter that resamples looks

    def skips(self, time: float) -> bool:
        return all(time < cut.part.start - PRE_ROLL for cut in self.cuts)

    def damaged(self, error: Exception) -> None:
        pass  # shows as a jump of its clock

    def add(self, time: float, frame: av.AudioFrame) -> None:
        if self.first == np.inf:
            if self.entry is not None and time > self.cuts[0].part.start - PRE_ROLL / 2:
                raise _OvershotError
            self.rate = frame.sample_rate
            self.first = self.since = time
            self.ahead = 2 * ZEROS / min(self.form.sample_rate, 8000)
        sound = mono(frame)
        if frame.sample_rate != self.rate:
            self._fail(time, f"the audio changes its rate at {time:.2f} s; re-encode it")
        elif abs(time - self.since) > TOLERANCE:
            self._fail(min(time, self.since), f"the audio jumps from {self.since:.2f} to {time:.2f} s; re-encode it")
            self.since = time
        elif abs(time - self.since) > DRIFT:
            strayed = round((time - self.since) * self.rate)
            sound = np.pad(sound, (strayed, 0)) if strayed > 0 else sound[-strayed:]
            time = self.since
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
            cut.fail("there is no audio", "truncated")
        elif cut.first > start + TOLERANCE:
            cut.fail(f"the audio starts at {cut.first:.2f} s", "late_start")
        elif last < end - TOLERANCE:
            cut.fail(f"the audio ends at {last:.2f} s", "truncated")
        else:
            source, target = self.rate, self.form.sample_rate
            cut.sound = resample(
                np.concatenate(cut.pieces),
                source,
                target,
                offset=round(cut.first * source),
                start=round(start * target),
                samples=round((end - start) * target),
            ).clip(-1, 1)
            cut.pieces = []

    def finish(self) -> None:
        for cut in self.cuts:
            if not cut.sounded:
                self._complete(cut)


def encode_still(medium: Medium, form: Form) -> bytes:
    """A picture as JPEG, upright, its short side at most `form.size`; as it is, if it is that already.

    Raises:
      MediaError: it cannot be read.
    """
    return b""


@contextmanager
def _opened(medium: Medium) -> Iterator:
    """The open container. Errors of the codecs, within the block too, become `MediaError`."""
    try:
        if isinstance(medium, Slice):
            medium = Encoded(medium.read(), str(medium))
        file = io.BytesIO(medium.data) if isinstance(medium, Encoded) else str(medium)
        with av.open(file, metadata_errors="ignore") as container:
            yield container
    except FileNotFoundError as error:
        raise MediaError(medium, "no such file", "missing") from error
    except (av.error.FFmpegError, OSError) as error:
        reason = f"cannot be decoded ({error.strerror or error}); it may be damaged or not media"
        raise MediaError(medium, reason) from error
