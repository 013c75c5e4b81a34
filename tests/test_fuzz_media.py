"""Mutated media: a clip of the right shape with something in it, or a MediaError; in bounded time and memory.

The long run goes on in a child process, so that a crash of a decoder is seen as one.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.oddfiles import FPS, kind_of, picture, still, tone, write
from vatt.config import ClipConfig
from vatt.data.crops import centre
from vatt.data.items import Encoded, Item
from vatt.data.media.clip import decode_clip, probe
from vatt.errors import MediaError

CLIP = ClipConfig(frames=4, fps=10.0, size=32, sample_rate=16_000, samples=6_400)
CANVAS = 48
SECONDS = 5.0  # for one file, with a wide margin for a busy machine
ADDRESSES = 6 * 2**30  # bytes of address space for the child process

CODECS = {
    "a.mp4": {"options": {"g": "6", "bf": "2"}},
    "b.webm": {"video": "libvpx-vp9", "audio": "libopus"},
    "c.ts": {"options": {"g": "6", "bf": "2"}, "audio": "mp2"},
    "d.avi": {"video": "mpeg4", "audio": "libmp3lame"},
    "e.mkv": {"video": "libx265", "audio": "flac"},
    "f.mpg": {"video": "mpeg1video", "audio": "mp2"},
}
SOUNDS = {"g.wav": "pcm_s16le", "h.flac": "flac", "i.ogg": "libopus", "j.mp3": "libmp3lame", "k.aac": "aac"}
PICTURES = "l.jpg", "m.png", "n.webp", "o.bmp"


def seeds(folder: Path) -> dict[str, bytes]:
    """Small files of many kinds, whose pictures are never black and whose sound is never silent."""
    pictures = [picture(101 + i) for i in range(FPS)]
    for name, kwargs in CODECS.items():
        write(folder / name, pictures=pictures, sound=tone(1, 48_000), **kwargs)
    for name, codec in SOUNDS.items():
        write(folder / name, sound=tone(1, 48_000), audio=codec)
    for name in PICTURES:
        still(folder / name)
    return {name: (folder / name).read_bytes() for name in (*CODECS, *SOUNDS, *PICTURES)}


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Flips bits, overwrites, repeats, leaves out and cuts off, mostly near the beginning, where the headers are."""
    result = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        reach = len(result) if rng.random() < 0.5 else min(len(result), 600)
        if reach < 16:
            break
        place, size = int(rng.integers(reach)), int(rng.integers(1, 64))
        match rng.integers(7):
            case 0:
                result[place] ^= 1 << int(rng.integers(8))
            case 1:
                result[place : place + size] = rng.bytes(len(result[place : place + size]))
            case 2:
                extreme = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
                result[place : place + 4] = bytes([extreme] * len(result[place : place + 4]))
            case 3:
                del result[place : place + size]
            case 4:
                result[place:place] = result[place : place + size]
            case 5:
                result[place:place] = rng.bytes(size)
            case 6:
                del result[max(place, 32) :]
    return bytes(result)


def outcome(data: bytes, name: str) -> str:
    """What becomes of a file. Fails if it is anything but a clip with something in it, or a MediaError."""
    began = time.monotonic()
    media = Encoded(data, name)
    try:
        info = probe(media)
        item = Item(
            id=name, media=media, end=info.end, has_video=info.has_video, has_audio=info.has_audio, still=info.still
        )
        example = decode_clip(item, info.start, CLIP, crop=centre, canvas=CANVAS)
    except MediaError as error:
        return kind_of(error, name)
    finally:
        assert time.monotonic() - began < SECONDS
    assert example["video"].shape == (4, CANVAS * 3 // 2, CANVAS)
    assert example["video"].dtype == np.uint8
    assert example["audio"].shape == (6_400,)
    assert example["audio"].dtype == np.int16
    top, left, height, width = example["video_box"]
    assert 0 <= top <= top + height <= CANVAS
    assert 0 <= left <= left + width <= CANVAS
    assert min(height, width) > 0
    assert int(example["video_colour"]) in range(4)
    # A picture is never all zeros in luma, black being 16, or 0 in part of a picture only; nor is a tone.
    assert bool(example["video_mask"]) == all(frame[:CANVAS].any() for frame in example["video"])
    assert bool(example["audio_mask"]) == bool(example["audio"].any())
    return "clip"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return seeds(tmp_path_factory.mktemp("seeds"))


def test_the_originals_give_clips(originals):
    assert {name: outcome(data, name) for name, data in originals.items()} == dict.fromkeys(originals, "clip")


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(name=st.sampled_from([*CODECS, *SOUNDS, *PICTURES]), seed=st.integers(0, 2**32 - 1))
def test_mutated_files_give_a_clip_or_an_error(originals, name, seed):
    outcome(mutated(originals[name], np.random.default_rng(seed)), name)


@settings(max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(
    head=st.sampled_from([b"", b"\xff\xd8\xff", b"RIFF", b"\0\0\0\x18ftypmp42", b"\x1aE\xdf\xa3", b"OggS", b"BM"]),
    tail=st.binary(max_size=300),
)
def test_bytes_that_are_no_media_are_an_error(head, tail):
    assert outcome(head + tail, "noise") != "clip"


def soak(folder: str, first: int, count: int) -> None:
    """Mutates and reads `count` files of each kind; prints the seed before each, so that a crash can be repeated."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    originals = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    for seed in range(first, first + count):
        for name, data in originals.items():
            print(name, seed, flush=True)
            outcome(mutated(data, np.random.default_rng(seed)), name)
    print("done", flush=True)


@pytest.mark.slow
def test_a_thousand_mutations_of_each_kind_crash_nothing(tmp_path):
    seeds(tmp_path)
    code = f"from tests.test_fuzz_media import soak; soak({str(tmp_path)!r}, 0, 1000)"
    child = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert child.returncode == 0, (child.stdout.splitlines()[-1], child.stderr[-2000:])
    assert child.stdout.endswith("done\n")
