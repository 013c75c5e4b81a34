"""Signatures survive re-encoding and tell apart what looks much alike; the search finds what comparing all finds."""

import itertools

import av
import numpy as np
import pytest

from tests.test_check import picture, sound, write
from vatt.data.check.alike import BLOCK, PICTURES, SIDE, TIMES, Loudness, Pictures, Signature, _root, _same, alike
from vatt.data.check.examine import Task, examine


def seen(pictures: np.ndarray, fps: float) -> np.ndarray:
    gathered = Pictures()
    for index, image in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(image, "rgb24")
        gathered.add(index / fps, frame)
    gathered.end = len(pictures) / fps
    return gathered.signature().astype(float)


def heard(samples: np.ndarray, rate: int) -> np.ndarray | None:
    loudness = Loudness()
    for start in range(0, len(samples), 1024):
        loudness.add(samples[start : start + 1024], rate)
    return loudness.signature()


@pytest.mark.parametrize(("fps", "width", "height"), [(10, 64, 48), (24, 64, 48), (12, 200, 150), (12, 32, 24)])
def test_a_picture_signature_depends_on_neither_rate_nor_size(fps, width, height):
    one, other = seen(picture(3, 4), 12), seen(picture(3, 4, fps, width, height), fps)
    assert one.shape == (PICTURES, SIDE, SIDE, 3)
    assert np.sqrt(np.mean((one - other) ** 2)) < 6
    assert np.sqrt(np.mean((one - seen(picture(4, 4), 12)) ** 2)) > 25


def test_a_long_video_is_gathered_in_bounded_memory():
    gathered = Pictures()
    image = picture(0)[0]
    for index in range(20_000):
        gathered.take(index / 25, image) if index / 25 >= gathered.next else None
        if len(gathered.times) >= 2:
            gathered.next = gathered.times[-1] + gathered.stride
    assert len(gathered.times) <= Pictures.LIMIT
    assert max(np.diff(gathered.times)) < 3 * min(np.diff(gathered.times))
    assert gathered.times[-1] > 700


def test_a_loudness_signature_depends_on_neither_level_nor_rate():
    t = np.arange(48_000 * 4) / 48_000
    envelope = np.interp(t, np.linspace(0, 4, 9), [0.1, 1, 0.2, 0.9, 0.05, 0.5, 1, 0.1, 0.8])
    samples = (envelope * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    one, other = heard(samples, 48_000), heard(samples[::3] * 0.5, 16_000)
    assert one is not None
    assert other is not None
    assert one.shape[0] == TIMES
    course = [s[:, s.mean(0).argmax()].astype(float) for s in (one, other)]
    assert np.corrcoef(course)[0, 1] > 0.99
    assert heard(samples[: int(5 * BLOCK * 48_000)], 48_000) is None
    assert heard(np.tile(samples, 100), 48_000) is not None


def test_the_search_finds_what_comparing_all_with_all_finds():
    rng = np.random.default_rng(0)
    signatures = {}
    for key in range(300):
        seconds = float(rng.choice([2.0, 2.1, 5.0]))
        kind = rng.integers(4)
        base = np.random.default_rng(rng.integers(60))  # five of each, more or less
        video = base.integers(0, 255, (PICTURES, SIDE, SIDE, 3)) + rng.integers(-9, 10, (PICTURES, SIDE, SIDE, 3))
        audio = base.integers(60, 160, (TIMES, 8)) + rng.integers(-9, 10, (TIMES, 8))
        signatures[key] = Signature(
            seconds=seconds,
            video=None if kind == 0 else video.clip(0, 255).astype(np.uint8) // (40 if kind == 1 else 1),
            audio=None if kind == 2 else audio.astype(np.uint8),
        )
    group = list(range(300))
    for a, b in itertools.combinations(range(300), 2):
        if _same(signatures[a], signatures[b]):
            low, high = sorted((_root(group, a), _root(group, b)))
            group[high] = low
    expected = {(_root(group, key), key) for key in range(300) if _root(group, key) != key}
    assert len(expected) > 50
    assert set(alike(signatures)) == expected


def test_sound_denies_what_pictures_affirm(tmp_path):
    files = {
        "a": write(tmp_path / "a.mp4", picture(0), sound(0)),
        "dubbed": write(tmp_path / "b.mp4", picture(0), sound(1)),
        "stripped": write(tmp_path / "c.mp4", picture(0), None),
        "sound": write(tmp_path / "d.wav", None, sound(0), audio="pcm_s16le"),
        "squeezed": write(tmp_path / "e.mp3", None, sound(0), audio="libmp3lame"),
    }
    found = [examine(Task(media=str(path))).signature for path in files.values()]
    pairs = set()
    for (a, one), (b, other) in itertools.combinations(zip(files, found, strict=True), 2):
        assert one is not None
        assert other is not None
        if list(alike({0: one, 1: other})):
            pairs.add((a, b))
    assert pairs == {("a", "stripped"), ("dubbed", "stripped"), ("sound", "squeezed")}


def test_what_tells_nothing_accuses_nobody():
    ramp = np.linspace(30, 42, SIDE).astype(np.uint8)
    dim = np.broadcast_to(ramp[:, None], (PICTURES, SIDE, SIDE))[..., None].repeat(3, -1)
    hum = np.full((TIMES, 8), 120, np.uint8)
    clear = (dim.astype(int) * 5 - 100).clip(0, 255).astype(np.uint8)

    def are_alike(video, audio) -> bool:
        return bool(list(alike({n: Signature(seconds=4.0, video=video, audio=audio) for n in range(2)})))

    assert not are_alike(dim, None)
    assert not are_alike(dim, hum)
    assert not are_alike(None, hum)
    assert are_alike(clear, None)
    assert are_alike(clear, hum)


def test_another_tone_is_another_sound():
    rng = np.random.default_rng(0)
    video = rng.integers(0, 255, (PICTURES, SIDE, SIDE, 3)).astype(np.uint8)
    low = np.outer(rng.integers(0, 60, TIMES), np.ones(8)) + np.linspace(120, 20, 8)
    high = low[:, ::-1]

    def are_alike(*audios: np.ndarray) -> bool:
        signed = [Signature(seconds=4.0, video=video, audio=audio.astype(np.uint8)) for audio in audios]
        return bool(list(alike(dict(enumerate(signed)))))

    assert are_alike(low, low)
    assert not are_alike(low, high)
