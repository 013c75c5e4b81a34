"""Signatures survive re-encoding and tell apart what looks much alike; the search finds what comparing all finds."""

import itertools

import av
import numpy as np
import pytest

from tests.test_check import picture, sound, write
from vatt.data.check import alike as limits
from vatt.data.check.alike import BLOCK, PICTURES, SIDE, TIMES, Loudness, Pictures, Signature, _root, alike
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


def same(a: Signature, b: Signature) -> bool:
    if abs(a.seconds - b.seconds) > limits._slack(max(a.seconds, b.seconds)) or (a.video is None) != (b.video is None):
        return False
    verdicts = {same_video(a.video, b.video), same_audio(a.audio, b.audio)}
    if "different" in verdicts:
        return False
    return "same" in verdicts or verdicts == {"still", "unknown"}


def same_video(a: np.ndarray | None, b: np.ndarray | None) -> str:
    """same, different, like (not denied, as unknown), unknown; or still: the same picture, in which nothing moves."""
    if a is None or b is None:
        return "unknown"
    a, b = a.astype(np.float32), b.astype(np.float32)
    if np.sqrt(np.mean((a - b) ** 2)) > limits.SAME_LEVEL:
        return "different"
    if max(a.std(), b.std()) < limits.PLAIN:
        return "unknown"
    likeness = cosine(a - a.mean(), b - b.mean())
    if likeness < limits.LIKE_PICTURE:
        return "different"
    moves_a, moves_b = a - a.mean(0), b - b.mean(0)
    if max(moves_a.std(), moves_b.std()) < limits.MOVES:
        return "still" if likeness >= limits.SAME_STILL else "unknown"
    course = cosine(moves_a, moves_b)
    if course < limits.LIKE_MOTION:
        return "different"
    return "same" if likeness >= limits.SAME_PICTURE and course >= limits.SAME_MOTION else "like"


def same_audio(a: np.ndarray | None, b: np.ndarray | None) -> str:
    """same, different or unknown."""
    if a is None or b is None:
        return "unknown"
    a, b = a.astype(np.float32) / 2, b.astype(np.float32) / 2
    tone = float((a.mean(0) - b.mean(0)).std())
    varies_a, varies_b = limits._centred(a), limits._centred(b)
    varies = min(varies_a.std(), varies_b.std()) >= limits.VARIES
    likeness = cosine(varies_a, varies_b)
    if tone > limits.OTHER_TONE or (varies and likeness < limits.OTHER_SOUND):
        return "different"
    return "same" if varies and likeness >= limits.SAME_SOUND and tone < limits.SAME_TONE else "unknown"


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


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
        if same(signatures[a], signatures[b]):
            low, high = sorted((_root(group, a), _root(group, b)))
            group[high] = low
    expected = {(_root(group, key), key) for key in range(300) if _root(group, key) != key}
    assert len(expected) > 50
    assert set(alike(signatures)) == expected


@pytest.mark.parametrize("motion", [0, 40])
@pytest.mark.parametrize("heard", [False, True])
def test_one_camera_gives_no_pairs_but_copies(motion, heard):
    """As the plain comparison finds; more than one block of them."""
    scene = np.random.default_rng(0).integers(20, 215, (SIDE, SIDE, 3))
    signatures = {}
    for key in range(700):
        rng = np.random.default_rng(key % 650)  # fifty copies
        video = np.repeat(scene[None], PICTURES, 0)
        for image in video:
            top, left = rng.integers(0, SIDE - 2, 2)
            image[top : top + 3, left : left + 3] += motion
        video = video + rng.integers(-2, 3, video.shape)
        audio = rng.integers(60, 160, (TIMES, 8)).astype(np.uint8) if heard else None
        signatures[key] = Signature(seconds=5.0, video=video.clip(0, 255).astype(np.uint8), audio=audio)
    done = []
    pairs = set(alike(signatures, lambda *at: done.append(at)))
    assert done == [(512, 700), (700, 700)]
    if motion or heard:
        assert pairs == {(key, key + 650) for key in range(50)}
    else:  # nothing moves and nothing sounds: the very same picture
        assert pairs == {(0, key) for key in range(1, 700)}
    some = [0, 1, 2, 3, 650, 651]
    plain = {(a, b) for a, b in itertools.combinations(some, 2) if same(signatures[a], signatures[b])}
    assert plain == ({(0, 650), (1, 651)} if motion or heard else set(itertools.combinations(some, 2)))


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
