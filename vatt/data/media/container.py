"""Opening media safely: what a hostile or broken file may do ends here, as a `MediaError`.

Only formats and protocols that are named here are opened: a playlist dressed up as a video must not fetch what it
names. Sizes, rates and lengths beyond what is sane are refused before anything is decoded.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import av.error
from av.stream import Disposition

from vatt.data.items import Encoded, Slice, absolute_path
from vatt.errors import MediaError

PIXELS = 64 * 2**20  # most a picture may have: 8K video has half as many
SECONDS = 7 * 24 * 3600.0  # longest a file may last
RATES = 1000, 768_000  # Hz
CHANNELS = 64
PACKETS = 200_000  # most of which something is kept for one clip; an hour of film has about as many
WORK = 2**32  # most pixels decoded before a clip: 12 minutes of 640x360 at 25 fps, half a minute's work

FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,ogg,flv,asf,ivf,mxf,nut,gif,"  # video
    "wav,w64,flac,mp3,aac,aiff,caf,au,ac3,amr"  # sound
)


# Formats that store neither an index nor a clock: FFmpeg guesses their length from the bit rate, and where a seek lands
RAW = frozenset({"mp3", "aac", "ac3", "amr"})
# Formats whose headers state no length; what FFmpeg says of it is a guess, or leaves out the last frames
UNSTATED = RAW | {"mpeg", "mpegts"}


class Opened:
    """An open container: its clock's `origin` (seconds), and the `video` and `audio` stream, or None."""

    def __init__(self, name: str, container: Any):
        self.name = name
        self.container = container
        self.held_back: int | None = None  # frames that the decoder holds back, if they must be put in time by counting
        self.origin = (container.start_time or 0) / av.time_base
        pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        best = container.streams.best("video")
        self.video = best if best in pictures else next(iter(pictures), None)  # cover art is no video
        self.audio = container.streams.best("audio")
        if self.video is None and self.audio is None:
            raise MediaError(name, "has neither video nor sound", "no_streams")
        for stream in self.streams:
            if stream.codec_context is None or stream.time_base is None:
                raise MediaError(name, f"there is no decoder for its {stream.type}; re-encode it")
            # Callers decode many clips at once; codec threads would only add work.
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
        if self.video is not None:
            width, height = self.video.codec_context.width, self.video.codec_context.height
            if width and height:  # else only the frames know
                check_size(name, width, height)
            self.video.codec_context.options = {"max_pixels": str(PIXELS)}
        if self.audio is not None:
            if self.audio.codec_context.name == "flac":  # its packets bear checksums, which are else ignored
                self.audio.codec_context.options = {"err_detect": "crccheck+explode"}
            check_sound(name, self.audio.codec_context.sample_rate, self.audio.codec_context.channels)

    @property
    def streams(self) -> list:
        return [stream for stream in (self.video, self.audio) if stream is not None]

    @property
    def format(self) -> str:
        return self.container.format.name

    @property
    def duration(self) -> float:
        """How long FFmpeg says that the longest stream lasts, be it subtitles: a hint (seconds), 0 if unknown."""
        return (self.container.duration or 0) / av.time_base

    def stated_end(self, stream: Any) -> float | None:
        """Where the header says that a stream ends (seconds), if it does."""
        if self.format in UNSTATED or not stream.duration:
            return None
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - self.origin

    def seek(self, seconds: float) -> None:
        """To the last key frame before an instant, or wherever the container can."""
        self.container.seek(int((seconds + self.origin) * av.time_base))


def check_size(name, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise MediaError(name, f"its picture has {width} x {height} pixels", "unreadable")
    if width * height > PIXELS:
        raise MediaError(name, f"its picture has {width} x {height} pixels; at most {PIXELS} are read", "too_large")


def check_sound(name, rate: int, channels: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        kind = "too_large" if rate > RATES[1] else "unreadable"
        raise MediaError(name, f"its sound has {rate} samples a second; {RATES[0]} to {RATES[1]} are read", kind)
    if not 1 <= channels <= CHANNELS:
        kind = "too_large" if channels > CHANNELS else "unreadable"
        raise MediaError(name, f"its sound has {channels} channels; 1 to {CHANNELS} are read", kind)


def check_file(media: str | Slice | Encoded) -> None:
    """Refuses what is no file: opening a pipe would wait for ever."""
    if not isinstance(media, Encoded):
        with errors_named(media):
            if not stat.S_ISREG(os.stat(media.path if isinstance(media, Slice) else media).st_mode):
                raise MediaError(media, "is not a file")


@contextmanager
def errors_named(name) -> Iterator[None]:
    """Errors of the codecs and of the system within the block become `MediaError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise MediaError(name, "no such file", "missing") from error
    except (av.error.FFmpegError, OSError, OverflowError, MemoryError) as error:
        what = getattr(error, "strerror", None) or error
        raise MediaError(name, f"cannot be decoded ({what}); it may be damaged or not media") from error


@contextmanager
def opened(media: str | Slice | Encoded) -> Iterator[Opened]:
    """The container of a medium, open within the block. Errors of the codecs, there too, become `MediaError`."""
    name = str(media)
    check_file(media)
    if isinstance(media, Encoded):
        place = io.BytesIO(media.data)
    elif isinstance(media, Slice):
        end = media.offset + media.size
        place = f"subfile,,start,{media.offset},end,{end},,:file:{absolute_path(media.path)}"
    else:
        place = f"file:{absolute_path(media)}"
    with (
        errors_named(name),
        av.open(
            place,
            metadata_errors="ignore",
            options={"max_pixels": str(PIXELS)},
            container_options={"format_whitelist": FORMATS, "protocol_whitelist": "file,subfile"},
        ) as container,
    ):
        yield Opened(name, container)
