"""Where pictures go on their canvases, and what is seen there."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.oddfiles import number, picture, tone
from vatt.config import ClipConfig
from vatt.data.crops import Box, centre
from vatt.data.items import Decoded, Item
from vatt.data.media.canvas import BT601, BT601_FULL, BT709, BT709_FULL, to_rgb, write_clip
from vatt.data.media.clip import decode_clip, is_silent, probe
from vatt.data.media.gather import colour_of, planes_of
from vatt.data.media.placement import Placement, span
from vatt.errors import MediaError


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth coloured picture, which chroma at half the size does not spoil. [H W 3]"""
    small = np.random.default_rng(seed).integers(30, 225, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def planes(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return planes_of(av.VideoFrame.from_ndarray(rgb, "rgb24"), av.video.reformatter.VideoReformatter())


def place(rgb: np.ndarray, crop: Box, side: int, **kwargs) -> tuple[np.ndarray, Placement]:
    height, width = rgb.shape[:2]
    defaults = {"exact": False, "turns": 0, "displayed": (width, height)}
    placement = Placement(width, height, crop, side, **(defaults | kwargs))
    canvas = np.zeros((side * 3 // 2, side), np.uint8)
    placement.put(planes(rgb), canvas)
    return canvas, placement


def scaled(rgb: np.ndarray, crop: Box, size: int) -> np.ndarray:
    box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
    return np.asarray(Image.fromarray(rgb).resize((size, size), Image.Resampling.BILINEAR, box=box)).astype(int)


@pytest.mark.parametrize("shape", [(96, 128), (97, 131), (64, 64)])
@pytest.mark.parametrize("crop", [Box(0, 0, 64, 64), Box(3, 5, 50, 40), Box(2.4, 1.7, 33.3, 61.2)])
@pytest.mark.parametrize("exact", [False, True])
def test_what_is_seen_is_the_crop_resized(shape, crop, exact):
    rgb = smooth(*shape)
    if exact:
        canvas, placement = place(rgb, crop, 48, exact=True)
        np.testing.assert_array_equal(placement.box, [0, 0, 48, 48])
    else:
        canvas, placement = place(rgb, crop, 72)
        assert not placement.scaled
    seen = to_rgb(canvas[None], placement.box, BT601, 48)[0]
    assert np.abs(seen.astype(int) - scaled(rgb, crop, 48)).mean() < 1.5


def test_what_fits_is_sliced_pixel_by_pixel():
    rgb = smooth(256, 456)
    canvas, placement = place(rgb, centre(456, 256), 256)
    y, u, v = planes(rgb)
    np.testing.assert_array_equal(placement.box, [0, 0, 256, 256])
    np.testing.assert_array_equal(canvas[:256], y[:, 100:356])
    np.testing.assert_array_equal(canvas[256:, :128], u[:, 50:178])
    np.testing.assert_array_equal(canvas[256:, 128:], v[:, 50:178])


def test_only_the_dimension_that_would_not_fit_is_scaled():
    rgb = smooth(60, 200)
    canvas, placement = place(rgb, Box(10, 0, 40, 200), 64)
    np.testing.assert_array_equal(placement.box, [0, 0, 40, 64])
    assert (placement.rows.scaled, placement.columns.scaled) == (False, True)
    seen = to_rgb(canvas[None], placement.box, BT601, 32)[0]
    assert np.abs(seen.astype(int) - scaled(rgb, Box(10, 0, 40, 200), 32)).mean() < 1.5


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("side", [40, 100])
@pytest.mark.parametrize("shape", [(60, 90), (61, 91)])
def test_rotation_goes_before_the_crop(turns, side, shape):
    rgb = smooth(*shape)
    upright = np.ascontiguousarray(np.rot90(rgb, turns))
    crop = Box(7, 11, 48, 44)
    canvas, placement = place(rgb, crop, side, turns=turns, displayed=(upright.shape[1], upright.shape[0]))
    seen = to_rgb(canvas[None], placement.box, BT601, 32)[0].astype(int)
    error = seen - scaled(upright, crop, 32)
    assert np.abs(error @ (0.299, 0.587, 0.114)).mean() < 0.7
    assert np.abs(error).mean() < 3  # chroma lies a quarter of a pixel to the left of where it is taken to be


def test_pixels_that_are_not_square_are_cropped_as_displayed():
    rgb = smooth(64, 64)
    crop = Box(0, 30, 64, 64)  # of 128 x 64
    canvas, placement = place(rgb, crop, 64, displayed=(128, 64))
    assert placement.box.tolist() == [0, 1, 64, 32]
    seen = to_rgb(canvas[None], placement.box, BT601, 32)[0]
    assert np.abs(seen.astype(int) - scaled(rgb, Box(0, 15, 64, 32), 32)).mean() < 1.5


@given(
    extent=st.integers(1, 700),
    begin=st.floats(-5, 700),
    length=st.floats(0.5, 700),
    side=st.integers(1, 200).map(lambda half: 2 * half),
    exact=st.booleans(),
    whole=st.booleans(),
)
def test_a_span_stays_within_picture_and_canvas_and_moves_by_a_pixel_at_most(extent, begin, length, side, exact, whole):
    found = span(begin, length, extent, side, exact=exact, whole=whole)
    assert 0 <= found.first < found.last <= extent
    assert found.begin >= 0
    assert found.begin + found.length <= found.size + 1e-6 <= side + 1e-6
    assert found.length > 0
    if not found.scaled:
        assert found.first % 2 == 0
        length = min(length, extent)
        wanted = min(max(begin, 0.0), extent - length)
        assert abs(found.first + found.begin - wanted) <= (2 if whole else 1) + 1e-6
        assert found.length >= length - (1 if whole else 0) - 1e-6


@pytest.mark.parametrize("colour", [BT601, BT709, BT601_FULL, BT709_FULL])
def test_colours_are_those_of_swscale(colour):
    rgb = smooth(64, 64, seed=colour)
    space, full = (1 if colour in (BT709, BT709_FULL) else 5), colour in (BT601_FULL, BT709_FULL)
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
        format="yuv420p", dst_colorspace=space, dst_color_range=2 if full else 1
    )
    frame.colorspace, frame.color_range = space, 2 if full else 1
    assert colour_of(frame) == colour
    canvas = np.zeros((96, 64), np.uint8)
    placement = Placement(64, 64, centre(64, 64), 64, exact=False, turns=0, displayed=(64, 64))
    placement.put(planes_of(frame, av.video.reformatter.VideoReformatter()), canvas)
    seen = to_rgb(canvas[None], placement.box, colour, 64)[0]
    assert np.abs(seen.astype(int) - rgb).mean() < 2.5
    other = to_rgb(canvas[None], placement.box, (colour + 1) % 4, 64)[0]
    assert np.abs(other.astype(int) - rgb).mean() > 4


@pytest.mark.parametrize(("height", "colour"), [(480, BT601), (719, BT601), (720, BT709), (1080, BT709)])
def test_colours_that_are_not_stated_are_those_of_the_size(height, colour):
    assert colour_of(av.VideoFrame(height * 16 // 9, height, "yuv420p")) == colour


def test_nothing_bleeds_in_from_outside_the_box():
    canvas = np.zeros((96, 64), np.uint8)
    canvas[8:40, 8:40], canvas[64 + 4 : 64 + 20] = 126, 128
    assert to_rgb(canvas[None], np.array([8, 8, 32, 32]), BT601, 100)[0].min() >= 126


def test_a_clip_is_written_and_read_back(tmp_path):
    path = tmp_path / "clip.mp4"
    sound = (32767 * tone(1.2, 16_000)).astype(np.int16)
    write_clip(path, np.stack([picture(i, (65, 64)) for i in range(12)]), 10.0, sound, 16_000)
    info = probe(str(path))
    assert (info.width, info.height, info.fps, info.sample_rate) == (64, 64, 10.0, 16_000)
    clip = ClipConfig(frames=10, fps=10.0, size=64, sample_rate=16_000, samples=16_000)
    example = decode_clip(Item(id="", media=str(path), end=info.end), 0.1, clip, crop=centre, canvas=64)
    seen = to_rgb(example["video"], example["video_box"], int(example["video_colour"]), 64)
    assert [number(image) for image in seen] == list(range(1, 11))
    assert np.corrcoef(example["audio"], sound[1600:17_600])[0, 1] > 0.98


def test_a_clip_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(MediaError, match="absent"):
        write_clip(
            tmp_path / "absent" / "clip.mp4", np.zeros((2, 64, 64, 3), np.uint8), 10.0, np.zeros(0, np.int16), 8000
        )


# Clips that are arrays already

ARRAYS = Decoded(
    "record 7",
    video=np.stack([picture(i) for i in range(50)]),
    fps=25.0,
    audio=tone(2, 48_000).astype(np.float32),
    sample_rate=48_000,
)
SHORT = ClipConfig(frames=10, fps=10.0, size=64, sample_rate=16_000, samples=16_000)


def cut(media: Decoded, start: float, **kwargs) -> dict[str, np.ndarray]:
    item = Item(id="", media=media, end=2.0, has_video=media.video is not None, has_audio=media.audio is not None)
    return decode_clip(item, start, SHORT, crop=centre, canvas=80, **kwargs)


def test_arrays_are_cut_like_files():
    info = probe(ARRAYS)
    assert (info.end, info.width, info.fps, info.sample_rate) == (2.0, 64, 25.0, 48_000)
    example = cut(ARRAYS, 0.7)
    seen = to_rgb(example["video"], example["video_box"], int(example["video_colour"]), 64)
    assert [number(image) for image in seen] == [int((0.7 + i / 10 + 1e-3) * 25) for i in range(10)]
    expected = 0.5 * np.sin(2 * np.pi * 440 * (0.7 + np.arange(16_000) / 16_000))
    assert np.abs(example["audio"] / 32768 - expected).max() < 1e-3
    integers = Decoded("", audio=np.rint(32768 * tone(2, 16_000)).astype(np.int16), sample_rate=16_000)
    np.testing.assert_array_equal(cut(integers, 0.5)["audio"], integers.audio[8000:24_000])


def test_arrays_that_end_before_the_clip_are_an_error():
    for media in (
        ARRAYS,
        Decoded("a", video=ARRAYS.video, fps=25.0),
        Decoded("b", audio=ARRAYS.audio, sample_rate=48_000),
    ):
        cut(media, 1.0)
        with pytest.raises(MediaError, match="asked for") as caught:
            cut(media, 1.3)
        assert caught.value.kind == "too_short"


def test_arrays_of_another_kind_are_an_error():
    for media in (
        Decoded("a", video=np.zeros((10, 8, 8), np.uint8), fps=10),
        Decoded("b", video=np.zeros((10, 8, 8, 3), np.float32), fps=10),
        Decoded("c", video=np.zeros((10, 8, 8, 3), np.uint8)),
        Decoded("d", audio=np.zeros((2, 99_999), np.float32), sample_rate=16_000),
        Decoded("e", audio=np.zeros(99_999, np.float32)),
        Decoded("f", audio=np.full(99_999, np.nan, np.float32), sample_rate=16_000),
    ):
        with pytest.raises(MediaError, match=f"^{media.name}: "):
            cut(media, 0.0)
    with pytest.raises(MediaError, match="neither"):
        probe(Decoded("g"))


def test_silence_is_told_from_sound():
    assert is_silent(np.zeros(100, np.int16))
    assert is_silent(np.tile([-1, 1], 50).astype(np.int16))
    assert not is_silent((100 * tone(1, 8000)).astype(np.int16))


def test_frame_rates_that_are_fractions_are_kept(tmp_path):
    write_clip(tmp_path / "ntsc.mkv", np.stack([picture(i) for i in range(30)]), 29.97, None, 8000)
    with av.open(str(tmp_path / "ntsc.mkv")) as container:
        assert abs(container.streams.video[0].average_rate - Fraction(30_000, 1001)) < 0.1
