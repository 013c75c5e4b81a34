"""Pictures that stand still, and clips that are arrays already: what needs no container to be decoded."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from vatt.config import ClipConfig
from vatt.data.crops import Crop
from vatt.data.items import Decoded, Encoded, Slice
from vatt.data.media.canvas import BT601_FULL
from vatt.data.media.container import check_file, check_size, check_sound, errors_named
from vatt.data.media.gather import EPSILON, TOLERANCE, cut
from vatt.data.media.placement import Placement, Planes
from vatt.errors import MediaError

SIGNATURES = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
BYTES = 2**29  # most that a picture's file may have, where it is read whole: PIXELS of 8 bytes each
FORMATS = "JPEG", "PNG", "WEBP", "BMP"
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {3: 180, 4: 180, 5: 270, 6: 270, 7: 90, 8: 90}  # degrees counter-clockwise by which each value is set upright


def is_still(media: str | Slice | Encoded) -> bool:
    """Whether the content is a picture's, whatever the name says."""
    check_file(media)
    if isinstance(media, Encoded):
        head = media.data[:12]
    else:
        with errors_named(media), open(media.path if isinstance(media, Slice) else media, "rb") as file:
            if isinstance(media, Slice):
                file.seek(media.offset)
            head = file.read(12)
    return head.startswith(SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def size_of(media: str | Slice | Encoded) -> tuple[int, int, int]:
    """Width, height as displayed, and the degrees counter-clockwise that turn it upright. Decodes nothing."""
    with _opened(media) as image:
        rotation = TURNS.get(_exif(image).get(ORIENTATION, 1), 0)
        width, height = image.size
        return (height, width, rotation) if rotation % 180 else (width, height, rotation)


def _exif(image: Any) -> Image.Exif:
    """What a picture says of itself. Pillow decodes a PNG to see whether something is said behind the pixels."""
    if image.format != "PNG" or "exif" in image.info or "Raw profile type exif" in image.info:
        return image.getexif()
    exif, file = Image.Exif(), image.fp
    assert file is not None
    file.seek(len(SIGNATURES[1]))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            exif.load(file.read(length))
            break
        file.seek(length + 4, io.SEEK_CUR)
    return exif


def draw_still(media: str | Slice | Encoded, clip: ClipConfig, crop: Crop, canvas: int) -> dict[str, np.ndarray]:
    """The video of a clip of one picture, upright. What is transparent is white."""
    with _opened(media) as image:
        return _draw([_upright(image)] * clip.frames, clip, crop, canvas)


def read_still(media: str | Slice | Encoded) -> Image.Image:
    """A picture as RGB, upright. What is transparent is white."""
    with _opened(media) as image:
        return _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip rather than scale
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def draw_arrays(
    media: Decoded, start: float, clip: ClipConfig, crop: Crop, canvas: int, *, still: bool
) -> dict[str, np.ndarray]:
    """The video of a clip out of an array of pictures at a steady rate."""
    video, name = media.video, media.name
    if video is None or video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or not video.size:
        raise MediaError(name, "its video is no uint8 array [T H W 3]", "unreadable")
    check_size(name, video.shape[2], video.shape[1])
    if still or len(video) == 1:
        indices = np.zeros(clip.frames, int)
    else:
        if not media.fps > 0:
            raise MediaError(name, f"its video runs at {media.fps} frames a second")
        indices = np.floor((start + np.arange(clip.frames) / clip.fps + EPSILON) * media.fps).astype(int)
        end = len(video) / media.fps
        if indices[-1] >= len(video) + TOLERANCE * media.fps:
            clip_end = start + (clip.frames - 1) / clip.fps
            reason = f"asked for video from {start:.2f} to {clip_end:.2f} s; the video ends at {end:.2f} s"
            raise MediaError(name, reason, "too_short")
        indices = np.minimum(indices, len(video) - 1)
    return _draw([Image.fromarray(video[index]) for index in indices], clip, crop, canvas)


def cut_array(media: Decoded, start: float, clip: ClipConfig) -> np.ndarray:
    """The sound of a clip out of an array. [S] int16"""
    audio, name = media.audio, media.name
    if audio is None or audio.ndim != 1 or audio.dtype not in (np.float32, np.int16):
        raise MediaError(name, "its sound is no float32 or int16 array [S]", "unreadable")
    check_sound(name, media.sample_rate, 1)
    end, clip_end = len(audio) / media.sample_rate, start + clip.samples / clip.sample_rate
    if end < clip_end - TOLERANCE:
        reason = f"asked for audio from {start:.2f} to {clip_end:.2f} s; the audio ends at {end:.2f} s"
        raise MediaError(name, reason, "too_short")
    if audio.dtype == np.int16:
        audio = audio / np.float32(32768)
    return cut(audio, media.sample_rate, 0.0, start, clip, name)


def _draw(pictures: list[Image.Image], clip: ClipConfig, crop: Crop, canvas: int) -> dict[str, np.ndarray]:
    width, height = pictures[0].size
    placement = Placement(
        width, height, crop(width, height), canvas, exact=canvas == clip.size, turns=0, displayed=(width, height)
    )
    canvases = np.zeros((len(pictures), canvas * 3 // 2, canvas), np.uint8)
    for index, picture in enumerate(pictures):
        if index and picture is pictures[index - 1]:
            canvases[index] = canvases[index - 1]
        else:
            placement.put(_planes(picture), canvases[index])
    return {"video": canvases, "video_box": placement.box, "video_colour": np.array(BT601_FULL, np.int32)}


def _planes(picture: Image.Image) -> Planes:
    y, u, v = picture.convert("YCbCr").split()  # as JPEG has it: BT.601, full range
    return np.asarray(y), np.asarray(u.reduce(2)), np.asarray(v.reduce(2))


def _file(media: str | Slice | Encoded) -> str | io.BytesIO:
    if isinstance(media, str):
        return media
    if isinstance(media, Slice) and media.size > BYTES:
        raise MediaError(media, f"is a picture of {media.size} bytes; at most {BYTES} are read", "too_large")
    return io.BytesIO(media.data if isinstance(media, Encoded) else media.read())


@contextmanager
def _opened(media: str | Slice | Encoded) -> Iterator[Image.Image]:
    """The picture, its header read and found sane. Errors within the block become `MediaError`."""
    try:
        with errors_named(media), Image.open(_file(media), formats=FORMATS) as image:
            check_size(media, *image.size)
            yield image
    except MediaError as error:
        cut_short = "truncated" in error.reason
        raise MediaError(media, error.reason, "truncated" if cut_short else error.kind) from error
    except Image.DecompressionBombError as error:
        raise MediaError(media, str(error), "too_large") from error
    except Exception as error:  # Pillow's readers let through whatever a broken file leads them to
        raise MediaError(media, f"cannot be decoded ({error}); it may be damaged") from error
