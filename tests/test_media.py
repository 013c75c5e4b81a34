"""Decoding: the right frame, the right sample, and an error rather than padding. All files are made here."""

import io
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vatt.config import ClipConfig
from vatt.data.crops import centre
from vatt.data.items import Item
from vatt.data.media import clip as media
from vatt.data.media import gather
from vatt.data.media.canvas import to_rgb
from vatt.data.media.clip import probe
from vatt.data.media.resample import mono, resample
from vatt.errors import MediaError

from .oddfiles import number, picture, tone, write

CLIP = ClipConfig(frames=10, fps=10.0, size=64, sample_rate=16_000, samples=16_000)


def decode_clip(path, start, clip, *, canvas=None, crop=centre):
    """A clip of all that a file holds, with pictures in RGB and sound in [-1, 1]."""
    try:
        with av.open(str(path)) as container:
            video, audio = bool(container.streams.video), bool(container.streams.audio)
    except (av.error.FFmpegError, OSError):
        video = audio = True
    item = Item(id="", media=str(path), end=np.inf, has_video=video, has_audio=audio)
    example = media.decode_clip(item, start, clip, crop=crop, canvas=canvas or clip.size + clip.size % 2)
    box, colour = example["video_box"], int(example["video_colour"])
    rgb = to_rgb(example["video"], box, colour, clip.size)
    return example | {"video": rgb, "audio": example["audio"] / np.float32(32768)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def counted(folder):
    """8 s at 25 fps with B frames and long GOPs; every frame shows its number; a tone at 48 kHz."""
    return write(
        folder / "counted.mp4",
        pictures=[picture(i) for i in range(200)],
        sound=tone(8, 48_000),
        options={"g": "60", "bf": "3", "crf": "12"},
    )


def whole_audio(path, rate=None) -> np.ndarray:
    """All the audio of a file, decoded from the beginning, mono."""
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray().mean(0) for frame in container.decode(audio=0)])


# Pictures


@pytest.mark.parametrize("start", [0.0, 0.013, 0.5, 1.27, 3.999, 6.5])
@pytest.mark.parametrize("fps", [10.0, 25.0, 7.3])
def test_the_frame_on_show_at_each_instant_is_picked(counted, start, fps):
    clip = ClipConfig(frames=10, fps=fps, size=64, sample_rate=16_000, samples=16_000)
    shown = [number(image) for image in decode_clip(counted, start, clip)["video"]]
    assert shown == [int((start + i / fps) * 25 + 0.026) for i in range(10)]


def test_variable_frame_rate(folder):
    times = np.cumsum(np.random.default_rng(0).choice([0.02, 0.04, 0.11, 0.2], 40))
    times -= times[0]
    path = write(folder / "vfr.mp4", pictures=[picture(i) for i in range(40)], times=times, fps=30)
    shown = [number(image) for image in decode_clip(path, 0.7, CLIP)["video"]]
    assert shown == [int(np.searchsorted(times, 0.7 + i / 10 + 1e-3, side="right")) - 1 for i in range(10)]


def test_short_side_is_scaled_and_the_centre_cut_out(folder):
    wide = np.zeros((90, 160, 3), np.uint8)
    wide[:, 35:125] = (200, 30, 30)  # the centre square is red, the sides are black
    path = write(folder / "wide.mp4", pictures=[wide] * 30)
    for size in (45, 64, 100):
        clip = ClipConfig(frames=2, fps=10, size=size, sample_rate=8000, samples=800)
        image = decode_clip(path, 0.1, clip)["video"][0].astype(int)
        assert image.shape == (size, size, 3)
        assert abs(image[:, 4:-4] - (200, 30, 30)).max() < 30


def test_rotation_is_applied(folder):
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48] = 220  # the left half is bright
    path = write(folder / "upright.mp4", pictures=[image] * 20)
    # The display matrix of the track header: a quarter turn clockwise, as phones write it.
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    unit = (0x10000).to_bytes(4, "big", signed=True)
    minus, zero, last = (-0x10000).to_bytes(4, "big", signed=True), bytes(4), (0x40000000).to_bytes(4, "big")
    data[matrix : matrix + 36] = zero + unit + zero + minus + zero + zero + zero + zero + last
    turned = folder / "turned.mp4"
    turned.write_bytes(data)
    video = decode_clip(turned, 0.0, ClipConfig(frames=2, fps=10, size=64, sample_rate=8000, samples=800))["video"][0]
    assert video[:24].mean() > 180 > 60 > video[-24:].mean()  # clockwise: left comes to the top


# Sound


@pytest.mark.parametrize("start", [0.0, 0.3, 1.5, 4.321, 6.99])
def test_audio_is_the_very_samples_of_a_full_decode(counted, start):
    clip = ClipConfig(frames=10, fps=10, size=64, sample_rate=48_000, samples=48_000)
    audio = decode_clip(counted, start, clip)["audio"]
    first = round(start * 48_000)
    np.testing.assert_allclose(audio, whole_audio(counted)[first : first + 48_000], atol=1 / 32768)


SOUNDS = {"aac": "m4a", "libmp3lame": "mp3", "libopus": "opus", "flac": "flac", "pcm_s16le": "wav", "mp2": "mpg"}


@pytest.mark.parametrize("codec", SOUNDS)
def test_sound_alone_is_the_very_samples_of_a_full_decode(folder, codec):
    path = write(folder / f"alone.{SOUNDS[codec]}", sound=noise(4), audio=codec)
    compare_with_full_decode(path, video=False)


def noise(seconds: float) -> np.ndarray:
    """Noise that nowhere resembles itself, so that a shift by one sample shows; low, as encoders drop what is high."""
    white = np.random.default_rng(0).standard_normal(round(seconds * 48_000))
    return 0.2 * np.convolve(white, np.hanning(24) / 4, mode="same")


def compare_with_full_decode(path, *, video: bool):
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        first = (frames[0].time or 0.0) - (container.start_time or 0) / av.time_base
    whole = np.concatenate([mono(frame) for frame in frames])
    clip = ClipConfig(frames=10, fps=10, size=64, sample_rate=48_000, samples=48_000)
    for start in (0.5, 1.1, 2.345):
        item = Item(id="", media=str(path), end=np.inf, has_video=video)
        audio = media.decode_clip(item, start, clip, crop=centre, canvas=64)["audio"]
        at = round((start - first) * 48_000)
        # Opus, a decoder that warms up, is right to -70 dB; the others to the last bit.
        expected = 32768 * whole[at : at + 48_000]
        assert abs(audio - expected).max() < (8 if frames[0].sample_rate == 48_000 and "opus" in path.name else 1.01)
        assert abs(audio[1:] - expected[:-1]).max() > 50


@pytest.mark.parametrize("start", [0.0, 0.3, 1.5, 4.321, 6.99])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_resampled_audio_is_a_cut_of_the_resampled_whole(counted, start, rate):
    clip = ClipConfig(frames=10, fps=10, size=64, sample_rate=rate, samples=rate)
    expected = resample(whole_audio(counted), 48_000, rate, start=round(start * rate), samples=rate)
    np.testing.assert_allclose(decode_clip(counted, start, clip)["audio"], expected, atol=1 / 32768)


@pytest.mark.parametrize("source", [8000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_any_rate_and_layout_gives_the_tone(folder, source, layout):
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    path = write(
        folder / f"{source}_{layout}.mp4",
        pictures=[picture(i) for i in range(60)],
        sound=np.tile(tone(2.4, source), (channels, 1)),
        rate=source,
        layout=layout,
        audio="flac",
    )
    example = decode_clip(path, 0.7, CLIP)
    expected = 0.5 * np.sin(2 * np.pi * 440 * (0.7 + np.arange(16_000) / 16_000))
    assert example["audio_mask"]
    assert np.sqrt(np.mean((example["audio"] - expected) ** 2)) < 0.01


def test_channels_are_mixed_equally(folder):
    left, right = tone(2, 16_000, 300), tone(2, 16_000, 700)
    path = write(
        folder / "panned.mkv",
        pictures=[picture(0)] * 50,
        sound=np.stack([left, right]),
        rate=16_000,
        layout="stereo",
        audio="flac",
    )
    np.testing.assert_allclose(decode_clip(path, 0.0, CLIP)["audio"], ((left + right) / 2)[:16_000], atol=1e-3)


@pytest.mark.parametrize(("source", "target"), [(44_100, 48_000), (22_050, 8000), (48_000, 16_000), (8000, 48_000)])
def test_resampling_keeps_tones_and_removes_what_the_lower_rate_cannot_hold(source, target):
    low = 0.7 * min(source, target) / 2
    out = resample(
        np.sin(2 * np.pi * low * np.arange(source) / source).astype(np.float32),
        source,
        target,
        start=target // 4,
        samples=target // 2,
    )
    expected = np.sin(2 * np.pi * low * (np.arange(target // 2) + target // 4) / target)
    assert abs(out - expected).max() < 1e-3
    if target < source:
        high = 1.1 * target / 2
        out = resample(
            np.sin(2 * np.pi * high * np.arange(source) / source).astype(np.float32),
            source,
            target,
            start=target // 4,
            samples=target // 2,
        )
        assert abs(out).max() < 1e-3


def test_a_file_without_sound_gives_zeros_and_says_so(folder):
    path = write(folder / "silent.mp4", pictures=[picture(i) for i in range(50)])
    example = decode_clip(path, 0.2, CLIP)
    assert not example["audio_mask"]
    assert example["audio"].shape == (16_000,)
    assert not example["audio"].any()
    assert not probe(path).has_audio


# Both together


def flash_and_click(path, **kwargs):
    """Pictures flash, and the sound clicks, at 1.4 and 3.2 s."""
    rate, fps = 48_000, 25
    dark, bright = np.full((64, 64, 3), 20, np.uint8), np.full((64, 64, 3), 230, np.uint8)
    sound = np.zeros(5 * rate)
    pictures = [dark] * (5 * fps)
    for instant in (1.4, 3.2):
        sound[round(instant * rate) : round((instant + 0.04) * rate)] = 0.8 * np.sin(
            np.arange(round(0.04 * rate)) * 0.3
        )
        pictures[round(instant * fps)] = bright
    return write(path, pictures=pictures, sound=sound, **kwargs)


CONTAINERS = {
    "h264_aac.mp4": {},
    "h264_aac.mov": {},
    "h264_aac.mkv": {},
    "vp9_opus.webm": {
        "video": "libvpx-vp9",
        "audio": "libopus",
        "options": {"deadline": "realtime", "cpu-used": "8"},
    },
    "mpeg4_mp3.avi": {"video": "mpeg4", "audio": "libmp3lame"},
    "h264_aac.ts": {"options": {"g": "25", "bf": "2"}},
    "late_clock.ts": {"options": {"g": "25", "bf": "2"}, "offset": 10.0},
    "late_clock.mkv": {"offset": 10.0},
}


@pytest.fixture(scope="module")
def flashes(folder):
    return {name: flash_and_click(folder / name, **kwargs) for name, kwargs in CONTAINERS.items()}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("instant", [1.4, 3.2])
@pytest.mark.parametrize("lead", [0.24, 0.9])
def test_flash_and_click_coincide_within_a_frame(flashes, name, instant, lead):
    clip = ClipConfig(frames=25, fps=25.0, size=64, sample_rate=16_000, samples=16_000)
    example = decode_clip(flashes[name], instant - lead, clip)
    flash = int(np.argmax(example["video"].mean((1, 2, 3)) > 125)) / 25
    click = int(np.argmax(abs(example["audio"]) > 0.2)) / 16_000
    assert abs(flash - click) <= 0.041
    assert abs(click - lead) <= (0.1 if name.endswith(("ts", "avi")) else 0.005)


@pytest.mark.parametrize("name", CONTAINERS)
def test_probe_tells_how_long_a_file_lasts_and_every_clip_within_can_be_decoded(flashes, name):
    info = probe(flashes[name])
    assert info.has_audio
    assert info.end == pytest.approx(5.0, abs=0.08)
    for start in np.linspace(0, info.end - 1.0, 5):
        decode_clip(flashes[name], float(start), CLIP)


@pytest.mark.parametrize("name", CONTAINERS)
def test_sound_beside_video_is_the_very_samples_of_a_full_decode(folder, name):
    kwargs = CONTAINERS[name]
    path = write(folder / f"noise_{name}", pictures=[picture(i) for i in range(100)], sound=noise(4), **kwargs)
    compare_with_full_decode(path, video=True)


def test_flash_and_click_coincide_at_a_variable_frame_rate(folder):
    times = np.sort(np.random.default_rng(1).choice(np.arange(1, 500), 150, replace=False)) / 100
    times[0] = 0.0
    flash = int(np.searchsorted(times, 3.0))
    dark, bright = np.full((64, 64, 3), 20, np.uint8), np.full((64, 64, 3), 230, np.uint8)
    sound = np.zeros(5 * 48_000)
    at = round(times[flash] * 48_000)
    sound[at : at + 2000] = 0.8 * np.sin(np.arange(2000) * 0.3)
    pictures = [bright if i >= flash else dark for i in range(len(times))]
    path = write(folder / "vfr_flash.mp4", pictures=pictures, times=times, fps=30, sound=sound)
    clip = ClipConfig(frames=100, fps=100.0, size=64, sample_rate=48_000, samples=48_000)
    example = decode_clip(path, 2.6, clip)
    seen = 2.6 + int(np.argmax(example["video"].mean((1, 2, 3)) > 125)) / 100
    heard = 2.6 + int(np.argmax(abs(example["audio"]) > 0.2)) / 48_000
    assert abs(seen - times[flash]) < 0.011
    assert abs(heard - times[flash]) < 0.002


class Pipe(io.RawIOBase):
    """A file that cannot be wound back, so that the muxer cannot write how long it became."""

    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data)
        return len(data)


def test_a_file_that_does_not_state_its_duration_is_measured(folder):
    pipe = Pipe()
    write(pipe, pictures=[picture(i) for i in range(75)], sound=tone(3, 48_000), container_format="matroska")
    path = folder / "streamed.mkv"
    path.write_bytes(pipe.data)
    with av.open(str(path)) as container:
        assert container.duration is None
    assert probe(path).end == pytest.approx(3.0, abs=0.03)
    assert number(decode_clip(path, 1.9, CLIP)["video"][0]) == 47


# Files that cannot give the clip


@pytest.mark.parametrize("start", [0.8, 1.5, 7.0])
def test_a_file_that_ends_before_the_clip_is_an_error(folder, start):
    path = write(folder / "short.mp4", pictures=[picture(i) for i in range(38)], sound=tone(1.52, 48_000))
    with pytest.raises(MediaError, match=r"short\.mp4: asked for .*; (the (video|audio) ends at 1\.5|no)"):
        decode_clip(path, start, CLIP)


@pytest.mark.parametrize(("start", "shown"), [(0.61, True), (0.65, True), (0.7, False)])
def test_the_last_frame_is_shown_for_its_duration_and_little_longer(folder, start, shown):
    path = write(folder / "mute_short.mp4", pictures=[picture(i) for i in range(38)])  # ends at 1.52 s
    if shown:
        assert number(decode_clip(path, start, CLIP)["video"][-1]) == 37
    else:
        with pytest.raises(MediaError, match=r"mute_short\.mp4: asked for video .*; the video ends at 1\.52 s"):
            decode_clip(path, start, CLIP)


def test_sound_that_ends_before_the_clip_is_an_error(folder):
    path = write(folder / "mute_end.mp4", pictures=[picture(i) for i in range(50)], sound=tone(0.9, 48_000))
    with pytest.raises(
        MediaError, match=r"mute_end\.mp4: asked for audio from 0\.00 to 1\.00 s; the audio ends at 0\.9"
    ):
        decode_clip(path, 0.0, CLIP)
    assert probe(path).end == pytest.approx(0.9, abs=0.03)


def test_a_little_sound_missing_at_the_end_is_silence(folder):
    path = write(
        folder / "nearly.mkv",
        pictures=[picture(i) for i in range(50)],
        sound=tone(0.98, 16_000),
        rate=16_000,
        audio="flac",
    )
    audio = decode_clip(path, 0.0, CLIP)["audio"]
    assert abs(audio[15_000:15_600]).max() > 0.4
    assert not audio[15_700:].any()


def test_a_frame_is_shown_for_its_duration(folder):
    path = write(folder / "slow.mp4", pictures=[picture(i) for i in range(4)], fps=2)
    shown = [number(image) for image in decode_clip(path, 1.0, CLIP)["video"]]
    assert shown == [2] * 5 + [3] * 5


def test_a_truncated_file_is_an_error(folder, counted):
    path = folder / "truncated.mkv"
    whole = write(folder / "whole.mkv", pictures=[picture(i) for i in range(100)], sound=tone(4, 48_000))
    path.write_bytes(whole.read_bytes()[: os.path.getsize(whole) // 2])
    with pytest.raises(MediaError, match=r"truncated\.mkv: truncated"):
        probe(path)
    with pytest.raises(MediaError, match=r"truncated\.mkv"):
        decode_clip(path, 2.9, CLIP)
    headless = folder / "headless.mp4"
    headless.write_bytes(counted.read_bytes()[:20_000])
    for act in (probe, lambda path: decode_clip(path, 0.0, CLIP)):
        with pytest.raises(MediaError, match=r"headless\.mp4: cannot be decoded"):
            act(headless)


def test_damaged_packets_are_an_error(folder, counted):
    data = bytearray(counted.read_bytes())
    middle = data.index(b"mdat") + 4
    data[middle + 2000 : middle + 6000] = bytes(4000)
    path = folder / "damaged.mp4"
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"damaged\.mp4"):
        decode_clip(path, 0.0, CLIP)


@pytest.mark.parametrize("act", [probe, lambda path: decode_clip(path, 0.0, CLIP)], ids=["probe", "decode"])
def test_what_is_not_a_video_is_an_error(folder, act):
    text = folder / "notes.mp4"
    text.write_text("not a video " * 100)
    empty = folder / "empty.mp4"
    empty.touch()
    for path, reason in [
        (text, "cannot be decoded"),
        (empty, "cannot be decoded"),
        (folder / "absent.mp4", "no such file"),
        (folder, ""),
    ]:
        with pytest.raises(MediaError, match=f"{path.name}: .*{reason}"):
            act(path)


def test_sound_that_starts_late_is_an_error_before_it_starts(folder):
    path = folder / "late.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", 25, options={"bf": "0"})
        video.height = video.width = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("flac", 16_000, layout="mono", format="s16")
        for index in range(75):
            frame = av.VideoFrame.from_ndarray(picture(index), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray((tone(2, 16_000) * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 16_000, Fraction(1, 16_000)
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    with pytest.raises(MediaError, match=r"the audio starts at 1\.0"):
        decode_clip(path, 0.3, CLIP)
    info = probe(path)
    assert info.start == pytest.approx(1.0, abs=0.01)
    assert decode_clip(path, info.start, CLIP)["audio_mask"]


# Damage, within the clip and without


def spoil(path, target, kind: str, begin: float, end: float):
    """Overwrites the later half of the packets of one stream between two instants."""
    with av.open(str(path)) as container:
        stream = container.streams.best(kind)
        places = [
            (packet.pos, packet.size)
            for packet in container.demux(stream)
            if packet.size and begin <= float(packet.pts * packet.time_base) < end
        ]
    data = bytearray(path.read_bytes())
    for position, size in places:
        half = range(position + size // 2, position + size)
        data[half.start : half.stop] = np.random.default_rng(0).bytes(len(half))
    target.write_bytes(data)
    return target


@pytest.fixture(scope="module")
def plain(folder):
    """4 s with a key frame every 0.4 s, B frames, and sound whose packets bear checksums."""
    return write(
        folder / "plain.mkv",
        pictures=[picture(i) for i in range(100)],
        sound=tone(4, 48_000),
        audio="flac",
        options={"g": "10", "bf": "2", "crf": "12", "x264-params": "scenecut=0"},
    )


@pytest.mark.parametrize(
    ("begin", "end", "right"),
    [
        (0.0, 1.2, True),  # all up to the last key frame before the clip
        (2.4, 4.0, True),  # from the first key frame after it on
        (1.2, 1.24, False),  # the key frame that the clip needs
        (1.8, 1.84, False),
        (2.2, 2.28, False),
    ],
)
def test_damaged_pictures_cost_only_clips_that_depend_on_them(folder, plain, begin, end, right):
    path = spoil(plain, folder / f"spoilt_{begin}.mkv", "video", begin, end)
    if right:
        shown = [number(image) for image in decode_clip(path, 1.3, CLIP)["video"]]
        assert shown == [int((1.3 + i / 10) * 25 + 0.026) for i in range(10)]
    else:
        with pytest.raises(MediaError, match=r"spoilt_.*\.mkv: ") as caught:
            decode_clip(path, 1.3, CLIP)
        assert caught.value.kind == "damaged"


@pytest.mark.parametrize(
    ("begin", "end", "right"), [(0.0, 0.8, True), (2.5, 4.0, True), (1.3, 1.35, False), (2.2, 2.3, False)]
)
def test_damaged_sound_costs_only_clips_that_need_it(folder, plain, begin, end, right):
    path = spoil(plain, folder / f"noisy_{begin}.mkv", "audio", begin, end)
    if right:
        expected = 0.5 * np.sin(2 * np.pi * 440 * (1.3 + np.arange(16_000) / 16_000))
        assert abs(decode_clip(path, 1.3, CLIP)["audio"] - expected).max() < 0.01
    else:
        with pytest.raises(MediaError, match="audio") as caught:
            decode_clip(path, 1.3, CLIP)
        assert caught.value.kind == "damaged"


# Bounds


def test_a_clip_costs_no_more_than_its_bounds(folder, monkeypatch):
    endless = write(
        folder / "endless.mp4",
        pictures=[picture(i % 200) for i in range(250)],
        options={"g": "1000", "bf": "0", "x264-params": "scenecut=0"},
    )
    decode_clip(endless, 8.5, CLIP)
    monkeypatch.setattr(gather, "WORK", 64 * 64 * 60)
    with pytest.raises(MediaError, match="too much to decode") as caught:
        decode_clip(endless, 8.5, CLIP)
    assert caught.value.kind == "too_large"
    decode_clip(endless, 0.5, CLIP)
    monkeypatch.setattr(media, "PACKETS", 100)
    with pytest.raises(MediaError, match="packets"):
        decode_clip(endless, 7.5, CLIP)


def test_only_the_part_that_is_needed_is_read(folder):
    noise = np.random.default_rng(0).integers(0, 255, (250, 64, 64, 3), np.uint8)
    path = write(folder / "big.mkv", pictures=list(noise), video="ffv1", sound=tone(10, 48_000), audio="flac")
    info = probe(str(path))
    item = Item(id="", media=str(path), end=info.end)

    def read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = read()
    media.decode_clip(item, 6.0, CLIP, crop=centre, canvas=64)
    assert read() - before < 0.35 * path.stat().st_size


def test_many_clips_leave_no_memory_behind(counted):
    item = Item(id="", media=str(counted), end=8.0)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(20):
        media.decode_clip(item, 1.0, CLIP, crop=centre, canvas=64)
    before = resident()
    for _ in range(100):
        media.decode_clip(item, 1.0, CLIP, crop=centre, canvas=64)
    assert resident() - before < 2**23


def test_what_is_no_file_is_an_error_at_once(folder):
    os.mkfifo(folder / "pipe.mp4")
    path = str(folder / "pipe.mp4")
    item = Item(id="", media=path, end=2.0)
    for act in (lambda: probe(path), lambda: media.decode_clip(item, 0.0, CLIP, crop=centre, canvas=64)):
        with pytest.raises(MediaError, match=r"pipe\.mp4: is not a file"):
            act()


@pytest.mark.parametrize(
    "name", ["http:x.mp4", "a,b;c?d=e#f.mp4", "%03d.mp4", "ïn ünï – 日本.mp4", "-i.mp4", "concat:a|b.mp4"]
)
def test_any_name_will_do(folder, plain, name):
    path = folder / name
    path.write_bytes(plain.read_bytes())
    assert probe(str(path)).end == pytest.approx(4.0, abs=0.05)
    assert number(decode_clip(path, 1.0, CLIP)["video"][0]) == 25


@pytest.mark.parametrize("start", [-0.1, np.nan, np.inf, 1e12])
def test_a_clip_that_begins_nowhere_is_an_error(plain, start):
    with pytest.raises(MediaError, match="cannot begin"):
        decode_clip(plain, start, CLIP)


def test_what_the_item_lacks_is_not_decoded(plain):
    for has_video, has_audio in [(True, False), (False, True)]:
        item = Item(id="", media=str(plain), end=4.0, has_video=has_video, has_audio=has_audio)
        example = media.decode_clip(item, 1.0, CLIP, crop=centre, canvas=64)
        assert (bool(example["video_mask"]), bool(example["audio_mask"])) == (has_video, has_audio)
        assert (bool(example["video"].any()), bool(example["audio"].any())) == (has_video, has_audio)


def test_what_the_item_promises_and_the_file_lacks_is_an_error(folder):
    mute = write(folder / "mute.mp4", pictures=[picture(i) for i in range(50)])
    deaf = write(folder / "deaf.m4a", sound=tone(2, 48_000))
    for path, kind in [(mute, "no_audio"), (deaf, "no_video")]:
        with pytest.raises(MediaError) as caught:
            media.decode_clip(Item(id="", media=str(path), end=2.0), 0.0, CLIP, crop=centre, canvas=64)
        assert caught.value.kind == kind
