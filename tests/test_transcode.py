"""Parts cut for a prepared set: the frames and the sound of the original, whatever that is."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from tests.oddfiles import number, picture, tone, write
from vatt.config import ClipConfig
from vatt.data.crops import centre
from vatt.data.items import Encoded, Item, Slice
from vatt.data.media.canvas import to_rgb
from vatt.data.media.clip import decode_clip, probe
from vatt.data.prepare import transcode as module
from vatt.data.prepare.encode import Form, Part, encode_still
from vatt.data.prepare.transcode import transcode
from vatt.errors import MediaError

FORM = Form(size=64, fps=10.0, sample_rate=16_000)
CLIP = ClipConfig(frames=10, fps=10.0, size=64, sample_rate=16_000, samples=16_000)


def parts_of(medium, spans, form=FORM, **streams):
    """The results of cutting, in the order of the spans."""
    medium = str(medium) if not isinstance(medium, Encoded | Slice) else medium
    info = probe(medium)
    streams = {"has_video": info.has_video, "has_audio": info.has_audio} | streams
    parts = [Part(start=start, end=end) for start, end in spans]
    results = dict(transcode(medium, sorted(parts, key=lambda part: part.start), form=form, **streams))
    return [results[part] for part in parts]


def clip_of(medium, start, clip=CLIP):
    """A clip as (pictures in RGB, sound in [-1, 1])."""
    info = probe(medium)
    item = Item(id="", media=medium, end=info.end, has_video=info.has_video, has_audio=info.has_audio)
    example = decode_clip(item, start, clip, crop=centre, canvas=clip.size)
    rgb = to_rgb(example["video"], example["video_box"], int(example["video_colour"]), clip.size)
    return rgb, example["audio"] / np.float32(32768)


def numbers(data: bytes, start=0.0, frames=10) -> list[int]:
    clip = ClipConfig(frames=frames, fps=10.0, size=64, sample_rate=16_000, samples=round(frames * 1600))
    return [number(image) for image in clip_of(Encoded(data, "part"), start, clip)[0]]


def lag(a: np.ndarray, b: np.ndarray, reach: int = 40) -> int:
    """By how many samples b comes after a."""
    inner = slice(reach, -reach)
    return max(range(-reach, reach + 1), key=lambda k: float(np.dot(a[inner], np.roll(b, -k)[inner])))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def noise():
    return 0.3 * np.random.default_rng(0).standard_normal(6 * 48_000).clip(-3, 3)


@pytest.fixture(scope="module")
def film(folder, noise):
    """6 s at 25 fps with B frames; every frame shows its number; the sound is noise, which tells where it is."""
    return write(folder / "film.mp4", pictures=[picture(i) for i in range(150)], sound=noise)


@pytest.mark.parametrize("start", [0.0, 0.013, 1.27, 3.999])
def test_a_part_shows_what_the_original_does(film, start):
    (part,) = parts_of(film, [(start, start + 2.0)])
    assert numbers(part, frames=20) == [int((start + i / 10) * 25 + 0.026) for i in range(20)]


@pytest.mark.parametrize("fps", [10.0, 25.0, 7.5, 30000 / 1001])
def test_any_rate(film, fps):
    (part,) = parts_of(film, [(0.5, 2.5)], Form(size=64, fps=fps, sample_rate=16_000))
    clip = ClipConfig(frames=int(2 * fps), fps=fps, size=64, sample_rate=16_000, samples=16_000)
    shown = [number(image) for image in clip_of(Encoded(part, "part"), 0.0, clip)[0]]
    assert shown == [int((0.5 + i / fps) * 25 + 0.026) for i in range(int(2 * fps))]


def test_clips_of_a_part_are_clips_of_the_original(film):
    (part,) = parts_of(film, [(1.3, 5.3)])
    for at in (0.0, 0.7, 2.9):
        (pictures, sound), (as_was, heard) = clip_of(Encoded(part, "part"), at), clip_of(str(film), 1.3 + at)
        assert [number(image) for image in pictures] == [number(image) for image in as_was]
        assert np.abs(pictures.astype(int) - as_was).mean() < 6
        assert lag(heard, sound) == 0
        # at both ends as in the middle
        for piece in (slice(0, 1600), slice(7200, 8800), slice(-1600, None)):
            assert np.corrcoef(heard[piece], sound[piece])[0, 1] > 0.95


@pytest.mark.parametrize(
    ("name", "streams"),
    [
        ("aac.mkv", {"rate": 44_100}),
        ("opus.webm", {"video": "libvpx-vp9", "audio": "libopus", "options": {"deadline": "realtime", "g": "30"}}),
        ("aac.mp4", {"rate": 44_100}),
    ],
)
def test_sound_is_cut_to_the_sample_also_where_the_clock_is_coarse(folder, noise, name, streams):
    path = write(folder / f"cut-{name}", pictures=[picture(i) for i in range(150)], sound=noise, **streams)
    form, clip = Form(size=64, sample_rate=48_000), ClipConfig(size=64, frames=5, samples=24_000)
    for start in (0.0, 1.913, 2.337, 2.571, 3.113, 3.779):  # each alone: what begins late is sought
        (part,) = parts_of(path, [(start, start + 1.5)], form)
        (_, sound), (_, heard) = clip_of(Encoded(part, "part"), 0.5, clip), clip_of(str(path), start + 0.5, clip)
        assert lag(heard, sound) == 0, start


def test_the_sound_of_the_whole_part_is_as_long_as_the_part(film):
    for length in (1.0, 1.7, 2.01):
        (part,) = parts_of(film, [(2.0, 2.0 + length)])
        with av.open(io.BytesIO(part)) as container:
            stream = container.streams.audio[0]
            assert stream.duration * stream.time_base * 16_000 == round(length * 16_000)
            samples = sum(frame.samples for frame in container.decode(stream))
        assert samples == round(length * 16_000)
        assert probe(Encoded(part, "")).end == pytest.approx(length, abs=1e-4)


def test_overlapping_and_distant_parts_come_each_once(film, monkeypatch):
    spans = [(0.0, 2.0), (1.0, 3.0), (1.5, 2.5), (4.0, 5.0)]
    together = parts_of(film, spans)
    assert together == [parts_of(film, [span])[0] for span in spans]
    monkeypatch.setattr(module, "APART", 0.1)  # another pass for what lies apart
    monkeypatch.setattr(module, "AT_ONCE", 1)
    assert parts_of(film, spans) == together


def test_near_parts_are_cut_in_one_pass(film, monkeypatch):
    opened = []
    monkeypatch.setattr(module, "opened", lambda medium, real=module.opened: opened.append(medium) or real(medium))
    parts_of(film, [(i * 0.5, i * 0.5 + 0.5) for i in range(11)])
    assert len(opened) == 1


def test_twice_the_same_bytes_without_dates(film):
    (first,), (second,) = parts_of(film, [(0.5, 1.5)]), parts_of(film, [(0.5, 1.5)])
    assert first == second
    with av.open(io.BytesIO(first)) as container:
        assert not {"encoder", "creation_time"} & (container.metadata.keys() | container.streams[0].metadata.keys())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("late.ts", {"offset": 11.4}),
        ("vp9.webm", {"video": "libvpx-vp9", "audio": "libopus", "options": {"deadline": "realtime", "g": "30"}}),
        ("uneven.mkv", {"times": np.cumsum(np.tile([0.02, 0.06, 0.04], 50)) - 0.02}),
    ],
)
def test_a_flash_and_a_click_stay_together(folder, name, options):
    """At 3.0 s a flash of 0.2 s, and a click."""
    times = options.get("times", np.arange(150) / 25)
    pictures = [np.full((64, 64, 3), 235 if 3.0 - 1e-6 <= t < 3.2 - 1e-6 else 20, np.uint8) for t in times]
    sound = np.zeros(6 * 48_000)
    sound[3 * 48_000 : 3 * 48_000 + 480] = 0.9
    path = write(folder / name, pictures=pictures, sound=sound, **options)
    (part,) = parts_of(path, [(1.72, 4.72)], Form(size=64, fps=25.0, sample_rate=48_000))
    clip = ClipConfig(frames=50, fps=25.0, size=64, sample_rate=48_000, samples=96_000)
    pictures, heard = clip_of(Encoded(part, "part"), 0.28, clip)  # from 2.0 s of the original
    flash = np.flatnonzero(pictures.mean((1, 2, 3)) > 120)[0] / 25
    click = np.flatnonzero(np.abs(heard) > 0.4)[0] / 48_000
    assert flash == pytest.approx(1.0, abs=0.041)  # of MPEG-TS 0 is where the sound begins, 21 ms early
    assert click == pytest.approx(1.0, abs=0.025)
    assert abs(flash - click) < 0.04
    as_was, sounded = clip_of(str(path), 2.0, clip)
    assert np.flatnonzero(as_was.mean((1, 2, 3)) > 120)[0] / 25 == flash
    assert abs(lag(sounded, heard, 60)) <= (1 if name == "late.ts" else 48)  # Matroska tells time in milliseconds


@pytest.mark.parametrize(
    ("size", "expected"), [((128, 96), (86, 64)), ((100, 200), (64, 128)), ((40, 61), (40, 60)), ((63, 63), (62, 62))]
)
def test_the_short_side_is_scaled_down_never_up(folder, size, expected):
    """Sizes are height and width; odd ones lose a line, for colour comes two by two."""
    path = write(folder / f"{size[0]}x{size[1]}.mkv", pictures=[picture(5, size)] * 25, video="ffv1")
    (part,) = parts_of(path, [(0, 1)])
    info = probe(Encoded(part, ""))
    assert (info.height, info.width) == expected


def test_rotation_is_applied(folder, tmp_path):
    sideways = write(folder / "plain.mp4", pictures=[picture(178, (48, 64))] * 25)
    data = bytearray(sideways.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    turned = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000]  # ISO/IEC 14496-12 8.3.2: a quarter turn
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    (part,) = parts_of(path, [(0, 0.9)])
    info = probe(Encoded(part, ""))
    assert (info.width, info.height, info.rotation) == (48, 64, 0)
    clip = ClipConfig(frames=5, fps=10.0, size=48, sample_rate=16_000, samples=8_000)
    assert np.abs(clip_of(Encoded(part, ""), 0, clip)[0].astype(int) - clip_of(str(path), 0, clip)[0]).mean() < 4


COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [220, 220, 60]], np.uint8)


@pytest.mark.parametrize(
    ("codec", "pixels", "colour"),
    [
        ("libx264", "yuv420p", {}),
        ("libx264", "yuv420p", {"colorspace": 1, "color_primaries": 1, "color_trc": 1}),
        ("libx264", "yuv420p", {"colorspace": 6, "color_range": 2}),
        ("libx264", "yuv444p", {"colorspace": 1}),
        ("libx264", "yuv420p10le", {"colorspace": 6}),
        ("libx264rgb", "rgb24", {}),
        ("mjpeg", "yuvj420p", {}),
    ],
)
def test_colours_stay_as_they_are_seen(folder, codec, pixels, colour):
    path = folder / f"colour-{codec}-{pixels}-{len(colour)}-{colour.get('colorspace', 0)}.mkv"
    image = np.repeat(np.repeat(COLOURS.reshape(2, 2, 3), 32, 0), 32, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 25, options={"crf": "4"} if codec != "mjpeg" else {"qmin": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        for name, value in colour.items():
            setattr(stream.codec_context, name, value)
        for index in range(30):
            matrix, reach = colour.get("colorspace"), colour.get("color_range")
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame = frame.reformat(format=pixels, dst_colorspace=matrix, dst_color_range=reach)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = ClipConfig(frames=2, fps=10.0, size=64, sample_rate=16_000, samples=1600)
    (part,) = parts_of(path, [(0, 1)])
    as_was, now = clip_of(str(path), 0, clip)[0], clip_of(Encoded(part, ""), 0, clip)[0]
    for row, column in ((16, 16), (16, 48), (48, 16), (48, 48)):
        block = (slice(None), slice(row - 8, row + 8), slice(column - 8, column + 8))
        before, after = as_was[block].mean((0, 1, 2)), now[block].mean((0, 1, 2))
        assert np.abs(after - COLOURS.reshape(2, 2, 3)[row // 32, column // 32]).max() < 6
        assert codec == "libx264rgb" or np.abs(before - after).max() < 6


def test_no_sound_and_sound_alone(folder, film):
    silent = write(folder / "silent.mp4", pictures=[picture(i) for i in range(50)])
    (part,) = parts_of(silent, [(0, 1.5)])
    info = probe(Encoded(part, ""))
    assert (info.has_video, info.has_audio) == (True, False)
    alone = write(folder / "alone.flac", sound=tone(3, 44_100), rate=44_100, audio="flac")
    (part,) = parts_of(alone, [(0.5, 2.5)])
    info = probe(Encoded(part, ""))
    assert (info.has_video, info.has_audio, info.sample_rate) == (False, True, 16_000)
    assert lag(clip_of(str(alone), 1.0)[1], clip_of(Encoded(part, ""), 0.5)[1]) == 0


def test_a_slice_of_an_archive_is_cut_as_the_file(folder, film):
    data = film.read_bytes()
    (folder / "archive.tar").write_bytes(bytes(512) + data + bytes(512))
    member = Slice(str(folder / "archive.tar"), 512, len(data), "film.mp4")
    assert parts_of(member, [(1, 2)]) == parts_of(film, [(1, 2)]) == parts_of(Encoded(data, ""), [(1, 2)])


def test_damage_costs_the_parts_it_lies_in(folder, film):
    path = write(
        folder / "damaged.mkv",
        pictures=[picture(i) for i in range(150)],
        options={"g": "10", "bf": "0", "crf": "20", "sc_threshold": "0"},
    )
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        hit = next(packet for packet in packets if packet.is_keyframe and packet.pts * packet.time_base > 2.7)
        content = bytes(hit)
        instant = float(hit.pts * hit.time_base)
    data = bytearray(path.read_bytes())
    at = data.index(content)
    data[at : at + len(content)] = bytes(len(content))
    path.write_bytes(data)
    first, second, third = parts_of(path, [(0, 2), (2, 4), (4, 5.5)])
    assert numbers(first, frames=20) == [int(i * 2.5 + 0.026) for i in range(20)]
    assert isinstance(second, MediaError)
    assert second.kind == "damaged"
    assert f"damaged at {np.ceil(instant * 10) / 10:.2f} s" in str(second)
    assert numbers(third, frames=15) == [int(100 + i * 2.5 + 0.026) for i in range(15)]


def test_one_frame_for_hours_costs_no_memory(folder):
    """Two frames an hour apart, and no sound or sound that comes after both."""
    import resource

    still = [picture(1, (256, 256)), picture(2, (256, 256))]
    alone = write(folder / "hour.mkv", pictures=still, times=[0.0, 3600.0], fps=1)
    parts = [Part(start=start, end=start + 10) for start in range(0, 3600, 10)]
    form = Form(size=256, fps=1.0, sample_rate=16_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = dict(transcode(str(alone), parts, form=form, has_video=True, has_audio=False))
    assert all(isinstance(results[part], bytes) for part in parts)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB; each encoder has some 5 MiB


def test_what_is_not_there_is_said(film):
    whole, beyond = parts_of(film, [(4.0, 5.5), (5.0, 7.0)])
    assert isinstance(whole, bytes)
    assert isinstance(beyond, MediaError)
    assert "ends at 6." in str(beyond)
    with pytest.raises(MediaError, match="no such file"):
        list(transcode("/nowhere.mp4", [Part(start=0, end=1)], form=FORM, has_video=True, has_audio=True))


def test_long_files_take_no_more_memory(folder):
    """The bytes that PyAV and numpy hold while cutting grow with a part, not with the file."""
    import resource

    pictures = [picture(i, (16, 16)) for i in range(3)]
    for name, times in (("short", 10), ("long", 120)):
        write(folder / f"{name}.mp4", pictures=pictures[:3] * times, fps=3, sound=np.tile(tone(1, 48_000), times))
    peaks = []
    for name, seconds in (("short", 10), ("long", 120)):
        parts = [Part(start=start, end=start + 2) for start in range(0, seconds, 2)]
        for _, result in transcode(str(folder / f"{name}.mp4"), parts, form=FORM, has_video=True, has_audio=True):
            assert isinstance(result, bytes)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    assert peaks[1] - peaks[0] < 15  # MiB; 120 s of the sound are 22 MiB


@pytest.mark.parametrize(("size", "expected"), [((300, 200), (96, 64)), ((30, 20), (30, 20)), ((1, 500), (1, 500))])
def test_stills_become_small_jpeg(tmp_path, size, expected):
    Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "still.png")
    data = encode_still(str(tmp_path / "still.png"), FORM)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", expected)
        assert np.abs(np.array(image, int).mean((0, 1)) - (200, 100, 50)).max() < 4
    assert probe(Encoded(data, "")).still


def test_stills_are_turned_upright(tmp_path):
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 10, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    image.save(tmp_path / "still.jpg", exif=exif)
    with Image.open(io.BytesIO(encode_still(str(tmp_path / "still.jpg"), FORM))) as upright:
        assert upright.size == (20, 40)
        assert np.array(upright)[2].mean() > 200 > np.array(upright)[30].mean()
        assert not upright.getexif()
