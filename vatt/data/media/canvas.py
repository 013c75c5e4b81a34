"""The I420 canvas, on which clips travel to the device: how to look at one, and how to write a clip as a file.

A canvas of side P (even) is uint8 [3P/2 P]. Rows [0, P) are luma; of the rows below, columns [0, P/2) are U and the
rest V, each at half the size. The picture lies at the top left; a box says which part of it is meant, and a colour
code what its numbers mean. `placement` fills canvases, and `vatt.transforms` resizes them on the device.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from vatt.data.media.container import errors_named

# Colour codes
BT601, BT709, BT601_FULL, BT709_FULL = range(4)
# Red's and blue's share of luma, of either range: ITU-R BT.601 section 2.5.1, BT.709 item 3.2
LUMA = (0.299, 0.114), (0.2126, 0.0722)


def to_rgb(canvases: np.ndarray, box: np.ndarray, colour: int, size: int) -> np.ndarray:
    """The part of each canvas that its clip shows, resized; the reference for what the device does.

    Args:
      canvases: [T 3P/2 P] uint8.
      box: [4] top, left, height, width, in luma pixels.
      colour: a colour code.
      size: height and width of the result (pixels).

    Returns:
      [T size size 3] uint8.
    """
    side = canvases.shape[2]
    top, left, height, width = (float(edge) for edge in box)
    frames = np.empty((len(canvases), size, size, 3), np.uint8)
    for canvas, frame in zip(canvases, frames, strict=True):
        y = _resized(canvas[:side], top, left, height, width, size)
        u, v = (
            _resized(plane, top / 2, left / 2, height / 2, width / 2, size)
            for plane in (canvas[side:, : side // 2], canvas[side:, side // 2 :])
        )
        frame[:] = _rgb(y, u, v, int(colour))
    return frames


def _resized(plane: np.ndarray, top: float, left: float, height: float, width: float, size: int) -> np.ndarray:
    """A part of a plane, by Pillow's antialiased bilinear filter; nothing outside the part bleeds in. [size size]"""
    rows = slice(int(top), int(np.ceil(top + height)))
    columns = slice(int(left), int(np.ceil(left + width)))
    part = Image.fromarray(plane[rows, columns].astype(np.float32))
    top, left = top - rows.start, left - columns.start
    box = (left, top, min(left + width, part.width), min(top + height, part.height))
    return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _rgb(y: np.ndarray, u: np.ndarray, v: np.ndarray, colour: int) -> np.ndarray:
    red, blue = LUMA[colour % len(LUMA)]
    if colour in (BT601, BT709):
        y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    else:
        y, u, v = y / 255, (u - 128) / 255, (v - 128) / 255
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.rint(255 * np.stack([r, g, b], axis=-1)), 0, 255).astype(np.uint8)


def write_clip(path: str | Path, rgb: np.ndarray | None, fps: float, audio: np.ndarray | None, rate: int) -> None:
    """Writes a clip as a file to look at and listen to: H.264 and AAC in what the file's name says, such as .mp4.

    Args:
      rgb: [T H W 3] uint8; an odd last row or column is left out. None: sound alone.
      fps: frames per second.
      audio: [S] int16, mono. None: no sound.
      rate: samples per second (Hz).

    Raises:
      MediaError: the file cannot be written.
    """
    with errors_named(path), av.open(str(path), "w") as container:
        packets = []
        if rgb is not None:
            rgb = np.ascontiguousarray(rgb[:, : rgb.shape[1] // 2 * 2, : rgb.shape[2] // 2 * 2])
            period = 1 / Fraction(fps).limit_denominator(1001)
            video = container.add_stream("libx264", 1 / period, options={"crf": "18"})
            video.height, video.width = rgb.shape[1:3]
            video.pix_fmt = "yuv420p"
            for index, picture in enumerate(rgb):
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = index, period
                packets += video.encode(frame)
            packets += video.encode(None)
        if audio is not None:
            sound = container.add_stream("aac", rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None]), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            packets += sound.encode(frame)
            packets += sound.encode(None)
        for packet in sorted((p for p in packets if p.dts is not None), key=lambda p: p.dts * p.time_base):
            container.mux(packet)
