"""Parts of a media file, encoded anew so that clips of them decode fast: short side small, fixed rate, short GOP.

Frame i of a part shows what is on show at `start + i / fps` of the original, by the same rule as
`vatt.data.media.clip.decode_clip`, and its sound starts at the same instant; so a clip of the part is that clip of the
original, but for the loss of the codecs. Parts that lie close together are cut in one pass over the file, and no more
of it is held than the sound of the parts being cut and one picture.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from vatt.data.items import Encoded, Slice
from vatt.data.media.clip import BACK, NEAR
from vatt.data.media.container import Opened, check_size, opened
from vatt.data.media.gather import EPSILON, PRE_ROLL, TOLERANCE, Clock, aspect
from vatt.data.media.resample import ZEROS, mono, resample
from vatt.data.prepare.encode import Cut, Form, Part, Picture
from vatt.errors import MediaError

APART = 20.0  # seconds between parts from which seeking is cheaper than decoding on
AT_ONCE = 16  # most parts cut in one pass at any instant: each has an encoder of some 10 MB
HELD = 64  # most parts that wait, each with its encoder, for sound that comes far behind its picture
DRIFT = 0.02  # seconds that the sound's clock may stray from the count of its samples before it is set right


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
        cuts = [Cut(file.name, part, form, has_video, has_audio) for part in parts]
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


def _finished(cuts: list[Cut]) -> Iterator[tuple[Part, bytes | MediaError]]:
    for cut in [cut for cut in cuts if cut.done]:
        cuts.remove(cut)
        yield cut.part, cut.result()


class _Pictures:
    """Hands the frames of a file, in order, to the cuts that show them; converts only those.

    What depends on a damaged packet is not shown: its own frame, and any up to the next key frame, as in
    `vatt.data.media.gather.Pictures`.
    """

    def __init__(self, file: Opened, cuts: list[Cut], form: Form, entry: float | None):
        self.name, self.cuts, self.form, self.entry = file.name, cuts, form, entry
        stream: Any = file.video
        self.context = stream.codec_context
        self.base, self.origin, self.pixel = float(stream.time_base), file.origin, aspect(stream)
        self.reformatter = VideoReformatter()
        self.shown: Picture | None = None  # the frame on show, until the next one comes
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
        self.shown, self.since = Picture(frame, self.pixel, self.reformatter, self.form.size), time
        self.length = float((frame.duration or 0) * frame.time_base) if frame.time_base else 0.0
        self.suspects = [suspect for suspect in self.suspects if suspect >= time - EPSILON]

    def _show_until(self, end: float) -> None:
        assert self.shown is not None
        held = sum(cut.container is not None for cut in self.cuts)
        for cut in self.cuts:
            if not cut.pictured and cut.container is None and cut.instant < end:
                held += cut.has_audio  # others are closed when they have their last frame
                if held > HELD:
                    cut.fail(f"the sound comes more than {HELD} records after the picture; re-encode it", "too_large")
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

    def __init__(self, file: Opened, cuts: list[Cut], form: Form, entry: float | None):
        self.cuts, self.form, self.entry = cuts, form, entry
        stream: Any = file.audio
        self.context = stream.codec_context
        self.base, self.origin = float(stream.time_base), file.origin
        self.rate = 0
        self.first = np.inf
        self.since = np.inf  # where the next frame should begin
        self.clock, self.heard = Clock(stream, file.origin), 0  # samples so far
        self.ahead = 2 * ZEROS / min(form.sample_rate, 8000)  # as far as the filter that resamples looks

    def feed(self, packet: av.Packet) -> None:
        """Takes the next packet, or the empty one that ends the stream."""
        time = None if packet.pts is None else packet.pts * self.base - self.origin
        if time is not None:
            end = max(time, time + (packet.duration or 0) * self.base)  # FLAC at 8 kHz: half a second
            if all(time < cut.part.start - PRE_ROLL and end <= cut.part.start - PRE_ROLL for cut in self.cuts):
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
        self.clock.mark(time, self.heard, len(sound))
        self.heard += len(sound)
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

    def _complete(self, cut: Cut) -> None:
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
            first = cut.first + self.clock.aligned(self.first, source) - self.first
            sound = resample(
                np.concatenate(cut.pieces),
                source,
                target,
                offset=round(first * source),
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
