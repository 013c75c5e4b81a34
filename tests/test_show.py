"""Contact sheets: the clips drawn are those of the seed, what is missing is said, and no text breaks the picture."""

import warnings

import numpy as np
import pytest
from PIL import Image

from tests.test_check import RATE, picture, sound, srt, write
from vatt.cli import main
from vatt.config import ClipConfig
from vatt.data import lettering
from vatt.data.captions import Caption
from vatt.data.items import Item
from vatt.data.show import FRAMES, MARGIN, SIDE, STRIP, WAVE, _example, contact_sheet, draw
from vatt.errors import DataError

CLIP = ClipConfig(frames=8, fps=8, samples=RATE, sample_rate=RATE, candidates=3)  # a second


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("show") / "clips"
    for number in range(5):
        write(folder / f"{number}.mp4", picture(number), sound(number))
    write(folder / "deaf.mp4", picture(5), None)
    write(folder / "sound.wav", None, sound(6), audio="pcm_s16le")
    Image.fromarray(picture(7)[0]).save(folder / "still.jpg")
    srt(folder / "0.srt", (0, 0.5, "Γειά σου"), (0.5, 1, "你好"), (1, 2, "مرحبا 😀 नमस्ते"))
    return folder


def test_a_seed_draws_the_same_clips_and_another_seed_others(clips, tmp_path):
    shown = [
        contact_sheet(str(clips), tmp_path / f"{k}.png", n=4, seed=seed, clip=CLIP) for k, seed in enumerate((0, 0, 1))
    ]
    assert len(shown[0]) == 4
    assert shown[0] == shown[1] != shown[2]
    first, same, other = ((tmp_path / f"{k}.png").read_bytes() for k in range(3))
    assert first == same != other


def test_every_kind_of_medium_is_drawn(clips, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = contact_sheet(str(clips), tmp_path / "all.png", n=100, clip=CLIP)
    assert shown == ["0.mp4", "1.mp4", "2.mp4", "3.mp4", "4.mp4", "deaf.mp4", "sound.wav", "still.jpg"]
    with Image.open(tmp_path / "all.png") as image:
        assert image.height > 8 * (SIDE + WAVE)
        assert image.width > STRIP


def test_ids_choose_clips_in_their_order(clips, tmp_path):
    assert contact_sheet(str(clips), tmp_path / "a.png", ids=["3.mp4", "sound.wav"], clip=CLIP) == [
        "3.mp4",
        "sound.wav",
    ]
    with pytest.raises(DataError, match=r"has no 9\.mp4; its ids look like 0\.mp4"):
        contact_sheet(str(clips), tmp_path / "b.png", ids=["9.mp4"], clip=CLIP)


def test_captions_come_nearest_first_with_their_times(clips):
    captions = (Caption(0, 0.4, "early"), Caption(0.4, 1.2, "now"), Caption(1.2, 2, "late"), Caption(1.9, 2, "later"))
    item = Item(id="0", media=str(clips / "0.mp4"), end=2.0, captions=captions)
    example = _example(item, 0.5, CLIP)
    assert example["captions"] == ["now  (0.4-1.2 s)", "late  (1.2-2.0 s)", "early  (0.0-0.4 s)"]
    assert example["title"] == "0  0.50-1.50 s of 2.00 s"
    assert example["rgb"].shape == (FRAMES, SIDE, SIDE, 3)
    assert len(example["audio"]) == RATE


def test_frames_and_waveform_show_what_is_given(tmp_path):
    rgb = np.zeros((16, 20, 20, 3), np.uint8)
    rgb[8:] = (200, 40, 90)
    loud = np.zeros(RATE, np.int16)
    loud[RATE // 2 :] = np.tile([20_000, -20_000], RATE // 4)
    draw([{"title": "a", "rgb": rgb, "audio": loud, "captions": []}], tmp_path / "a.png")
    image = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    strip = image[MARGIN + 23 : MARGIN + 23 + SIDE, MARGIN : MARGIN + STRIP]
    assert (strip[SIDE // 2, SIDE // 2] == 0).all()
    assert (strip[SIDE // 2, -SIDE // 2] == (200, 40, 90)).all()
    wave = image[MARGIN + 23 + SIDE + 4 :][:WAVE, MARGIN : MARGIN + STRIP]
    inked = (wave[:, :, 2] - wave[:, :, 0] > 100).sum(0)  # blue pixels in each column
    assert inked[: STRIP // 2 - 2].max() <= 1
    assert inked[STRIP // 2 + 2 : -80].min() > WAVE - 8


def test_what_is_missing_is_said(tmp_path):
    said = []

    def drawn(**example):
        draw([{"title": "a", "captions": ["x"], **example}], tmp_path / "a.png")
        return np.asarray(Image.open(tmp_path / "a.png"))

    rgb, audio = np.full((2, 8, 8, 3), 99, np.uint8), np.ones(100, np.int16)
    for example in (
        {"rgb": rgb, "audio": audio},
        {"rgb": None, "audio": audio},
        {"rgb": rgb, "audio": None},
        {"rgb": rgb, "audio": np.zeros(100, np.int16)},
        {"rgb": None, "audio": None, "note": "cannot be decoded: odd"},
    ):
        said.append(drawn(**example).tobytes())
    assert len(set(said)) == len(said)


def test_any_text_fits(tmp_path):
    nasty = ["", " ", "\x00\x1b[31m\u202e", "\ud83d", "字" * 500, "word " * 300, "x" * 3000, "ﷺ" * 50, "á" * 900]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw([{"title": text, "rgb": None, "audio": None, "captions": nasty} for text in nasty], tmp_path / "a.png")
    for text in nasty:
        lines = lettering.wrapped(text, 200, 13, 3)
        assert len(lines) <= 3
        assert all(lettering.length(line, 13) <= 200 for line in lines)
    assert lettering.wrapped("one two three", 1000, 13, 3) == ["one two three"]
    assert " ".join(lettering.wrapped("alpha beta gamma delta epsilon", 90, 13, 9)) == "alpha beta gamma delta epsilon"


def test_a_clip_that_cannot_be_decoded_is_shown_as_such(clips, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    whole = write(folder / "a.mp4", picture(0, 4), sound(0, 4))
    data = bytearray(whole.read_bytes())
    begin = data.index(b"mdat") + 4
    data[begin : begin + 6000] = bytes(6000)
    whole.write_bytes(data)
    assert contact_sheet(str(folder), tmp_path / "a.png", clip=CLIP) == ["a.mp4"]


def test_errors(clips, tmp_path):
    with pytest.raises(DataError, match="cannot write the picture"):
        contact_sheet(str(clips), tmp_path / "none" / "a.png", n=1, clip=CLIP)
    with pytest.raises(DataError, match="cannot write the picture"):
        contact_sheet(str(clips), tmp_path / "a.xyz", n=1, clip=CLIP)
    with pytest.raises(DataError, match="no clip to draw"):
        draw([], tmp_path / "a.png")


def test_the_command_line(clips, tmp_path, capsys):
    out = str(tmp_path / "sheet.png")
    assert main(["data", "show", str(clips), "-n", "2", "--seconds", "1", "-o", out]) == 0
    assert capsys.readouterr().out == f"{out}: 2 clips\n"
    assert main(["data", "show", str(clips), "--ids", "nothing", "--seconds", "1", "-o", out]) == 1
    with pytest.raises(SystemExit):
        main(["data", "show", str(clips), "-n", "0"])
