"""Media made for tests: pictures that show their number, tones, and every kind of file in ODD_FILES.md.

Each function under `odd` makes one file in a folder and says what a clip of it must be: which numbers are on show, and
whether its sound is the tone.
"""

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

BITS = 8
HERTZ = 440.0
FPS = 25
FASTEST: dict[str, dict[str, str]] = {
    "libx264": {"g": "12", "bf": "2", "crf": "12"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


def picture(number: int, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """A picture whose grey bars spell a number in binary. [H W 3]"""
    bars = np.array([230 if number >> bit & 1 else 20 for bit in range(BITS)], np.uint8)
    row = np.repeat(bars, -(-size[1] // BITS))[: size[1]]
    return np.broadcast_to(row[None, :, None], (*size, 3)).copy()


def number(image: np.ndarray) -> int:
    """The number that a picture shows. [H W 3]"""
    edges = np.linspace(0, image.shape[1], BITS + 1).astype(int)
    means = [image[:, low:high].mean() for low, high in zip(edges[:-1], edges[1:], strict=True)]
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
            noise = container.add_stream(audio, rate, layout=layout, options=quiet)
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
