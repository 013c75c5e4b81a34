"""Headers that promise too much or too little, and what a clip may cost."""

import io
import struct
import zlib

import av
import numpy as np
import pytest
from PIL import Image

from vatt.config import ClipConfig
from vatt.data.crops import centre
from vatt.data.items import Item, Slice
from vatt.data.media import clip as media
from vatt.data.media import gather, stills
from vatt.data.media.clip import decode_clip, is_silent, probe
from vatt.errors import MediaError

from .oddfiles import VBR, counted, number, picture, song, tone, write

CLIP = ClipConfig(frames=10, fps=10.0, size=64, sample_rate=16_000, samples=16_000)


def decoded(path, start: float, *, video: bool = True, audio: bool = True) -> dict[str, np.ndarray]:
    item = Item(id="", media=str(path), end=np.inf, has_video=video, has_audio=audio)
    return decode_clip(item, start, CLIP, crop=centre, canvas=64)


@pytest.mark.parametrize(("name", "audio"), [("vbr.mp3", "libmp3lame"), ("vbr.aac", "aac")])
@pytest.mark.parametrize("loud", [0, 15])
def test_a_length_guessed_from_the_bit_rate_is_not_believed(tmp_path, name, audio, loud):
    sound = tone(20, 48_000)
    sound[loud * 48_000 :][: 5 * 48_000] = 0.4 * np.random.default_rng(0).standard_normal(5 * 48_000)
    options = {"write_xing": "0"} if audio == "libmp3lame" else None
    path = write(tmp_path / name, sound=sound, audio=audio, sound_options=VBR, container_options=options)
    with av.open(str(path)) as container:
        assert abs((container.duration or 0) / av.time_base - 20) > 3
    assert probe(str(path)).end == pytest.approx(20, abs=0.06)


def test_the_last_frames_of_a_program_stream_count(tmp_path):
    options = {"bf": "2", "g": "12"}
    pictures = list(np.random.default_rng(0).integers(0, 255, (150, 64, 64, 3), np.uint8))
    path = write(tmp_path / "b.mpg", pictures=pictures, video="mpeg2video", options=options)
    assert probe(str(path)).end == pytest.approx(6.0, abs=0.05)


def test_sound_whose_packets_are_long_has_no_holes(tmp_path):
    path = tmp_path / "long.mkv"
    song(path, rate=8000, audio="flac")
    instants = np.arange(16_000) / 16_000
    for start in np.arange(0.0, 2.0, 0.07):
        audio = decoded(path, float(start), video=False)["audio"] / 32768
        assert abs(audio - 0.5 * np.sin(2 * np.pi * 440 * (start + instants)))[200:-200].max() < 0.01
        assert abs(audio[:50]).max() > 0.05


def test_packets_that_are_passed_over_do_not_count(tmp_path, monkeypatch):
    song(tmp_path / "long.mp3", audio="libmp3lame")
    monkeypatch.setattr(media, "PACKETS", 70)
    decoded(tmp_path / "long.mp3", 1.9, video=False)
    monkeypatch.setattr(media, "PACKETS", 30)
    with pytest.raises(MediaError, match="packets"):
        decoded(tmp_path / "long.mp3", 1.9, video=False)


def test_packets_that_wait_are_bounded_and_the_clip_is_the_same(tmp_path, monkeypatch):
    counted(tmp_path / "one_key.mp4", seconds=6.0, options={"g": "1000", "bf": "3"})
    expected = decoded(tmp_path / "one_key.mp4", 4.3)
    monkeypatch.setattr(gather, "HELD", 2000)
    held = []
    feed = gather.Pictures.feed

    def watched(self, packet):
        used = feed(self, packet)
        held.append(sum(packet.size for _, packet in self.waiting or []))
        return used

    monkeypatch.setattr(gather.Pictures, "feed", watched)
    np.testing.assert_array_equal(decoded(tmp_path / "one_key.mp4", 4.3)["video"], expected["video"])
    assert 0 < max(held) <= 2000


def test_the_frames_of_the_clip_itself_are_no_work_too_much(tmp_path, monkeypatch):
    counted(tmp_path / "clip.mp4", options={"g": "25", "bf": "0"})
    monkeypatch.setattr(gather, "WORK", 64 * 64 * 5)
    decoded(tmp_path / "clip.mp4", 0.1)
    with pytest.raises(MediaError, match="too much to decode"):
        decoded(tmp_path / "clip.mp4", 0.9)


@pytest.mark.parametrize(
    "options",
    [
        {"g": "12", "bf": "2"},
        {"g": "30", "bf": "5", "x264-params": "b-pyramid=normal:ref=4:scenecut=0"},
        {"g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"},
    ],
    ids=["b", "pyramid", "open"],
)
def test_frames_of_avi_are_shown_in_their_places(tmp_path, options):
    counted(tmp_path / "b.avi", seconds=5.0, audio="libmp3lame", options=options)
    for start in np.arange(0.0, 4.0, 0.28):
        video = decoded(tmp_path / "b.avi", float(start))["video"]
        shown = [number(np.repeat(canvas[:64, :, None], 3, 2)) for canvas in video]
        assert shown == [int((start + i / 10 + 1e-3) * 25) for i in range(10)]


def test_a_picture_whose_archive_is_gone_or_too_large_is_named(tmp_path):
    with pytest.raises(MediaError, match="no such file"):
        stills.size_of(Slice(str(tmp_path / "gone.tar"), 0, 100, "a.png"))
    sparse = tmp_path / "sparse.tar"
    with sparse.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(MediaError, match="bytes") as caught:
        stills.size_of(Slice(str(sparse), 0, 2**39, "a.png"))
    assert caught.value.kind == "too_large"


@pytest.mark.parametrize("behind", [False, True])
def test_the_size_of_a_png_is_known_without_its_pixels(tmp_path, behind):
    """Pixels that cannot be decoded; and what turns it, before or behind them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    chunk = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(chunk)) + b"eXIf" + chunk + struct.pack(">I", zlib.crc32(b"eXIf" + chunk))
    buffer = io.BytesIO()
    Image.fromarray(picture(5, (32, 64))).save(buffer, "PNG")
    data = buffer.getvalue()
    first, last = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    pixels = data[first:last].replace(data[first + 8 : first + 14], b"\xff" * 6)
    parts = (pixels, chunk) if behind else (chunk, pixels)
    (tmp_path / "turned.png").write_bytes(data[:first] + b"".join(parts) + data[last:])
    assert stills.size_of(str(tmp_path / "turned.png")) == (32, 64, 270)


def test_silence_is_what_lies_below_60_db():
    assert is_silent(np.array([], np.int16))
    assert is_silent(np.array([32, -32], np.int16))
    assert not is_silent(np.array([0, 33], np.int16))
    assert not is_silent(np.array([0, -32768], np.int16))
