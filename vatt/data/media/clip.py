"""One clip out of a media file: video frames and mono audio that begin at the same instant.

Times are seconds from the start of the container, so that files whose clocks start elsewhere (MPEG-TS) need
no care. Frames are picked by their time stamps, never by counting, so that variable frame rates come out
right. Nothing is padded in silence: a file that cannot give the clip raises `MediaError`. ODD_FILES.md lists what
becomes of files that are out of the ordinary.

Tolerances, because files seldom end both streams at the same instant:
  video: a frame is shown for its duration; the last one up to 50 ms longer, the first one from 50 ms before.
  audio: up to 50 ms missing at either end of the clip are zeros. An AAC frame lasts 21 to 64 ms.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import av
import av.error
import numpy as np

from vatt.config import ClipConfig
from vatt.data.crops import Crop
from vatt.data.items import Decoded, Item, Medium
from vatt.data.media import stills
from vatt.data.media.canvas import BT601
from vatt.data.media.container import PACKETS, RAW, SECONDS, UNSTATED, Opened, check_size, opened
from vatt.data.media.gather import PRE_ROLL, TOLERANCE, Pictures, Sound, aspect
from vatt.errors import MediaError

NEAR = 1.0  # seconds; decoding from the beginning is as fast as seeking up to here
BACK = 10.0  # seconds before the clip at which reading starts again when a seek overshot
PROBED = 5_000_000  # most packets read to find where a file ends, or a clip begins: a day of film
SILENCE = -60.0  # dB of full scale; sound whose peak lies below is silent
FIRST = 50  # packets in which a frame must have come that tells the rotation
INDEX = 500  # frames of an index that are looked at to tell whether the frame rate varies


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a file holds. Clips can be cut between `start` and `end`, while all its streams run; see `span`.

    begins, ends: of each stream, by modality, in seconds from the start of the container; a still picture ends never.
    width, height: pixels as displayed: after rotation, and with square pixels.
    fps: mean frames per second, 0 if unknown.
    rotation: degrees counter-clockwise that turn the stored picture upright; known once a frame was decoded.
    sample_rate: Hz.
    variable_rate: whether frames last unequally long; None if too few were seen to tell.
    duration_video, duration_audio: how long each stream runs (seconds).
    late_start: by how much one stream begins after the other (seconds), 0 up to the tolerance.
    """

    begins: dict[str, float]
    ends: dict[str, float]
    has_video: bool = True
    has_audio: bool = False
    still: bool = False
    width: int = 0
    height: int = 0
    fps: float = 0.0
    rotation: int = 0
    sample_rate: int = 0
    channels: int = 0
    variable_rate: bool | None = None
    duration_video: float = 0.0
    duration_audio: float = 0.0
    late_start: float = 0.0

    @property
    def start(self) -> float:
        return self.span()[0]

    @property
    def end(self) -> float:
        return self.span()[1]

    def span(self, modalities: Sequence[str] = ("video", "audio")) -> tuple[float, float]:
        """From where to where all streams of these modalities run; if there are none of them, all streams. Begins at 0
        but where one begins late; ends never where there is nothing but a still picture."""
        names = [name for name in modalities if name in self.begins] or list(self.begins)
        start = max(self.begins[name] for name in names)
        return start if start > TOLERANCE else 0.0, min(self.ends[name] for name in names)


def probe(media: Medium) -> MediaInfo:
    """Reads how long a file is, from the packets at its end: headers may promise more than there is.

    Raises:
      MediaError: the file is missing, is not media, has neither video nor sound, is beyond what is sane, or is
        truncated.
    """
    if isinstance(media, Decoded):
        return _probe_arrays(media)
    if stills.is_still(media):
        width, height, rotation = stills.size_of(media)
        begins, ends = {"video": 0.0}, {"video": np.inf}
        return MediaInfo(begins=begins, ends=ends, still=True, width=width, height=height, rotation=rotation)
    name = str(media)
    with opened(media) as file:
        stated = file.duration
        if stated > SECONDS and file.format not in UNSTATED:
            raise MediaError(name, f"says that it lasts {stated:.0f} s; at most {SECONDS:.0f} s are read", "too_large")
        kinds = {stream.type: stream.index for stream in file.streams}
        begins = {s.index: float((s.start_time or 0) * s.time_base) - file.origin for s in file.streams}
        facts = _facts(file)  # before the end is read, as it reads the beginning
        found, times = _ends(file, NEAR)
        variable = _variable_rate(file, times)
        if not begins.keys() <= found.keys():
            with opened(media) as again:  # a seek may miss what a long stream's short companion holds
                found, _ = _ends(again, np.inf)
        if not begins.keys() <= found.keys():
            raise MediaError(name, "a stream of the file is empty; it may be truncated", "truncated")
        _check_whole(file, found)
        ends = _trimmed(file, found)
    if (last := max(ends.values())) > SECONDS:
        raise MediaError(name, f"ends at {last:.0f} s; at most {SECONDS:.0f} s are read", "too_large")
    late = max(begins.values()) - min(begins.values())
    spans = {index: max(0.0, ends[index] - begins[index]) for index in ends}
    return MediaInfo(
        begins={kind: begins[index] for kind, index in kinds.items()},
        ends={kind: ends[index] for kind, index in kinds.items()},
        duration_video=spans[kinds["video"]] if "video" in kinds else 0.0,
        duration_audio=spans[kinds["audio"]] if "audio" in kinds else 0.0,
        late_start=late if late > TOLERANCE else 0.0,
        variable_rate=variable,
        **facts,
    )


def decode_clip(item: Item, start: float, clip: ClipConfig, *, crop: Crop, canvas: int) -> dict[str, np.ndarray]:
    """Decodes the clip that begins at `start`.

    Frame i is the one shown at `start + i / clip.fps`, upright. The audio is mixed down to mono and resampled to
    `clip.sample_rate`; it starts at the same instant, to the nearest sample, or to the container's clock
    where that is coarser (Matroska: 1 ms).

    Args:
      item: the medium, and which of video and audio is wanted of it.
      start: where the clip begins (seconds from the start of the file).
      clip: frames, frame rate, picture size, sampling rate, samples.
      crop: chooses the part to show, given width and height as displayed.
      canvas: side of the canvas (P, even). If it equals `clip.size`, the part is scaled to the whole of it; otherwise
        only what would not fit is scaled down, and the rest of the way is the device's.

    Returns:
      video [T 3P/2 P] uint8, I420 (see `canvas`); video_box [4] float32, the part of the canvas to show: top,
      left, height, width; video_colour [] int32, a colour code; video_mask [] bool;
      audio [S] int16, full scale being 32768; audio_mask [] bool.
      Where a mask is False, the item lacks the modality and its arrays are zeros.

    Raises:
      MediaError: the file is missing, is not media, is damaged, or does not hold the whole clip.
    """
    if canvas % 2 or canvas < 2:
        raise ValueError(f"a canvas of {canvas} pixels: its side must be even")
    if not 0 <= start <= SECONDS:
        raise MediaError(item.media, f"a clip cannot begin at {start} s")
    if clip.short == "repeat" and not item.still and item.end - item.start < clip.seconds - TOLERANCE:
        return _repeated(item, clip, crop, canvas)
    result = {
        "video_mask": np.array(item.has_video),
        "audio_mask": np.array(item.has_audio),
    }
    media = item.media
    if isinstance(media, Decoded):
        if item.has_video:
            result |= stills.draw_arrays(media, start, clip, crop, canvas, still=item.still)
        if item.has_audio:
            result["audio"] = stills.cut_array(media, start, clip)
    elif item.still:
        result |= stills.draw_still(media, clip, crop, canvas)
        if item.has_audio:
            raise MediaError(media, "is a picture, and has no sound")
    else:
        result |= _read_clip(item, start, clip, crop, canvas)
    if not item.has_video:
        result["video"] = np.zeros((clip.frames, canvas * 3 // 2, canvas), np.uint8)
        result["video_box"] = np.array([0, 0, canvas, canvas], np.float32)
        result["video_colour"] = np.array(BT601, np.int32)
    if not item.has_audio:
        result["audio"] = np.zeros(clip.samples, np.int16)
    return result


def _repeated(item: Item, clip: ClipConfig, crop: Crop, canvas: int) -> dict[str, np.ndarray]:
    """A clip of an item that is shorter: all of it, over and over."""
    length = item.end - item.start + 1e-6
    frames = min(max(1, int(length * clip.fps)), clip.frames)
    samples = min(max(1, int(length * clip.sample_rate)), clip.samples)
    part = replace(clip, frames=frames, samples=samples, short="leave_out")
    result = decode_clip(item, item.start, part, crop=crop, canvas=canvas)
    result["video"] = result["video"][np.arange(clip.frames) % frames]
    result["audio"] = result["audio"][np.arange(clip.samples) % samples]
    return result


def is_silent(samples: np.ndarray) -> bool:
    """Whether sound nowhere reaches `SILENCE`. [S] int16"""
    return not samples.size or max(int(samples.max()), -int(samples.min())) < 32768 * 10 ** (SILENCE / 20)


def _read_clip(item: Item, start: float, clip: ClipConfig, crop: Crop, canvas: int) -> dict[str, np.ndarray]:
    media = item.media
    assert not isinstance(media, Decoded)
    name = str(media)
    # A seek may land too late (MPEG-TS goes to the next key frame): then read from further back.
    entries = [None] if start < NEAR else [start - PRE_ROLL, start - BACK, None]
    for entry in entries:
        with opened(media) as file:
            if file.format in RAW and entry is not None:
                continue  # a seek would guess where it landed
            if file.format == "avi" and item.has_video:
                file.held_back = _held_back(item)
            parts: dict[int, Any] = {}
            pictures = sound = None
            if item.has_video:
                if file.video is None:
                    raise MediaError(name, "has no video stream", "no_video")
                pictures = parts[file.video.index] = Pictures(file, start, clip, crop, canvas)
            if item.has_audio:
                if file.audio is None:
                    raise MediaError(name, "has no sound", "no_audio")
                sound = parts[file.audio.index] = Sound(file, start, clip)
            if entry is not None:
                try:
                    file.seek(entry)
                except av.error.FFmpegError:
                    continue
            _read(file, parts)
            if entry is None or all(part.entered for part in parts.values()):
                result = pictures.result() if pictures else {}
                if sound:
                    result["audio"] = sound.result()
                return result
    raise AssertionError("the last entry is the beginning of the file")


def _held_back(item: Item) -> int:
    """How many frames the decoder holds back to put them in order, as seen at the beginning of the file."""
    assert not isinstance(item.media, Decoded)
    with opened(item.media) as file:
        if file.video is None:
            return 0
        taken = (packet for packet in file.container.demux(file.video) if packet.size)
        for count, packet in enumerate(islice(taken, FIRST)):
            if file.video.codec_context.decode(packet):
                return count
    raise MediaError(file.name, "no frame at its beginning can be decoded", "damaged")


def _read(file: Opened, parts: dict[int, Any]) -> None:
    """Feeds packets from where the container stands until every part has what it needs."""
    streams = [stream for stream in file.streams if stream.index in parts]
    kept = 0
    for count, packet in enumerate(file.container.demux(streams)):
        part = parts[packet.stream.index]  # its own index is wrong in the packets that end the streams
        kept += part.feed(packet)
        if part.done and all(part.done for part in parts.values()):
            return
        if kept > PACKETS or count > PROBED:
            bound = PACKETS if kept > PACKETS else PROBED
            raise MediaError(file.name, f"the clip lies more than {bound} packets in; re-encode it", "too_large")


def _probe_arrays(media: Decoded) -> MediaInfo:
    video, audio = media.video, media.audio
    if video is None and audio is None:
        raise MediaError(media, "has neither video nor sound", "no_streams")
    if audio is not None and not media.sample_rate > 0:
        raise MediaError(media, f"its sound has {media.sample_rate} samples a second")
    still = video is not None and len(video) == 1
    if video is not None and not still and not media.fps > 0:
        raise MediaError(media, f"its video runs at {media.fps} frames a second")
    duration_video = 0.0 if video is None else np.inf if still else len(video) / media.fps
    duration_audio = 0.0 if audio is None else len(audio) / media.sample_rate
    ends = {"video": duration_video, "audio": duration_audio}
    ends = {name: ends[name] for name, held in (("video", video), ("audio", audio)) if held is not None}
    return MediaInfo(
        begins=dict.fromkeys(ends, 0.0),
        ends=ends,
        has_video=video is not None,
        has_audio=audio is not None,
        still=still,
        width=0 if video is None else video.shape[2],
        height=0 if video is None else video.shape[1],
        fps=0.0 if video is None else media.fps,
        sample_rate=media.sample_rate,
        channels=0 if audio is None else 1,
        variable_rate=None if video is None or still else False,
        duration_video=duration_video,
        duration_audio=duration_audio,
    )


def _facts(file: Opened) -> dict[str, Any]:
    """What the headers say, and of rotation and size the first frame."""
    facts: dict[str, Any] = {"has_video": file.video is not None, "has_audio": file.audio is not None}
    if file.video is not None:
        frame = _first_frame(file)
        width, height = frame.width, frame.height
        check_size(file.name, width, height)
        width = round(width * aspect(file.video))
        rotation = round(frame.rotation / 90) % 4 * 90 if isinstance(frame, av.VideoFrame) else 0
        facts |= {
            "width": height if rotation % 180 else width,
            "height": width if rotation % 180 else height,
            "rotation": rotation,
            "fps": float(file.video.average_rate or 0),
        }
    if file.audio is not None:
        facts |= {"sample_rate": file.audio.codec_context.sample_rate, "channels": file.audio.codec_context.channels}
    return facts


def _first_frame(file: Opened) -> Any:
    """The first frame that decodes, of the first few packets; if none does, what the header says of frames."""
    stream: Any = file.video
    for packet in islice(file.container.demux(stream), FIRST):
        with suppress(av.error.FFmpegError):
            for frame in packet.decode():
                return frame
    return stream.codec_context


def _variable_rate(file: Opened, times: list[float]) -> bool | None:
    """Whether frames last unequally long, by the index if there is one, or else by the frames at the end."""
    if file.video is None:
        return None
    index = file.video.index_entries
    if file.container.format.name.startswith("mov") and len(index) > 2:  # of MP4; complete, unlike Matroska's
        chosen = np.linspace(0, len(index) - 2, min(len(index) - 1, INDEX)).astype(int)
        base = float(file.video.time_base)
        steps = np.array([(index[int(i) + 1].timestamp - index[int(i)].timestamp) * base for i in chosen])
    else:
        steps = np.diff(np.sort(times))
    if len(steps) < 2:
        return None
    return bool(steps.max() - steps.min() > max(0.002, 0.1 * float(np.median(steps))))


def _ends(file: Opened, near: float) -> tuple[dict[int, float], list[float]]:
    """Where each stream ends, by its index, from the packets `near` the end (seconds); subtitles and the like, too.

    Also the times of the frames seen.
    """
    sought = file.duration > 2 * near and file.format not in RAW
    with suppress(av.error.FFmpegError):  # then all of it is read
        file.seek(file.duration - near if sought else 0.0)
    ends: dict[int, float] = {}
    times: list[float] = []
    video = file.video.index if file.video else -1
    # MPEG has no time stamp a frame: FFmpeg counts, and miscounts up to the second key frame after a seek.
    doubted = 2 if sought and file.format in UNSTATED else 0
    for count, packet in enumerate(file.container.demux()):
        if packet.pts is not None:
            time = float(packet.pts * packet.time_base) - file.origin
            end = time + float((packet.duration or 0) * packet.time_base)
            padding = _padding(packet) if file.format == "mp3" else 0.0
            ends[packet.stream_index] = max(end - padding, ends.get(packet.stream_index, 0.0))
            if packet.stream_index == video and len(times) < INDEX:
                doubted -= packet.is_keyframe
                if doubted <= 0:
                    times.append(time)
        if count > PROBED:
            raise MediaError(file.name, f"has more than {PROBED} packets", "too_large")
    return ends, times


def _padding(packet: av.Packet) -> float:
    """How much of the end of a packet of MP3 is not to be heard (seconds); other formats shorten its duration."""
    for data in packet.iter_sidedata() if packet.has_sidedata("skip_samples") else ():
        if data.data_type == "skip_samples":
            return int.from_bytes(bytes(data)[4:8], "little") / packet.stream.codec_context.sample_rate
    return 0.0


def _check_whole(file: Opened, found: dict[int, float]) -> None:
    """Refuses a file that ends before its header says, given where each of its streams was found to end."""
    ends = [file.stated_end(stream) for stream in file.streams]
    if all(end is not None for end in ends):
        stated, last = max(end for end in ends if end is not None), max(found[s.index] for s in file.streams)
    elif file.format in UNSTATED:
        return
    else:  # the longest of all streams. Matroska counts from its clock's zero, which may lie before the first packet
        stated, last = file.duration - max(file.origin, 0.0), max(found.values())
    if last < stated - 1.0:
        raise MediaError(file.name, f"truncated: it should last {stated:.2f} s but ends at {last:.2f} s", "truncated")


def _trimmed(file: Opened, found: dict[int, float]) -> dict[int, float]:
    """Where the video and the sound end: where they say, as the end of the last packet may be padding."""
    return {s.index: min(found[s.index], file.stated_end(s) or np.inf) for s in file.streams}
