"""A contact sheet: clips of a source as a picture to look at, with their frames, sound and captions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vatt.config import ClipConfig
from vatt.data.captions import Caption, nearest
from vatt.data.check.report import printable
from vatt.data.crops import centre
from vatt.data.items import Item, Progress, Source
from vatt.data.lettering import fitted, length, wrapped, write
from vatt.data.media.canvas import to_rgb
from vatt.data.media.clip import decode_clip
from vatt.data.sources import open_source
from vatt.errors import DataError, MediaError

FRAMES = 8  # frames a strip
SIDE = 128  # pixels of a frame
WAVE = 56  # height of a waveform
TEXT = 440  # width of the captions
GAP, MARGIN = 18, 24
LINE = 19  # height of a line of text
STRIP = FRAMES * (SIDE + 2) - 2
MOST = 200  # clips a sheet; a longer picture opens nowhere
RATE = 16_000  # Hz of the sound drawn
INK, DIM, FAINT, SOFT, ACCENT, BAD = "#1d2430", "#667084", "#dfe3ea", "#f3f5f8", "#1f5fbf", "#b3261e"


def contact_sheet(
    source: str,
    out: str | Path,
    *,
    n: int = 12,
    seed: int = 0,
    ids: Sequence[str] = (),
    clip: ClipConfig | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> list[str]:
    """Draws random clips of a source, the same for the same seed, and writes them as PNG.

    Args:
      source: by name (`vatt.data.listing.rows`).
      out: the picture.
      n: how many clips, at most MOST.
      seed: chooses the clips and where they begin.
      ids: the items to show instead of random ones.
      clip: how long a clip is, and how many captions it has.
      progress: called with (files probed, files in all).

    Returns:
      The ids shown, in their order.

    Raises:
      DataError: no such source or id, nothing to show, or the picture cannot be written.
    """
    clip = clip or ClipConfig()
    opened = open_source(source, seconds=clip.seconds, workers=workers, progress=progress)
    rng = np.random.default_rng(seed)
    if ids:
        chosen = _find(opened, ids)
    else:
        chosen = [int(i) for i in sorted(rng.choice(len(opened), min(n, MOST, len(opened)), replace=False))]
    examples, shown = [], []
    for index in chosen:
        name = f"item {index}"
        try:
            item = opened[index]
            name = item.id
            examples.append(_example(item, float(rng.uniform(*item.room(clip.seconds))), clip))
        except MediaError as error:
            examples.append({"title": name, "note": f"cannot be decoded: {error.reason}"})
        shown.append(name)
    draw(examples, out, heading=f"{opened.name}: {len(chosen):,} of {len(opened):,} clips; captions: the nearest first")
    return shown


def _find(source: Source, ids: Sequence[str]) -> list[int]:
    wanted = dict.fromkeys(ids)
    places: dict[str, int] = {}
    for index in range(len(source)):
        name = source[index].id
        if name in wanted:
            places[name] = index
            if len(places) == len(wanted):
                break
    missing = [name for name in wanted if name not in places]
    if missing:
        known = ", ".join(source[index].id for index in range(min(3, len(source))))
        raise DataError(f"{source.name}: has no {', '.join(missing[:5])}; its ids look like {known}")
    return [places[name] for name in wanted]


def _example(item: Item, start: float, clip: ClipConfig) -> dict[str, Any]:
    """What `draw` shows of a clip: FRAMES frames over its length, its sound, its captions, nearest first."""
    seconds = clip.seconds
    sparse = ClipConfig(
        frames=FRAMES, fps=FRAMES / seconds, size=SIDE, sample_rate=RATE, samples=max(1, int(seconds * RATE))
    )
    decoded = decode_clip(item, start, sparse, crop=centre, canvas=SIDE)
    rgb = to_rgb(decoded["video"], decoded["video_box"], int(decoded["video_colour"]), SIDE)
    labels = f"  [{', '.join(item.labels)}]" if item.labels else ""
    span = "still picture" if item.still else f"{start:.2f}-{start + seconds:.2f} s of {item.end:.2f} s"
    return {
        "title": f"{item.id}  {span}{labels}",
        "rgb": rgb if decoded["video_mask"] else None,
        "audio": decoded["audio"] if decoded["audio_mask"] else None,
        "captions": [_timed(c) for c in _by_nearness(item.captions, start, start + seconds, clip.candidates)],
    }


def _by_nearness(captions: Sequence[Caption], start: float, end: float, k: int) -> list[Caption]:
    chosen = nearest(captions, start, end, k)
    order = []
    while chosen:
        first = nearest(chosen, start, end, 1)[0]
        order.append(first)
        chosen.remove(first)
    return order


def _timed(caption: Caption) -> str:
    span = "throughout" if np.isinf(caption.end) else f"{caption.start:.1f}-{caption.end:.1f} s"
    return f"{caption.text or '(no words)'}  ({span})"


def draw(examples: Sequence[dict[str, Any]], out: str | Path, *, heading: str = "") -> None:
    """Draws clips one below the other and writes the picture.

    Args:
      examples: of each, `title`; `rgb` [T H W 3] uint8 or None; `audio` [S] int16 or None; `captions`, a list of texts
        of which the first comes first; and perhaps `note`, what went wrong.
      out: where to; the ending tells the format.
      heading: stands above.

    Raises:
      DataError: no example, or the file cannot be written.
    """
    if not examples:
        raise DataError(f"{out}: there is no clip to draw")
    rows = [_row(example) for example in examples]
    top = MARGIN + (2 * LINE if heading else 0)
    width = 2 * MARGIN + STRIP + GAP + TEXT
    sheet = Image.new("RGB", (width, top + sum(row.height + GAP for row in rows) - GAP + MARGIN), "white")
    if heading:
        write(
            ImageDraw.Draw(sheet),
            (MARGIN, MARGIN),
            fitted(printable(heading), width - 2 * MARGIN, 16),
            colour=INK,
            size=16,
        )
    for row in rows:
        sheet.paste(row, (MARGIN, top))
        top += row.height + GAP
    try:
        sheet.save(out)
    except (OSError, ValueError) as error:
        raise DataError(f"{out}: cannot write the picture ({error}); it should end in .png") from error


def _row(example: dict[str, Any]) -> Image.Image:
    lines = _caption_lines(example.get("captions") or [])
    height = LINE + 4 + max(SIDE + 4 + WAVE, LINE * len(lines))
    image = Image.new("RGB", (STRIP + GAP + TEXT, height), "white")
    canvas = ImageDraw.Draw(image)
    note = example.get("note", "")
    title = fitted(printable(str(example["title"])), image.width, 13)
    write(canvas, (0, 0), title, colour=BAD if note else INK, size=13)
    _strip(image, canvas, LINE + 4, example.get("rgb"), note)
    _wave(canvas, LINE + 4 + SIDE + 4, example.get("audio"), note)
    for number, (mark, line, colour) in enumerate(lines):
        at = LINE + 4 + number * LINE
        write(canvas, (STRIP + GAP, at), mark, colour=ACCENT, size=13)
        write(canvas, (STRIP + GAP + 22, at), line, colour=colour, size=13)
    return image


def _caption_lines(captions: Sequence[str]) -> list[tuple[str, str, str]]:
    """(mark, line, colour): the first caption is the darkest."""
    if not captions:
        return [("", "no captions", DIM)]
    lines = []
    for number, caption in enumerate(captions, 1):
        for part, line in enumerate(wrapped(printable(caption), TEXT - 22, 13, 3)):
            lines.append((f"{number}" if part == 0 else "", line, INK if number == 1 else DIM))
    return lines[:24]


def _strip(image: Image.Image, canvas: ImageDraw.ImageDraw, top: int, rgb: np.ndarray | None, note: str) -> None:
    if rgb is None:
        _say(canvas, (0, top, STRIP, top + SIDE), note or "no video")
        return
    shown = np.linspace(0, len(rgb) - 1, FRAMES).round().astype(int) if len(rgb) > 1 else np.zeros(1, int)
    for place, index in enumerate(shown):
        frame = Image.fromarray(rgb[index])
        scale = SIDE / max(frame.size)
        frame = frame.resize((max(1, round(frame.width * scale)), max(1, round(frame.height * scale))))
        image.paste(frame, (place * (SIDE + 2) + (SIDE - frame.width) // 2, top + (SIDE - frame.height) // 2))


def _wave(canvas: ImageDraw.ImageDraw, top: int, audio: np.ndarray | None, note: str) -> None:
    """The extremes of the sound in each column of pixels, scaled to its peak, which is said."""
    box = (0, top, STRIP, top + WAVE)
    if audio is None or not len(audio):
        _say(canvas, box, "" if note else "no sound")
        return
    peak = int(abs(audio.astype(np.int32)).max())
    if peak == 0:
        _say(canvas, box, "silence")
        return
    canvas.rectangle(box, fill=SOFT)
    middle, scale = top + WAVE / 2, (WAVE / 2 - 2) / peak
    edges = np.linspace(0, len(audio), STRIP + 1).astype(int)
    for x in range(STRIP):
        part = audio[edges[x] : max(edges[x] + 1, edges[x + 1])].astype(np.int32)
        canvas.line((x, middle - part.max() * scale, x, middle - part.min() * scale), fill=ACCENT)
    label = f"peak {20 * np.log10(peak / 32768):.0f} dB"
    width = length(label, 11)
    canvas.rectangle((STRIP - width - 8, top, STRIP, top + 15), fill=SOFT)
    write(canvas, (STRIP - width - 4, top), label, colour=DIM, size=11)


def _say(canvas: ImageDraw.ImageDraw, box: tuple[int, int, int, int], what: str) -> None:
    canvas.rectangle(box, fill=SOFT, outline=FAINT)
    write(canvas, (12, (box[1] + box[3]) / 2 - LINE / 2), fitted(printable(what), STRIP - 24, 13), colour=DIM, size=13)
