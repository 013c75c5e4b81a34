"""How a prepared record is best encoded: size, time to encode, and clips decoded per CPU-second, side by side.

    python tools/bench_codecs.py FILM [--seconds 10] [--rounds 7]

Cuts the first seconds of FILM (with sound, at least --seconds long) as `vatt data prepare` does, once for each way of
encoding, and decodes random clips of 3.2 s of each by `decode_clip`: 32 frames on a canvas of 256 for 224², 153,600
samples. Rounds are interleaved; medians are shown, and the ratio to the first row. One thread: run it under
`taskset -c 0` for steady numbers. The constants that are varied are those of `vatt/data/prepare/encode.py`.
"""

import argparse
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vatt.config import ClipConfig
from vatt.data.crops import centre
from vatt.data.items import Encoded, Item
from vatt.data.media.clip import decode_clip
from vatt.data.prepare import encode
from vatt.data.prepare.encode import Form, Part
from vatt.data.prepare.transcode import transcode
from vatt.errors import MediaError

CLIP = ClipConfig()
CLIPS = 12  # a round
WAYS: dict[str, dict] = {
    "as prepared": {},
    "without fastdecode": {"H264": {"tune": None}},
    "preset superfast": {"H264": {"preset": "superfast"}},
    "preset medium": {"H264": {"preset": "medium"}},
    "no B frames": {"H264": {"bf": "0"}},
    "GOP of 5": {"H264": {"g": "5"}},
    "GOP of 20": {"H264": {"g": "20"}},
    "AAC 96 kb/s": {"SOUND": "aac", "BIT_RATE": 96_000, "SOUND_OPTIONS": {"aac_pns": "0"}},
    "AAC 64 kb/s": {"SOUND": "aac", "BIT_RATE": 64_000, "SOUND_OPTIONS": {"aac_pns": "0"}},
    "MP3 96 kb/s": {"SOUND": "libmp3lame", "BIT_RATE": 96_000},
    "Opus 64 kb/s": {"SOUND": "libopus", "BIT_RATE": 64_000},
    "ALAC": {"SOUND": "alac"},
}


@contextmanager
def encoded_as(way: dict) -> Iterator[None]:
    before = {name: getattr(encode, name) for name in way}
    for name, value in way.items():
        merged = {**before[name], **value} if isinstance(value, dict) else value
        kept = {k: v for k, v in merged.items() if v is not None} if isinstance(merged, dict) else merged
        setattr(encode, name, kept)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(encode, name, value)


def clips_per_second(item: Item, seed: int) -> float:
    rng = random.Random(seed)
    starts = [rng.uniform(*item.room(CLIP.seconds)) for _ in range(CLIPS)]
    begun = time.process_time()
    for start in starts:
        decode_clip(item, start, CLIP, crop=centre, canvas=256)
    return CLIPS / (time.process_time() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", metavar="FILM")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    part = Part(start=0.0, end=options.seconds)
    items = {"the original": Item(id="", media=options.film, end=options.seconds)}
    took, sizes = {"the original": 0.0}, {"the original": 0}
    for name, way in WAYS.items():
        with encoded_as(way):
            begun = time.process_time()
            ((_, data),) = transcode(options.film, [part], form=Form(), has_video=True, has_audio=True)
            took[name] = time.process_time() - begun
        if isinstance(data, MediaError):
            raise data
        items[name], sizes[name] = Item(id="", media=Encoded(data, name), end=options.seconds), len(data)
    speeds: dict[str, list[float]] = {name: [] for name in items}
    for seed in range(options.rounds):
        for name, item in items.items():
            speeds[name].append(clips_per_second(item, seed))
    base = speeds["as prepared"]
    print(f"{'':20}{'kB a second':>12}{'s to encode':>13}{'clips/CPU-s':>13}{'ratio':>8}")
    for name in items:
        ratio = statistics.median(speed / of for speed, of in zip(speeds[name], base, strict=True))
        size = sizes[name] / options.seconds / 1000
        print(f"{name:20}{size:12.1f}{took[name]:13.2f}{statistics.median(speeds[name]):13.1f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
