"""Gathers one clip out of the packets of a container that come in order: `Pictures` and `Sound`.

Damage is judged packet by packet. A damaged packet costs the clip only if something of the clip depends on it: its own
frame, or a frame that refers to it, which is any up to the next key frame. Decoders say so in two ways: by an error, in
the order of packets, or by a frame marked as corrupt (H.264 and MPEG-4 conceal what they miss), in the order of
display, where frames of type B come before a later one that they refer to. Damage that no decoder notices is seen.
"""

from collections import deque
from typing import Any

import av
import av.error
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from vatt.config import ClipConfig
from vatt.data.crops import Crop
from vatt.data.media.canvas import BT601, BT709
from vatt.data.media.container import CHANNELS, WORK, Opened, check_size
from vatt.data.media.placement import Placement, Planes
from vatt.data.media.resample import ZEROS, mono, resample
from vatt.errors import MediaError

TOLERANCE = 0.05  # seconds; see vatt.data.media.clip
EPSILON = 1e-3  # seconds; Matroska rounds time stamps to milliseconds
PRE_ROLL = 0.3  # seconds decoded before the clip: audio codecs need some (Opus 80 ms, AAC at 8 kHz 128 ms)

REORDER = 16  # most frames by which one is shown later than it is stored (H.264, A.3.1)
HELD = 32 * 2**20  # most bytes of packets that wait to be decoded: a second or two of the densest video
EXACT = "mov", "matroska"  # formats whose packets bear the very times of their frames
THRIFTY = "h264", "hevc"  # decoders that obey skip_frame packet by packet; those with a delay do not
SLICED = frozenset({"yuv420p", "yuvj420p", "yuva420p"})  # formats whose first three planes are taken as they are
SQUARE = 1 / 4, 4  # sample aspect ratios beyond are nonsense, and taken for 1
SPC_RGB, SPC_BT709, SPC_UNSPECIFIED = 0, 1, 2  # ISO/IEC 23091-2 table 4, as FFmpeg numbers them
SPC_BT601 = frozenset({4, 5, 6})  # FCC, BT.470BG, SMPTE 170M
RANGE_FULL = 2


def colour_of(frame: av.VideoFrame) -> int:
    """The colour code of a frame's numbers (`vatt.data.media.canvas`), once it is 8-bit 4:2:0.

    Pictures that do not say are BT.709 from 720 lines on and BT.601 below, as players assume.
    """
    full = 2 if frame.color_range == RANGE_FULL or frame.format.name.startswith("yuvj") else 0
    if frame.format.is_rgb or frame.format.name.startswith(("gray", "pal8", "mono")):
        return BT601
    if frame.colorspace == SPC_UNSPECIFIED:
        return (BT709 if min(frame.width, frame.height) >= 720 else BT601) + full
    return (BT601 if frame.colorspace in SPC_BT601 else BT709) + full


def planes_of(frame: av.VideoFrame, reformatter: VideoReformatter) -> Planes:
    """The planes of a frame as 4:2:0 of 8 bits: views of the frame's own memory where it is that already."""
    if frame.format.name not in SLICED:
        known = frame.colorspace in SPC_BT601 or frame.colorspace in (SPC_RGB, SPC_BT709, SPC_UNSPECIFIED)
        # One thread: swscale would start one a core for every frame.
        frame = reformatter.reformat(frame, format="yuv420p", dst_colorspace=None if known else SPC_BT709, threads=1)
    height, width = frame.height, frame.width
    y, u, v = frame.planes[:3]
    return (
        _view(y, height, width),
        _view(u, (height + 1) // 2, (width + 1) // 2),
        _view(v, (height + 1) // 2, (width + 1) // 2),
    )


def _view(plane: Any, height: int, width: int) -> np.ndarray:
    return np.frombuffer(plane, np.uint8, height * plane.line_size).reshape(height, plane.line_size)[:, :width]


def aspect(stream: Any) -> float:
    """Width of a pixel as displayed, its height being 1."""
    ratio = float(stream.sample_aspect_ratio or 1)
    return ratio if SQUARE[0] <= ratio <= SQUARE[1] else 1.0


class Pictures:
    """Gathers the frames on show at the instants of a clip; slices only those, and converts none if it can."""

    def __init__(self, media: Opened, start: float, clip: ClipConfig, crop: Crop, canvas: int):
        self.name = media.name
        self.stream: Any = media.video
        self.context = self.stream.codec_context
        self.base, self.origin = float(self.stream.time_base), media.origin
        self.start, self.fps = start, clip.fps
        self.last = start + (clip.frames - 1) / clip.fps  # the last instant of the clip
        self.thrifty = self.context.name in THRIFTY and media.container.format.name.startswith(EXACT)
        self.crop = crop
        self.exact = canvas == clip.size
        self.canvases = np.zeros((clip.frames, canvas * 3 // 2, canvas), np.uint8)
        self.placement: Placement | None = None
        self.colour = BT601
        self.reformatter = VideoReformatter()
        self.kept = 0
        self.shown: Any = None  # the frame on show, until the next one comes
        self.since = 0.0
        self.period = 0.0  # between the last two frames
        self.first = np.inf
        # Packets of the clip, from the last key frame before it on: once all are there, or many bytes of them, it
        # shows which are needed.
        self.waiting: list | None = []
        # AVI stores no times, but frames at a steady rate. A decoder gives one for each that it takes, but for those
        # that it holds back to put them in order: these are the times that are still to be given out.
        self.held_back = media.held_back
        self.slots: deque[float] = deque()
        self.held = 0  # bytes of these
        self.work = 0  # pixels decoded before the clip
        self.suspects: list[float] = []  # instants of frames that are damaged, or refer to such
        self.failed = False  # a packet, since the last key frame
        self.healed = -np.inf  # the key frame that ended the damage; frames before it may still refer to it
        self.corrupt = False  # a frame, since the last key frame
        self.run: list[float] = []  # instants of the latest frames, if of type B: the next other one may damn them

    @property
    def full(self) -> bool:
        return self.kept == len(self.canvases)

    @property
    def done(self) -> bool:
        return self.full and not self.run

    @property
    def entered(self) -> bool:
        return self.first <= self.start + EPSILON

    def feed(self, packet: av.Packet) -> bool:
        """Takes the next packet, or the empty one that ends the stream. Returns whether it was of use."""
        if self.done:
            return False
        stamp = packet.pts if self.held_back is None else packet.dts
        time = None if stamp is None else stamp * self.base - self.origin
        if self.waiting is not None:
            clock = packet.pts if packet.dts is None else packet.dts  # no later packet is shown before it
            if packet.size and (clock is None or clock * self.base - self.origin <= self.last + EPSILON):
                if packet.is_keyframe and time is not None and time + self._lag() <= self.start + EPSILON:
                    self.waiting.clear()
                    self.held = 0
                self.waiting.append((time, packet))
                self.held += packet.size
                if self.held > HELD:
                    self._decode_waiting()
                    self.waiting, self.held = [], 0
                return True
            self._decode_waiting()
        self._decode(time, packet)
        return True

    def _lag(self) -> float:
        """By how much a frame may be shown later than its packet's time (seconds)."""
        return REORDER / float(self.stream.average_rate or 25) if self.held_back else 0.0

    def _decode_waiting(self) -> None:
        waiting, self.waiting = self.waiting or [], None
        times = np.sort([time for time, _ in waiting if time is not None])
        instants = self.start + np.arange(len(self.canvases)) / self.fps
        shown = (
            set(times[np.maximum(np.searchsorted(times, instants + EPSILON, side="right") - 1, 0)])
            if len(times)
            else ()
        )
        for time, packet in waiting:
            # If nothing refers to a frame that is not shown, the decoder passes it over.
            idle = self.thrifty and time is not None and time < self.last and time not in shown
            self.context.skip_frame = "NONREF" if idle else "DEFAULT"
            self._decode(time, packet)
        self.context.skip_frame = "DEFAULT"

    def _decode(self, time: float | None, packet: av.Packet) -> None:
        try:
            frames = self.context.decode(packet)
        except av.error.FFmpegError:
            self.failed, frames = True, []
            if time is None:
                raise
            self.suspects.append(time)
        else:
            self.failed |= packet.is_corrupt  # so says the container: a part of it is missing
            if time is not None and (self.failed or time < self.healed):
                if self.failed and packet.is_keyframe and not packet.is_corrupt:
                    self.failed, self.healed = False, time
                else:
                    self.suspects.append(time)
        for shown, frame in zip(self._times(time, frames), frames, strict=True):
            if shown is not None and not self.done:
                self._add(shown, frame)

    def _times(self, time: float | None, frames: list) -> list[float | None]:
        """When the frames are shown that a packet brought forth; without a time, it is the one that ends the stream."""
        if self.held_back is None:
            return [None if frame.pts is None else frame.pts * self.base - self.origin for frame in frames]
        if time is not None:
            self.slots.append(time)
            due = [self.slots.popleft()] if len(self.slots) > self.held_back else []
        else:
            due = [self.slots.popleft() for _ in range(min(len(frames), len(self.slots)))]
        if len(frames) > len(due):
            raise MediaError(self.name, "its frames come out of order, and AVI does not say when; re-encode it")
        return list(due[: len(frames)])

    def _add(self, time: float, frame: av.VideoFrame) -> None:
        self.work += frame.width * frame.height if time < self.start else 0
        if self.work > WORK:
            raise MediaError(self.name, f"too much to decode before {self.start:.2f} s; re-encode it", "too_large")
        self._judge(time, frame)
        if self.shown is None:
            self.first = time
        else:
            self._show_until(time - EPSILON)
            self.period = time - self.since
        self.shown, self.since = frame, time

    def _judge(self, time: float, frame: av.VideoFrame) -> None:
        if frame.is_corrupt:
            self.corrupt = True
            self.suspects += self.run
            if self.run and self.kept and self.start + (self.kept - 1) / self.fps >= self.run[0]:
                raise MediaError(self.name, f"the video is damaged at {time:.2f} s", "damaged")
        elif frame.key_frame:
            self.corrupt = False
        if self.corrupt:
            self.suspects.append(time)
        if frame.pict_type == PictureType.B:
            self.run.append(time)
        else:
            self.run.clear()

    def _show_until(self, end: float) -> None:
        drawn = False
        while not self.full and (instant := self.start + self.kept / self.fps) < end:
            if any(self.since - EPSILON <= time <= instant + EPSILON for time in self.suspects):
                raise MediaError(self.name, f"the video is damaged at {instant:.2f} s", "damaged")
            if drawn:
                self.canvases[self.kept] = self.canvases[self.kept - 1]
            else:
                self._draw(self.shown, self.canvases[self.kept])
                drawn = True
            self.kept += 1

    def _draw(self, frame: av.VideoFrame, canvas: np.ndarray) -> None:
        if self.placement is None:
            width, height = self.size = frame.width, frame.height
            check_size(self.name, width, height)
            turns = round(frame.rotation / 90) % 4
            across = width * aspect(self.stream)
            displayed = (height, across) if turns % 2 else (across, height)
            crop = self.crop(round(displayed[0]), round(displayed[1]))
            self.placement = Placement(
                width, height, crop, canvas.shape[1], exact=self.exact, turns=turns, displayed=displayed
            )
            self.colour = colour_of(frame)
        elif (frame.width, frame.height) != self.size:  # shown at the size of the first, as players do
            frame = self.reformatter.reformat(frame, *self.size, threads=1)
        self.placement.put(planes_of(frame, self.reformatter), canvas)

    def result(self) -> dict[str, np.ndarray]:
        asked = f"asked for video from {self.start:.2f} to {self.last:.2f} s"
        if self.shown is None:
            raise MediaError(self.name, f"{asked}; no frame of it could be decoded", "damaged")
        if self.first > self.start + TOLERANCE:
            raise MediaError(self.name, f"{asked}; the video starts at {self.first:.2f} s", "late_start")
        if not self.full:
            frame = self.shown
            end = self.since + (float(frame.duration * frame.time_base) or self.period)
            self._show_until(end + TOLERANCE)
            if not self.full:
                raise MediaError(self.name, f"{asked}; the video ends at {end:.2f} s", "too_short")
        assert self.placement is not None
        return {
            "video": self.canvases,
            "video_box": self.placement.box,
            "video_colour": np.array(self.colour, np.int32),
        }


class Sound:
    """Gathers the audio around a clip."""

    def __init__(self, media: Opened, start: float, clip: ClipConfig):
        self.name = media.name
        stream: Any = media.audio
        self.context = stream.codec_context
        self.base, self.origin = float(stream.time_base), media.origin
        self.start, self.clip = start, clip
        self.end = start + clip.samples / clip.sample_rate
        self.samples = av.AudioFifo()  # joins frames in one array, which costs less than an array each
        self.channels = 0
        self.first = np.inf
        self.entry = np.inf  # the first packet decoded
        self.since = np.inf  # where the next frame should begin
        self.marks: list[tuple[float, int, int]] = []  # time, samples before it and samples of the first frames
        # The clock of Matroska counts milliseconds, but samples follow on each other from the stream's start.
        self.tick = self.base if self.base * self.context.sample_rate > 1 else 0.0
        self.begin = (stream.start_time or 0) * self.base - media.origin
        self.skipped = 0  # samples at the start that are decoded but not heard
        if self.context.name.endswith("opus") and len(self.context.extradata or b"") >= 12:
            self.skipped = int.from_bytes(self.context.extradata[10:12], "little")  # RFC 7845, section 5.1
        self.ahead = 2 * ZEROS / min(clip.sample_rate, 8000)  # as far as the filter that resamples looks

    @property
    def done(self) -> bool:
        return self.first < np.inf and self.since > self.end + self.ahead

    @property
    def entered(self) -> bool:
        return self.first <= self.start - PRE_ROLL / 2

    def feed(self, packet: av.Packet) -> bool:
        """Takes the next packet, or the empty one that ends the stream. Returns whether it was of use."""
        if self.done:
            return False
        time = None if packet.pts is None else packet.pts * self.base - self.origin
        if time is not None:
            last = (packet.duration or 0) * self.base  # FLAC at 8 kHz: half a second
            if time < self.start - PRE_ROLL and time + last <= self.start - PRE_ROLL:
                return False
            self.entry = min(self.entry, time)
        self._decode(time, packet)
        return True

    def _decode(self, time: float | None, packet: av.Packet) -> None:
        error = None
        try:
            frames = self.context.decode(packet)
        except av.error.FFmpegError as failure:
            if time is None:
                raise
            frames, error = [], failure
        if time is not None and (error or packet.is_corrupt):
            if time >= self.end + self.ahead:  # past what is needed, so all of that has come
                self.since = max(self.since, time)
            elif time >= self.start - PRE_ROLL / 2 or self.first < np.inf:
                raise MediaError(self.name, f"the audio is damaged at {time:.2f} s", "damaged") from error
            return
        for frame in frames:
            if frame.pts is not None and not self.done:
                self._add(frame.pts * self.base - self.origin, frame)

    def _add(self, time: float, frame: av.AudioFrame) -> None:
        if self.first == np.inf:
            self.first = self.since = time
            self.channels = frame.layout.nb_channels
            if self.channels > CHANNELS:
                raise MediaError(self.name, f"its sound has {self.channels} channels", "too_large")
        elif abs(time - self.since) > TOLERANCE and time < self.end:
            raise MediaError(
                self.name, f"the audio jumps from {self.since:.2f} to {time:.2f} s; re-encode it", "damaged"
            )
        frame.pts = None  # checked just now; the queue would allow for no rounding
        try:
            if frame.layout.nb_channels != self.channels:  # the queue would read planes that are not there
                raise ValueError
            self.samples.write(frame)
        except ValueError as error:
            raise MediaError(
                self.name, f"the audio changes its format at {time:.2f} s; re-encode it", "damaged"
            ) from error
        if self.tick and len(self.marks) < 2:
            self.marks.append((time, self.samples.samples_written - frame.samples, frame.samples))
        self.since += frame.samples / frame.sample_rate

    def result(self) -> np.ndarray:
        """[S] int16"""
        asked = f"asked for audio from {self.start:.2f} to {self.end:.2f} s"
        sound = self.samples.read()
        if sound is None:
            raise MediaError(self.name, f"{asked}; none of it could be decoded", "damaged")
        # Zeros may stand at the head only where nothing came before.
        within = self.entry > self.begin + EPSILON
        if self.first > self.start + (EPSILON if within else TOLERANCE):
            raise MediaError(self.name, f"{asked}; the audio starts at {self.first:.2f} s", "late_start")
        if self.since < self.end - TOLERANCE:
            raise MediaError(self.name, f"{asked}; the audio ends at {self.since:.2f} s", "too_short")
        first = self._aligned(sound.sample_rate)
        return cut(mono(sound), sound.sample_rate, first, self.start, self.clip, self.name)

    def _aligned(self, rate: int) -> float:
        """Where the first sample lies; where the clock is coarse, to the sample, if all frames are of one length."""
        if len(self.marks) < 2:
            return self.first
        time, before, length = self.marks[1]  # the first frame may lack what the decoder threw away
        position = (time - self.begin) * rate + self.skipped
        exact = round(position / length) * length
        if abs(exact - position) > self.tick * rate:
            return self.first
        return self.begin + (exact - self.skipped - before) / rate


def cut(signal: np.ndarray, rate: int, first: float, start: float, clip: ClipConfig, name: str) -> np.ndarray:
    """The samples of a clip, out of a signal that begins at `first` (seconds). [S] int16

    Samples count from the start of the container at either rate, so that a clip does not depend on where decoding
    began.
    """
    audio = resample(
        signal,
        rate,
        clip.sample_rate,
        offset=round(first * rate),
        start=round(start * clip.sample_rate),
        samples=clip.samples,
    )
    if not np.isfinite(audio).all():
        raise MediaError(name, f"the audio after {start:.2f} s is not finite; it is damaged", "damaged")
    audio *= 32768
    np.rint(audio, out=audio)
    return np.clip(audio, -32768, 32767, out=audio).astype(np.int16)
