"""Media made for tests: pictures that show their number, tones, and every kind of file in ODD_FILES.md.

Each function under `odd` makes one file in a folder and says what a clip of it must be: which numbers are on show, and
whether its sound is the tone.
"""

import io
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from vatt.data.faults import FAULTS
from vatt.errors import MediaError

BITS = 8
HERTZ = 440.0
FPS = 25
# Seconds by which encoders delay sound, where the container has no means to say so
AAC, LAME, MP2 = 1024 / 48_000, 1105 / 48_000, 481 / 48_000
FASTEST: dict[str, dict[str, str]] = {
    "libx264": {"g": "12", "bf": "2", "crf": "12"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


def picture(number: int, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """A picture whose grey bars spell a number in binary. [H W 3]"""
    bars = np.array([230 if number >> bit & 1 else 20 for bit in range(BITS)], np.uint8)
    row = bars[np.arange(size[1]) * BITS // size[1]]
    return np.broadcast_to(row[None, :, None], (*size, 3)).copy()


def number(image: np.ndarray) -> int:
    """The number that a picture shows. [H W 3]"""
    bar = np.arange(image.shape[1]) * BITS // image.shape[1]
    means = [image[:, bar == bit].mean() for bit in range(BITS)]
    return sum(int(mean > 125) << bit for bit, mean in enumerate(means))


def tone(seconds: float, rate: int, hertz: float = HERTZ) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write(
    path: Any,
    *,
    pictures: list[np.ndarray] | None = None,
    times: Any = None,
    fps: int = FPS,
    sound: np.ndarray | None = None,
    rate: int = 48_000,
    layout: str = "mono",
    video: str = "libx264",
    audio: str = "aac",
    options: dict[str, str] | None = None,
    sound_options: dict[str, str] | None = None,
    offset: float = 0.0,
    sound_offset: float = 0.0,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    adjust: Callable[[Any], None] = lambda stream: None,
) -> Any:
    """Writes pictures (shown at `times`, or at a steady rate) and sound ([S] or [channels S])."""
    place = path if isinstance(path, io.RawIOBase) else str(path)
    with av.open(place, "w", format=container_format, container_options=container_options) as container:
        base = Fraction(1, 1000) if times is not None else Fraction(1, fps)
        stream = noise = None
        packets = []
        if pictures is not None:
            stream = container.add_stream(video, fps, options=options or FASTEST.get(video, {}))
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = pix_fmt
            stream.codec_context.time_base = base
            adjust(stream)
        if sound is not None:
            # Perceptual noise substitution would decode to other noise from each starting point.
            quiet = {"aac": {"aac_pns": "0"}, "vorbis": {"strict": "-2"}}.get(audio, {})
            noise = container.add_stream(audio, rate, layout=layout, options=quiet | (sound_options or {}))
        if stream is not None:
            for index, image in enumerate(pictures or []):
                frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(
                    format=pix_fmt, dst_colorspace=stream.codec_context.colorspace or None
                )
                instant = offset + (times[index] if times is not None else index / fps)
                frame.pts, frame.time_base = round(instant / base), base
                packets += stream.encode(frame)
            packets += stream.encode(None)
        if noise is not None:
            channels = np.atleast_2d(np.asarray(sound)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), "fltp", layout)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round((offset + sound_offset) * rate)
            resampler = av.AudioResampler(
                noise.codec_context.format,
                noise.codec_context.layout,
                rate,
                noise.codec_context.frame_size or 1024,
            )
            for piece in resampler.resample(frame) + resampler.resample(None):
                packets += noise.encode(piece)
            packets += noise.encode(None)
        for packet in sorted((p for p in packets if p.dts is not None), key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def kind_of(error: MediaError, media: Any) -> str:
    """The kind of an error, once it is seen to be well made."""
    assert str(media) in str(error)
    assert error.kind in FAULTS
    return error.kind


class Clip(NamedTuple):
    """What a clip of 10 frames and one second of sound must be. None: the file lacks it."""

    start: float
    numbers: list[int] | None
    tone_from: float | None  # the tone's phase at the clip's start (seconds)
    turned: int = 0  # quarter turns by which the picture must be turned back to read it


def steady(start: float) -> list[int]:
    """The numbers on show from `start` on, of pictures at 25 frames a second, at 10 a second."""
    return [int((start + i / 10 + 1e-3) * FPS) for i in range(10)]


def counted(
    path: Path,
    seconds: float = 3.0,
    start: float = 1.5,
    *,
    size: tuple[int, int] = (64, 64),
    silent: bool = False,
    channels: int = 1,
    late_video: float = 0.0,
    late_tone: float = 0.0,
    **kwargs: Any,
) -> Clip:
    """Numbered pictures and a tone, of which the clip at `start` must show both.

    late_video, late_tone: by how much they begin after the file does, which is the muxer's or the encoder's doing.
    """
    sound = None if silent else np.tile(tone(seconds, kwargs.get("rate", 48_000)), (channels, 1))
    write(path, pictures=[picture(i, size) for i in range(round(seconds * FPS))], sound=sound, **kwargs)
    return Clip(start, steady(start - late_video), None if silent else start - late_tone)


def song(path: Path, rate: int = 48_000, late_tone: float = 0.0, **kwargs: Any) -> Clip:
    write(path, sound=tone(3, rate), rate=rate, **kwargs)
    return Clip(1.5, None, 1.5 - late_tone)


VBR = {"flags": "+qscale", "global_quality": "236"}


def uneven(path: Path, audio: str, late_tone: float = 0.0, **kwargs: Any) -> Clip:
    """Noise, then a faint tone: the bit rate at the beginning promises a third of the length. Read at its end."""
    loud = 0.4 * np.random.default_rng(0).standard_normal(5 * 48_000)
    write(path, sound=np.concatenate([loud, tone(15, 48_000)]), audio=audio, sound_options=VBR, **kwargs)
    return Clip(18.0, None, 13.0 - late_tone)


def varying(path: Path) -> Clip:
    times = np.cumsum(np.random.default_rng(0).choice([0.02, 0.04, 0.11, 0.2], 40))
    times -= times[0]
    write(path, pictures=[picture(i) for i in range(40)], times=times, fps=30, sound=tone(times[-1], 48_000))
    return Clip(1.5, [int(np.searchsorted(times, 1.5 + i / 10 + 1e-3, side="right")) - 1 for i in range(10)], 1.5)


def late_sound(path: Path) -> Clip:
    write(path, pictures=[picture(i) for i in range(100)], sound=tone(2, 48_000), sound_offset=2.0, audio="flac")
    return Clip(2.5, steady(2.5), 0.5)


def rotated(path: Path, degrees: int) -> Clip:
    clip = counted(path, adjust=lambda stream: stream.set_display_rotation(degrees))
    return clip._replace(turned=-degrees // 90)


def damaged(path: Path, start: float) -> Clip:
    """Bits of the frames from 0.5 to 0.9 s are flipped; there are key frames every 0.48 s."""
    clip = counted(path, start=start)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size, float(p.pts * p.time_base)) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size, time in packets:
        if 0.5 <= time < 0.9 and size > 20:
            for place in range(position + size // 2, position + size, 7):
                data[place] ^= 0x55
    path.write_bytes(data)
    return clip


def cut_off(path: Path, share: float, whole: str, **kwargs: Any) -> Clip:
    clip = counted(path.with_name(whole), start=0.2, **kwargs)
    data = path.with_name(whole).read_bytes()
    path.write_bytes(data[: round(len(data) * share)])
    return clip


def text(path: Path, content: str = "not a video\n" * 100) -> Clip:
    path.write_text(content)
    return Clip(0.0, [], 0.0)


def one_frame(path: Path) -> Clip:
    write(path, pictures=[picture(5)])
    return Clip(0.0, [5] * 10, None)


def short(path: Path) -> Clip:
    """Half a second: less than a clip."""
    counted(path, seconds=0.5)
    return Clip(0.0, steady(0.0), 0.0)


def still(path: Path, orientation: int = 1, mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> Clip:
    image = Image.fromarray(picture(77, size))
    turned = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]
    image = image.rotate(-90 * turned, expand=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.convert(mode, palette=Image.Palette.ADAPTIVE)
    image.save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return Clip(0.0, [77] * 10, None)


def transparent(path: Path) -> Clip:
    """Black all over, and transparent where the bars are bright."""
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[..., 3] = 255 - picture(77)[..., 0]
    Image.fromarray(rgba).save(path)
    return Clip(0.0, [77] * 10, None)


def cut_picture(path: Path) -> Clip:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    return Clip(0.0, [], None)


def vast_picture(path: Path) -> Clip:
    """A PNG of a few bytes whose header promises 100,000 x 100,000 pixels."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    return Clip(0.0, [], None)


def vast_video(path: Path, side: int) -> Clip:
    """A Matroska file whose track promises far more pixels than there are, of a codec that knows no better."""
    write(path, pictures=[picture(i, (300, 300)) for i in range(3)], video="ffv1")
    data = path.read_bytes()
    for tag in (b"\xb0", b"\xba"):  # PixelWidth, PixelHeight
        assert tag + b"\x82\x01\x2c" in data
        data = data.replace(tag + b"\x82\x01\x2c", tag + b"\x82" + struct.pack(">H", side))
    path.write_bytes(data)
    return Clip(0.0, [], None)


def endless_frame(path: Path) -> Clip:
    """One frame and one packet of sound, each of which claims to last ten hours."""
    write(path, pictures=[picture(5)], sound=tone(0.02, 48_000))
    data = bytearray(path.read_bytes())

    def patch(box: bytes, place: int, seconds_of: Callable[[int], int]) -> None:
        at = 0
        while (at := data.find(box, at) + 4) > 3:
            data[at + place : at + place + 4] = struct.pack(">I", seconds_of(at))

    rates = []
    patch(b"mdhd", 16, lambda at: rates.append(struct.unpack(">I", data[at + 12 : at + 16])[0]) or 36_000 * rates[-1])
    rates = iter(rates)
    patch(b"stts", 12, lambda at: 36_000 * next(rates))
    patch(b"mvhd", 16, lambda at: 36_000_000)
    patch(b"tkhd", 20, lambda at: 36_000_000)
    patch(b"elst", 8, lambda at: 36_000_000)
    path.write_bytes(data)
    return Clip(18_000.0, [5] * 10, 0.0)


def absurd_rate(path: Path) -> Clip:
    """A WAV file of two thousand million samples a second."""
    data = np.zeros(100, np.int16).tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + len(data),
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        2_000_000_000,
        0,
        2,
        16,
        b"data",
        len(data),
    )
    path.write_bytes(head + data)
    return Clip(0.0, None, 0.0)


def broken_ogg(path: Path) -> Clip:
    """Pages from the middle on are garbage, so that their checksums fail."""
    song(path, audio="libopus")
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 2, len(data) * 3 // 4):
        data[place] ^= 0x55
    path.write_bytes(data)
    return Clip(0.0, None, 0.0)


def covered(path: Path) -> Clip:
    """An MP3 with a picture for a cover."""
    buffer = io.BytesIO()
    Image.fromarray(picture(3)).save(buffer, "JPEG")
    write(path, sound=tone(3, 44_100), rate=44_100, audio="libmp3lame")
    image = b"\x00image/jpeg\x00\x03\x00" + buffer.getvalue()
    frame = b"APIC" + struct.pack(">I", len(image)) + b"\x00\x00" + image
    size = bytes((len(frame) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\x00\x00" + size + frame + path.read_bytes())
    return Clip(1.5, None, 1.5)


def delayed_by_edit(path: Path) -> Clip:
    """Sound begins at 0.5 s, which MOV says by an empty edit."""
    write(path, pictures=[picture(i) for i in range(75)], sound=tone(3, 48_000), sound_offset=0.5 + AAC)
    return Clip(1.5, steady(1.5), 1.0 - AAC)


def playlist(path: Path) -> Clip:
    """Text that makes a naive reader open another file."""
    counted(path.with_name("target.ts"))
    return text(path, "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\ntarget.ts\n#EXT-X-ENDLIST\n")


def coloured(**attributes: int) -> Callable[[Any], None]:
    def adjust(stream: Any) -> None:
        for name, value in attributes.items():
            setattr(stream.codec_context, name, value)

    return adjust


def anamorphic(path: Path) -> Clip:
    """32 pixels wide, shown at 64."""
    return counted(path, size=(64, 32), adjust=lambda s: setattr(s.codec_context, "sample_aspect_ratio", Fraction(2)))


def misnamed(path: Path) -> Clip:
    clip = still(path.with_suffix(".png"))
    path.with_suffix(".png").rename(path)
    return clip


Make = Callable[[Path], Clip]
ODD: dict[str, Make] = {
    # Containers and codecs
    "vfr.mp4": varying,
    "no_audio.mp4": lambda path: counted(path, silent=True),
    "no_video.m4a": song,
    "audio_late.mkv": late_sound,
    "bit_flips_before.mp4": lambda path: damaged(path, 1.5),
    "bit_flips_within.mp4": lambda path: damaged(path, 0.3),
    "truncated_moov_first.mp4": lambda p: cut_off(
        p, 0.6, "moov_first.mp4", container_options={"movflags": "faststart"}
    ),
    "truncated_moov_last.mp4": lambda p: cut_off(p, 0.6, "moov_last.mp4"),
    "empty.mp4": lambda path: text(path, ""),
    "text.mp4": text,
    "av1.mp4": lambda path: counted(path, video="libsvtav1"),
    "hevc.mp4": lambda path: counted(path, video="libx265"),
    "vp9_opus.webm": lambda path: counted(path, video="libvpx-vp9", audio="libopus"),
    "mpeg4.avi": lambda path: counted(path, video="mpeg4", audio="libmp3lame", late_video=0.04, late_tone=LAME),
    "h264b.avi": lambda path: counted(path, audio="libmp3lame", late_tone=LAME),
    "mpeg4b.avi": lambda p: counted(
        p, video="mpeg4", audio="libmp3lame", late_tone=LAME, options={"bf": "2", "g": "12"}
    ),
    "ten_bit.mp4": lambda path: counted(path, pix_fmt="yuv420p10le"),
    "yuv444_odd.mkv": lambda path: counted(path, size=(65, 67), pix_fmt="yuv444p"),
    "surround.mp4": lambda path: counted(path, channels=6, layout="5.1"),
    "eight_khz.mp4": lambda path: counted(path, rate=8000),
    "rotated_90.mp4": lambda path: rotated(path, 90),
    "rotated_180.mp4": lambda path: rotated(path, 180),
    "rotated_270.mp4": lambda path: rotated(path, 270),
    "short.mp4": short,
    "one_frame.mp4": one_frame,
    "late_clock.ts": lambda path: counted(path, offset=10.0, late_video=AAC, late_tone=AAC),
    "broken.ogg": broken_ogg,
    "mpeg1.mpg": lambda path: counted(path, video="mpeg1video", audio="mp2", late_video=MP2, late_tone=MP2),
    "long_gop.mp4": lambda path: counted(path, seconds=9.0, start=7.5, options={"g": "1000", "bf": "3"}),
    # Pictures
    "picture.jpg": still,
    "picture.png": still,
    "picture.webp": still,
    "picture.bmp": still,
    "exif_3.jpg": lambda path: still(path, orientation=3),
    "exif_6.jpg": lambda path: still(path, orientation=6),
    "exif_8.jpg": lambda path: still(path, orientation=8),
    "grey.jpg": lambda path: still(path, mode="L"),
    "cmyk.jpg": lambda path: still(path, mode="CMYK"),
    "sixteen_bit.png": lambda path: still(path, mode="I;16"),
    "palette.png": lambda path: still(path, mode="P"),
    "transparent.png": transparent,
    "odd_size.jpg": lambda path: still(path, size=(65, 67)),
    "misnamed.mp4": misnamed,
    "truncated.jpg": cut_picture,
    "vast.png": vast_picture,
    # Sound
    "cover_art.mp3": covered,
    "plain.wav": lambda path: song(path, audio="pcm_s16le"),
    "float.wav": lambda path: song(path, audio="pcm_f32le"),
    "plain.flac": lambda path: song(path, audio="flac"),
    "plain.mp3": lambda path: song(path, audio="libmp3lame"),
    "plain.aac": lambda path: song(path, late_tone=AAC),
    "vbr.mp3": lambda path: uneven(path, "libmp3lame", container_options={"write_xing": "0"}, late_tone=LAME),
    "vbr.aac": lambda path: uneven(path, "aac", late_tone=AAC),
    "flac_8khz.mkv": lambda path: counted(path, rate=8000, audio="flac"),
    "plain.opus": lambda path: song(path, audio="libopus"),
    "absurd_rate.wav": absurd_rate,
    # Colours and shapes
    "full_range.mp4": lambda path: counted(path, pix_fmt="yuvj420p"),
    "bt709.mp4": lambda path: counted(path, adjust=coloured(colorspace=1)),
    "grey.mkv": lambda path: counted(path, video="ffv1", pix_fmt="gray", audio="flac"),
    "interlaced.mp4": lambda path: counted(path, options={"x264-params": "tff=1", "g": "12", "crf": "12"}),
    "anamorphic.mp4": anamorphic,
    # Clocks, and headers that lie
    "edit_list.mov": delayed_by_edit,
    "vast.mkv": lambda path: vast_video(path, 65_535),
    "large.mkv": lambda path: vast_video(path, 9000),
    "ten_hours_one_frame.mp4": endless_frame,
    "playlist.mp4": playlist,
}
