"""ODD_FILES.md promises what becomes of each kind of odd file; each promise is kept, word for word."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.oddfiles import HERTZ, ODD, Clip, kind_of, number
from vatt.config import ClipConfig
from vatt.data.crops import centre
from vatt.data.items import Encoded, Item, Medium, Slice
from vatt.data.media.canvas import to_rgb
from vatt.data.media.clip import MediaInfo, decode_clip, probe
from vatt.data.media.stills import is_still
from vatt.errors import MediaError

TABLE = (Path(__file__).parents[1] / "ODD_FILES.md").read_text()
ROWS = {
    name: (found, clip)
    for name, found, clip in re.findall(r"^\| `([^`]+)` \|[^|]*\| ([^|]*) \| ([^|]*) \|[^|]*\|$", TABLE, re.MULTILINE)
}
CLIP = ClipConfig(frames=10, fps=10.0, size=64, sample_rate=16_000, samples=16_000)
CANVAS = 96  # leaves a rest of the way to the device
COLOURS = "", ", BT.709", ", full range", ", BT.709 full range"


def described(info: MediaInfo) -> str:
    words = ["still" if info.still else " and ".join(["picture"] * info.has_video + ["sound"] * info.has_audio)]
    if info.late_start:
        words.append(f"from {info.start:.1f} s")
    if info.variable_rate:
        words.append("variable rate")
    if info.rotation:
        words.append(f"rotated {info.rotation}")
    return ", ".join(words)


def probed(media: Medium) -> str:
    try:
        info = probe(media)
    except MediaError as error:
        return f"error {kind_of(error, media)}"
    return described(info)


def judged(media: Medium, clip: Clip, still: bool) -> str:
    """Whether the clip is to the frame and to the sample what it must be, or which error there is instead."""
    has_video, has_audio = clip.numbers is not None, clip.tone_from is not None
    item = Item(id="", media=media, end=np.inf, has_video=has_video, has_audio=has_audio, still=still)
    try:
        example = decode_clip(item, clip.start, CLIP, crop=centre, canvas=CANVAS)
    except MediaError as error:
        return f"error {kind_of(error, media)}"
    assert example["video"].shape == (10, CANVAS * 3 // 2, CANVAS)
    assert example["audio"].shape == (16_000,)
    assert (bool(example["video_mask"]), bool(example["audio_mask"])) == (has_video, has_audio)
    colour = int(example["video_colour"])
    if clip.numbers is None:
        assert not example["video"].any()
    else:
        rgb = to_rgb(example["video"], example["video_box"], colour, CLIP.size)
        assert [number(np.rot90(image, clip.turned)) for image in rgb] == clip.numbers
        # Bars are 20 and 230: were the colours taken for others, black and white would be off by 15 or more.
        assert abs(np.percentile(rgb[..., 1], 20) - 20) < 8
        assert abs(np.percentile(rgb[..., 1], 80) - 230) < 8 or max(clip.numbers) < 4
    if clip.tone_from is None:
        assert not example["audio"].any()
    else:
        expected = 0.5 * np.sin(2 * np.pi * HERTZ * (clip.tone_from + np.arange(16_000) / 16_000))
        # Encoders leave up to 0.05; a shift of half a millisecond would make 0.44.
        assert np.sqrt(np.mean((example["audio"] / 32768 - expected) ** 2)) < 0.07
    return "right" + COLOURS[colour]


def test_the_table_and_the_makers_name_the_same_files():
    assert set(ROWS) == set(ODD)


@pytest.mark.parametrize("name", ODD)
def test_each_odd_file_gives_what_the_table_promises(tmp_path, name):
    path = tmp_path / name
    clip = ODD[name](path)
    found = probed(str(path))
    still = is_still(str(path))
    assert (found, judged(str(path), clip, still)) == ROWS[name]
    # Within an archive, or in memory, it is the same file.
    data = path.read_bytes()
    archive = tmp_path / "archive: all,of it.tar"
    archive.write_bytes(b"\0" * 700 + data + b"\xff" * 5000)
    for media in (Encoded(data, name), Slice(str(archive), 700, len(data), name)):
        assert probed(media) == found
        assert judged(media, clip, still) == ROWS[name][1]
