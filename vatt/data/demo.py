"""Demo media: small videos with sound and captions, whose content is known.

A shape of some colour moves over a noisy background. What is seen can be heard (the shape sets the timbre,
the colour the pitch, the motion the loudness over time) and read (some captions describe the clip, others
mislead), so that all three modalities can be learnt from one another, and retrieval scored, within minutes on
a CPU. The files are ordinary MP4 (H.264 + AAC) with .srt captions beside them: they take the same path as any
other media.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np

from vatt.data.captions import Caption, write_srt
from vatt.errors import DataError
from vatt.jsonl import read_lines

FEW = 10  # clips of a class in few.csv
VERSION = 3  # of what is made from a seed; a folder made by another version is refused
SHAPES = ("circle", "square", "triangle", "cross", "ring")
COLOURS = {
    "red": (225, 30, 35),
    "yellow": (240, 220, 30),
    "green": (25, 150, 45),
    "cyan": (30, 215, 225),
    "blue": (35, 60, 215),
    "pink": (250, 120, 200),
    "white": (250, 250, 250),
    "black": (8, 8, 8),
}
# How a shape may move, and how captions say it.
MOTIONS = {
    "left": ("moves left", "drifts left", "goes left", "slides left"),
    "right": ("moves right", "drifts right", "goes right", "slides right"),
    "grow": ("grows", "swells", "gets bigger", "becomes large"),
    "blink": ("blinks", "flashes", "flickers", "comes and goes"),
}

# Partials of a shape's timbre: multiple of the pitch -> strength. Multiples stay below 4, and pitches (Hz)
# below 1000, so that the second partial of every timbre survives at a sampling rate of 8 kHz.
TIMBRES = {
    "circle": {1: 1.0},
    "square": {1: 1.0, 3: 0.6},
    "triangle": {1: 1.0, 2: 0.6, 3: 0.4, 4: 0.3},
    "cross": {1: 0.8, 1.5: 0.8, 2.76: 0.6},
    "ring": {1: 0.5, 2: 1.0},
}
PITCHES = {colour: 160 * 1.3**i for i, colour in enumerate(COLOURS)}  # 160-1004 Hz

# Fast to make and to decode, some 14 kB a clip. Without noise substitution AAC decodes alike from any packet.
H264 = {"preset": "ultrafast", "tune": "fastdecode", "crf": "31", "g": "8", "bf": "0", "threads": "1"}
AAC = {"aac_coder": "fast", "aac_pns": "0", "aac_tns": "0", "aac_is": "0", "aac_ms": "0"}

FULL = (
    "a {colour} {shape} {moves}",
    "we see a {colour} {shape} that {moves}",
    "here a {size} {colour} {shape} {moves}",
    "the {shape} is {colour} and it {moves}",
    "look a {colour} {shape} {moves}",
    "now the {colour} {shape} {moves}",
)
PARTIAL = (
    "something {colour}",
    "it {moves}",
    "this is a {shape}",
    "a {colour} {shape}",
    "the {shape} {moves}",
    "a {size} {colour} thing",
)
IDLE = (
    "thanks for watching",
    "subscribe to my channel",
    "hello and welcome back",
    "let me know what you think",
    "so as i said before",
    "see you next time",
)


@dataclass(frozen=True)
class Factors:
    """What a clip shows and sounds like."""

    shape: str
    colour: str
    motion: str


COMBINATIONS = tuple(Factors(*values) for values in product(SHAPES, COLOURS, MOTIONS))


def make_demo(
    folder: str | Path,
    *,
    seed: int = 0,
    clips: int = 1536,
    heldout: int = len(COMBINATIONS),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Makes `folder/train` and `folder/heldout`; returns at once where they are made already.

    The same seed gives the same bytes with the same versions of the codecs. A making that was interrupted is
    continued. The content of every clip is listed in `folder/factors.jsonl`. `folder/few.csv` and `folder/heldout.csv`
    are manifests with labels, such as "red circle": ten training clips of each where there are so many, and all of the
    held-out clips.

    Args:
      seed: of all that is random.
      clips: how many training clips, of random content.
      heldout: how many held-out clips: the first of the 160 combinations (by default all), each once.
      progress: called with (files done, files in all) as files are made.

    Raises:
      DataError: the folder cannot be written, or holds something else.
    """
    folder = Path(folder)
    parameters = {"version": VERSION, "seed": seed, "clips": clips, "heldout": heldout}
    jobs: list = [(folder / "train" / f"clip_{i:05d}.mp4", (seed, 0, i), None) for i in range(clips)]
    shuffled = np.random.default_rng((seed, 2)).permutation(heldout)  # so that numbers do not tell the content
    for i, c in enumerate(shuffled):
        jobs.append((folder / "heldout" / f"clip_{i:05d}.mp4", (seed, 1, i), COMBINATIONS[c]))
    try:
        if not _is_made(folder, parameters):
            _make(folder, parameters, jobs, progress or (lambda done, total: None))
        if not (folder / "heldout.csv").exists():
            _label(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot write the demo media: {error.strerror or error}") from error


def _is_made(folder: Path, parameters: dict) -> bool:
    """True: complete. False: to be made or continued. Raises DataError if it holds something else."""
    for name in ("demo.json", "demo.partial.json"):
        if (folder / name).exists():
            found, asked = (folder / name).read_text(errors="replace").strip(), json.dumps(parameters)
            if found != asked:
                what = f"{folder} holds other demo media ({found}, asked for {asked})"
                raise DataError(f"{what}; remove it or choose another folder")
            return name == "demo.json"
    if any((folder / split).exists() for split in ("train", "heldout")):
        raise DataError(f"{folder} holds files that are not demo media; choose another folder")
    return False


def _make(folder: Path, parameters: dict, jobs: list, progress: Callable[[int, int], None]) -> None:
    for split in ("train", "heldout"):
        (folder / split).mkdir(parents=True, exist_ok=True)
    partial = folder / "demo.partial.json"
    partial.write_text(json.dumps(parameters) + "\n")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(_make_clip, *job) for job in jobs]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                progress(done, len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    with open(folder / "factors.jsonl", "w") as file:
        for (path, _, _), future in zip(jobs, futures, strict=True):
            line = {"split": path.parent.name, "id": path.name, **asdict(future.result())}
            file.write(json.dumps(line) + "\n")
    os.replace(partial, folder / "demo.json")


def _label(folder: Path) -> None:
    """Writes the manifests, from factors.jsonl."""
    lines = [json.loads(line) for line in (folder / "factors.jsonl").read_text().splitlines()]
    for name, split, most in (("few.csv", "train", FEW), ("heldout.csv", "heldout", len(lines))):
        rows, counts = ["path,label"], Counter()
        for line in lines:
            label = f"{line['colour']} {line['shape']}"
            if line["split"] == split and counts[label] < most:
                counts[label] += 1
                rows.append(f"{split}/{line['id']},{label}")
        temporary = folder / f".{name}.tmp"
        temporary.write_text("\n".join(rows) + "\n")
        os.replace(temporary, folder / name)


def _make_clip(path: Path, key: tuple[int, ...], factors: Factors | None) -> Factors:
    """Makes a clip and its captions, unless they are there. `factors` None: a training clip, at random."""
    rng = np.random.default_rng(key)
    training = factors is None
    factors = factors or COMBINATIONS[rng.integers(len(COMBINATIONS))]
    if path.exists():
        return factors
    fps = int(rng.choice((8, 10, 12, 15)))
    frames = round(rng.uniform(1.3, 1.7) * fps)
    rate = int(rng.choice((16_000, 22_050, 24_000)))
    plain = Caption(0.0, frames / fps, _say(FULL[0], factors))
    captions = _captions(factors, frames / fps, rng) if training else [plain]
    silent, uncaptioned = training and rng.random() < 0.1, training and rng.random() < 0.2
    video = _draw(factors, frames, fps, rng)
    audio = None if silent else _play(factors, frames / fps, rate, rng)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _encode(temporary, video, fps, audio, rate)
        if not uncaptioned:
            write_srt(path.with_suffix(".srt"), captions)
        os.replace(temporary, path)  # last, so that a clip that is there is complete
    finally:
        temporary.unlink(missing_ok=True)
    return factors


def _draw(factors: Factors, frames: int, fps: int, rng: np.random.Generator) -> np.ndarray:
    """The moving shape, [T H W 3] uint8. It stays within the centre crop; left and right cross most of it."""
    short = 2 * int(rng.integers(32, 45))
    long = 2 * int(short * rng.uniform(1.0, 1.5) / 2)
    height, width = (short, long) if rng.random() < 0.7 else (long, short)
    time = np.linspace(0, 1, frames, dtype=np.float32).reshape(-1, 1, 1)
    radius = np.full_like(time, rng.uniform(0.2, 0.27))  # positions and sizes are in short sides, from the centre
    if factors.motion == "grow":
        radius = rng.uniform(0.1, 0.13) + rng.uniform(0.16, 0.19) * time
    reach = 0.5 - radius.max()
    centre_x, centre_y = rng.uniform(-reach, reach, 2)
    if factors.motion in ("left", "right"):
        travel = rng.uniform(0.8, 1.0) * 2 * reach
        centre_x = rng.uniform(-reach, reach - travel) + travel * time
        centre_x = -centre_x if factors.motion == "left" else centre_x
    shown = np.ones_like(time)
    if factors.motion == "blink":
        shown = (np.arange(frames) / fps * 2.2 + rng.random()) % 1 < 0.5  # 2.2 times a second, as it sounds
        shown = shown.reshape(-1, 1, 1)

    y = ((np.arange(height, dtype=np.float32) + 0.5 - height / 2) / short)[:, None]
    x = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / short)[None, :]
    outside = _distance(factors.shape, (x - centre_x) / radius, (y - centre_y) / radius)  # [T H W]
    alpha = (shown * np.clip(0.5 - outside * (radius * short), 0, 1))[:, None]  # [T 1 H W]: planes blend faster

    tint = (rng.uniform(70, 150) + rng.uniform(-18, 18, 3)).astype(np.float32).reshape(3, 1, 1)
    background = tint + np.float32(rng.uniform(-25, 25)) * x + np.float32(rng.uniform(-25, 25)) * y  # [3 H W]
    colour = np.array(COLOURS[factors.colour], np.float32).reshape(3, 1, 1) * rng.uniform(0.85, 1.0)
    noise = int(rng.integers(4, 13))
    planes = alpha * (colour - background)
    planes += background
    planes += rng.integers(-noise, noise + 1, (frames, 1, height, width), np.int8)
    return np.ascontiguousarray(np.clip(planes, 0, 255, out=planes).astype(np.uint8).transpose(0, 2, 3, 1))


def _distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far a point is outside a shape of radius 1 (negative inside)."""
    ax, ay = abs(x), abs(y)
    match shape:
        case "circle":
            return np.hypot(x, y) - 0.95
        case "square":
            return np.maximum(ax, ay) - 0.8
        case "triangle":
            return np.maximum(y - 0.6, 0.866 * ax - 0.5 * y - 0.5)
        case "cross":
            return np.minimum(np.maximum(ax - 0.28, ay - 1), np.maximum(ax - 1, ay - 0.28))
        case _:
            return abs(np.hypot(x, y) - 0.75) - 0.25


def _play(factors: Factors, seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The sound as [channels S] float32 in [-1, 1]."""
    t = np.arange(round(seconds * rate), dtype=np.float32) / np.float32(rate)
    pitch = PITCHES[factors.colour] * 2 ** (rng.uniform(-15, 15) / 1200)  # detuned by some cents
    tone = np.zeros_like(t)
    for multiple, strength in TIMBRES[factors.shape].items():
        tone += strength * np.sin(2 * np.pi * (multiple * pitch * t + rng.random()))
    tone /= sum(TIMBRES[factors.shape].values())
    match factors.motion:
        case "left":
            loudness = np.exp(-3 * t / seconds)
        case "right":
            loudness = np.exp(-3 * (1 - t / seconds))
        case "grow":
            loudness = 0.55 + 0.45 * np.sin(2 * np.pi * (9 * t + rng.random()))
        case _:
            loudness = np.clip(8 * ((2.2 * t + rng.random()) % 1 - 0.5), 0, 1)
    noise = rng.random(len(t), np.float32) - np.float32(0.5)
    sound = rng.uniform(0.3, 0.8) * tone * loudness + rng.uniform(0.005, 0.05) * noise
    balance = np.ones(1, np.float32) if rng.random() < 0.7 else rng.uniform(0.7, 1.0, 2).astype(np.float32)
    return np.outer(balance, sound)


def _say(phrase: str, factors: Factors, rng: np.random.Generator | None = None) -> str:
    """A caption from a phrase; in the plainest words without `rng`."""
    moves, size = MOTIONS[factors.motion], ("small", "big", "little", "nice")
    word = (lambda words: words[rng.integers(len(words))]) if rng else (lambda words: words[0])
    return phrase.format(colour=factors.colour, shape=factors.shape, moves=word(moves), size=word(size))


def _captions(factors: Factors, seconds: float, rng: np.random.Generator) -> list[Caption]:
    """Five captions over the file, in random order: one to three are true, others mislead or say nothing."""

    def say(phrases: tuple[str, ...], about: Factors = factors) -> str:
        return _say(phrases[rng.integers(len(phrases))], about, rng)

    texts = [say(FULL)] + [say(FULL + PARTIAL) for _ in range(rng.integers(3))]
    while len(texts) < 5:
        other = COMBINATIONS[rng.integers(len(COMBINATIONS))]
        texts.append(say(FULL + PARTIAL, other) if rng.random() < 0.5 else say(IDLE))
    rng.shuffle(texts)
    edges = np.linspace(0, seconds, len(texts) + 1)
    return [Caption(float(edges[i]), float(edges[i + 1]), text) for i, text in enumerate(texts)]


def _encode(path: Path, video: np.ndarray, fps: int, audio: np.ndarray | None, rate: int) -> None:
    """Writes an MP4: H.264 that is cheap to decode, with a key frame every 8 frames, and AAC."""
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        picture = container.add_stream("libx264", fps, options=H264)
        picture.height, picture.width = video.shape[1:3]
        picture.pix_fmt = "yuv420p"
        if audio is not None:
            layout = "mono" if len(audio) == 1 else "stereo"
            sound = container.add_stream("aac", rate, options=AAC)
            sound.layout = layout
            sound.bit_rate = 32_000 * len(audio)
        for index, image in enumerate(video):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(audio, "fltp", layout)
            frame.pts, frame.sample_rate, frame.time_base = 0, rate, Fraction(1, rate)
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))


def demo_labels(folder: str | Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """What the clips of demo media show, as words: by factor (shape, colour, motion, and combination of all three) the
    labels, and the label of each held-out clip by its id.

    Args:
      folder: as `make_demo` made it; or its heldout/.
    """
    folder = Path(folder)
    lines = read_lines((folder if (folder / "factors.jsonl").exists() else folder.parent) / "factors.jsonl")
    if not lines:
        raise DataError(f"{folder}: no factors.jsonl, so it holds no demo media; make some with vatt data demo")

    def combined(shape: str, colour: str, motion: str) -> str:
        return f"{colour} {shape} {MOTIONS[motion][0]}"

    labels = {
        "shape": list(SHAPES),
        "colour": list(COLOURS),
        "motion": [forms[0] for forms in MOTIONS.values()],
        "combination": [combined(*values) for values in product(SHAPES, COLOURS, MOTIONS)],
    }
    heldout = [line for line in lines if line["split"] == "heldout"]
    of = {
        "shape": {line["id"]: line["shape"] for line in heldout},
        "colour": {line["id"]: line["colour"] for line in heldout},
        "motion": {line["id"]: MOTIONS[line["motion"]][0] for line in heldout},
        "combination": {line["id"]: combined(line["shape"], line["colour"], line["motion"]) for line in heldout},
    }
    return {name: (labels[name], of[name]) for name in labels}
