import json
import re

import av
import numpy as np
import pytest

from vatt.config import ClipConfig
from vatt.data.captions import read_srt
from vatt.data.crops import centre
from vatt.data.demo import COLOURS, COMBINATIONS, MOTIONS, PITCHES, make_demo
from vatt.data.items import Item
from vatt.data.media.canvas import to_rgb
from vatt.data.media.clip import decode_clip, probe
from vatt.data.text import words
from vatt.errors import DataError

CLIP = ClipConfig(frames=8, fps=8.0, size=64, sample_rate=8000, samples=8000)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "media"
    make_demo(folder, clips=60)
    return folder


@pytest.fixture(scope="module")
def factors(demo):
    lines = [json.loads(line) for line in (demo / "factors.jsonl").read_text().splitlines()]
    return {f"{line['split']}/{line['id']}": line for line in lines}


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        make_demo(tmp_path / name, clips=4, heldout=3, seed=seed)
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    assert a["train/clip_00000.mp4"] != c["train/clip_00000.mp4"]


def test_every_combination_is_held_out_once_with_sound_and_one_full_caption(demo, factors):
    heldout = {name: line for name, line in factors.items() if name.startswith("heldout")}
    found = {(line["shape"], line["colour"], line["motion"]) for line in heldout.values()}
    assert len(heldout) == len(found) == len(COMBINATIONS) == 160
    assert [(c.shape, c.colour, c.motion) for c in COMBINATIONS] != [
        (line["shape"], line["colour"], line["motion"]) for line in heldout.values()
    ]  # names do not tell
    for name, line in list(heldout.items())[::10]:
        assert probe(str(demo / name)).has_audio
        texts = [caption.text for caption in read_srt((demo / name).with_suffix(".srt"))]
        assert texts == [f"a {line['colour']} {line['shape']} {MOTIONS[line['motion']][0]}"]


def test_training_clips_are_ordinary_and_imperfect(demo, factors):
    train = sorted((demo / "train").glob("*.mp4"))
    infos = [probe(str(path)) for path in train]
    captioned = [path.with_suffix(".srt") for path in train if path.with_suffix(".srt").exists()]
    assert len(train) == 60
    assert all(1.2 < info.end < 1.8 for info in infos)
    assert 0.02 < np.mean([not info.has_audio for info in infos]) < 0.25
    assert 0.65 < len(captioned) / len(train) < 0.95
    vocabulary = set()
    for path in captioned:
        line = factors[f"train/{path.stem}.mp4"]
        captions = read_srt(path)
        texts = [words(caption.text) for caption in captions]
        assert len(captions) == 5
        assert any(line["colour"] in text and line["shape"] in text for text in texts)
        assert captions[0].start == 0
        vocabulary.update(*texts)
    assert 40 < len(vocabulary) < 120
    for size in (path.stat().st_size for path in train):
        assert 1_000 < size < 60_000


def test_files_vary_in_form(demo):
    shapes, rates, samples, layouts = set(), set(), set(), set()
    for path in sorted((demo / "train").glob("*.mp4")):
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            shapes.add((video.height, video.width))
            rates.add(video.average_rate)
            for audio in container.streams.audio:
                samples.add(audio.rate)
                layouts.add(audio.layout.name)
    assert len(shapes) > 20
    assert any(height > width for height, width in shapes)
    assert rates == {8, 10, 12, 15}
    assert samples == {16_000, 22_050, 24_000}
    assert layouts == {"mono", "stereo"}


def test_what_is_seen_and_heard_is_what_the_factors_say(demo, factors):
    """Colour, motion and pitch are read off clips by rule; nearly all must agree."""
    right = []
    for name, line in [item for item in factors.items() if item[0].startswith("heldout")][::2]:
        example = decode_clip(Item(id=name, media=str(demo / name), end=2.0), 0.15, CLIP, crop=centre, canvas=64)
        rgb = to_rgb(example["video"], example["video_box"], example["video_colour"], 64)
        video = rgb.astype(float)
        distance = abs(video - np.array(COLOURS[line["colour"]])).sum(-1)
        near = distance < distance.min() + 60  # [T H W]
        area = near.sum((1, 2))
        ends = [np.nonzero(near[i])[1].mean() if area[i] else 32 for i in (0, -1)]
        if area.min() < 0.2 * area.max() and area.max() / np.median(area[area > 0.2 * area.max()]) < 1.6:
            seen = "blink"
        elif area[-1] > 1.6 * area[0]:
            seen = "grow"
        else:
            seen = "left" if ends[1] < ends[0] - 8 else "right" if ends[1] > ends[0] + 8 else "still"
        spectrum = abs(np.fft.rfft(example["audio"]))  # 1 Hz a bin
        others = {c: spectrum[round(p * 0.98) : round(p * 1.02) + 1].max() for c, p in PITCHES.items()}
        heard = others[line["colour"]] > 0.1 * spectrum.max()
        right.append((seen == line["motion"], heard))
    assert (np.mean(right, axis=0) > 0.9).all(), np.mean(right, axis=0)


def test_a_finished_folder_is_left_alone_and_an_interrupted_one_continued(tmp_path):
    folder = tmp_path / "demo"

    class StopError(Exception):
        pass

    def stop(done, total):
        if done == 4:
            raise StopError

    with pytest.raises(StopError):
        make_demo(folder, clips=8, heldout=2, progress=stop)
    assert not (folder / "demo.json").exists()
    early = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    seen = []
    make_demo(folder, clips=8, heldout=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 10) for i in range(1, 11)]
    assert early
    assert all(path.stat().st_mtime_ns == then for path, then in early.items())
    make_demo(tmp_path / "straight", clips=8, heldout=2)
    assert files(folder) == files(tmp_path / "straight")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    make_demo(folder, clips=8, heldout=2, progress=lambda done, total: pytest.fail("made again"))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    make_demo(tmp_path / "demo", clips=1, heldout=1)
    with pytest.raises(
        DataError, match=re.escape(str(tmp_path / "demo")) + ".*other demo media.*choose another folder"
    ):
        make_demo(tmp_path / "demo", clips=2, heldout=1)
    (tmp_path / "mine" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="not demo media"):
        make_demo(tmp_path / "mine", clips=1, heldout=1)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write the demo media"):
        make_demo(tmp_path / "file", clips=1, heldout=1)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "demo.json").write_text("{")
    with pytest.raises(DataError, match="torn"):
        make_demo(tmp_path / "torn", clips=1, heldout=1)
