"""How media are stored: parts of a file as MP4 that decode fast, and stills as JPEG."""

import functools
import io
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image

from vatt.data.items import Encoded, Slice
from vatt.data.media.canvas import BT601, BT709
from vatt.data.media.gather import colour_of
from vatt.data.media.stills import read_still
from vatt.errors import MediaError

# Chosen by tools/bench_codecs.py on 10 s of Big Buck Bunny (1280x720; its own clips decode at 7 % of the speed).
# Without `fastdecode` 36 % fewer clips a CPU-second; superfast is a third larger, medium takes a third more time to
# encode and is no smaller; no B frames are 8 % faster and 9 % larger, a GOP of 5 or 20 as fast within the noise and
# 12 % larger or smaller: with 10, a second of frames is the most that is decoded before a clip.
H264 = {"preset": "veryfast", "tune": "fastdecode", "crf": "23", "g": "10", "bf": "2", "threads": "1"}
# FLAC loses nothing, begins at its first sample, and comes in a quarter of AAC's packets: with two threads, which queue
# for Python's interpreter lock at every packet, 1.16 times as many clips a second (tools/bench_input.py). In all it is
# 30 % larger than AAC at 96 kb/s, more where it is loud. On one core AAC and MP3 are 6 % slower, Opus 18 %, ALAC 27 %.
SOUND = "flac"
SOUND_OPTIONS: dict[str, str] = {}
BIT_RATE = 0  # of sound; for codecs that lose some
JPEG_QUALITY = 90
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


class Cut:
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
        self.video: Any = None
        self.audio: Any = None

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
        self.container = self.video = self.audio = None

    def show(self, picture: "Picture") -> None:
        """Adds a frame."""
        if self.container is None:
            self.container = self._open(picture.shape, picture.colour)
        frame = picture.frame()
        frame.pts, frame.time_base = self.kept, 1 / self.form.rate
        self.container.mux(self.video.encode(frame))
        self.kept += 1
        if self.kept == self.frames and not self.has_audio:
            self._close()

    def _open(self, shape: tuple[int, int] | None, colour: int) -> Any:
        # bitexact: no version of FFmpeg, no date.
        container: Any = av.open(self.file, "w", format="mp4", options={"fflags": "+bitexact"})
        if shape is not None:
            self.video = container.add_stream("libx264", self.form.rate, options=H264 | same_bytes())
            self.video.width, self.video.height = shape
            self.video.pix_fmt = "yuv420p"
            context = self.video.codec_context
            context.color_range = ColorRange.MPEG
            context.colorspace = context.color_primaries = context.color_trc = PRIMARIES[colour]
        if self.has_audio:
            self.audio = container.add_stream(SOUND, self.form.sample_rate, options=SOUND_OPTIONS)
            self.audio.layout = "mono"
            self.audio.bit_rate = BIT_RATE
        return container

    def result(self) -> bytes | MediaError:
        if self.error is not None:
            return self.error
        if not self.frames:
            self.container = self._open(None, BT601)
        if self.container is not None:
            self._close()
        return self.file.getvalue()

    def _close(self) -> None:
        if self.frames:
            self.container.mux(self.video.encode(None))
        if self.sound is not None:
            frame = av.AudioFrame.from_ndarray(self.sound[None], "fltp", "mono")
            frame.pts, frame.sample_rate, frame.time_base = 0, self.form.sample_rate, Fraction(1, self.form.sample_rate)
            self.container.mux(self.audio.encode(frame))
            self.container.mux(self.audio.encode(None))
        self.container.close()
        self.container = self.video = self.audio = None  # the encoder is much larger than what it made


@functools.cache
def same_bytes() -> dict[str, str]:
    """Options with which libx264 gives the same bytes every time.

    Where the processor has AVX-512, its code for that reads memory that nobody wrote (macroblock trees of small
    pictures), and now and then a clip came out another.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return {}
    return {"x264-params": "asm=avx2"} if " avx512" in flags else {}


def even(length: float) -> int:
    """The nearest even number, of two the smaller: 4:2:0 has one sample of colour for two by two of light."""
    return max(2, 2 * ceil(length / 2 - 0.5))


class Picture:
    """A frame of the original, and what it becomes, once somebody wants it.

    shape: width and height that it gets, upright and with square pixels.
    colour: the matrix that it keeps, BT601 or BT709.
    """

    def __init__(self, frame: av.VideoFrame, pixel: float, reformatter: VideoReformatter, size: int):
        self._frame, self._reformatter = frame, reformatter
        width, height = frame.width * pixel, frame.height
        scale = min(1.0, size / min(width, height))
        self._scaled = even(width * scale), even(height * scale)
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
