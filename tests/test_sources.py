"""Sources opened: real media, made here."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import wave

import numpy as np
import pytest
from PIL import Image

from tests.media import ROOT
from tests.oddfiles import picture, tone, write
from vatt.config import ClipConfig
from vatt.data.captions import Caption, throughout
from vatt.data.columns import Items
from vatt.data.demo import make_demo
from vatt.data.items import Item, Slice
from vatt.data.listing.rows import list_rows
from vatt.data.pool import in_parallel
from vatt.data.sources import open_clips, open_source, word_counts
from vatt.errors import DataError


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder, clips=4, heldout=3)
    return folder


@pytest.fixture
def media(demo):
    return sorted((demo / "heldout").glob("*.mp4"))


def write_wav(path, seconds):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        noise = np.random.default_rng(0).integers(-9999, 9999, round(seconds * 8000))
        file.writeframes(noise.astype("<i2").tobytes())


def test_video_sound_and_pictures_become_items(tmp_path, media):
    shutil.copy(media[0], tmp_path / "b.mp4")
    (tmp_path / "b.txt").write_text("a red square\n")
    write_wav(tmp_path / "a.wav", 2.0)
    Image.new("RGB", (64, 48)).save(tmp_path / "c.png")
    seen = []
    source = open_source(str(tmp_path), seconds=1.0, progress=lambda done, total: seen.append((done, total)))
    a, b, c = (source[i] for i in range(len(source)))
    assert (a.id, a.start, a.end, a.has_video, a.has_audio, a.still) == ("a.wav", 0.0, 2.0, False, True, False)
    assert (b.id, b.has_video, b.has_audio, b.still, b.captions) == (
        "b.mp4", True, True, False, (throughout("a red square"),),
    )  # fmt: skip
    assert 1.2 < b.end < 1.8
    assert (c.id, c.has_video, c.has_audio, c.still, c.room(1.0)) == ("c.png", True, False, True, (0.0, 0.0))
    assert b.media == str(tmp_path / "b.mp4")
    assert (source.faults, source.name) == ([], str(tmp_path))
    assert seen[-3:] == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(IndexError):
        source[3]


def test_a_film_of_which_the_pictures_alone_are_looked_at_is_as_long_as_these(tmp_path):
    pictures = [picture(0)] * 40
    write(tmp_path / "brief.mp4", pictures=pictures, sound=tone(0.5, 48_000))
    write(tmp_path / "late.mkv", pictures=pictures, sound=tone(1.0, 48_000), sound_offset=0.6)
    clip = ClipConfig(frames=10, fps=10.0, sample_rate=8000, samples=12_000)

    def opened(*modalities):
        source = open_clips(str(tmp_path), clip, max_bad=1.0, modalities=modalities)
        items = [source[index] for index in range(len(source))]
        return {item.id: (round(item.start, 1), round(item.end, 1), item.has_video, item.has_audio) for item in items}

    assert opened("video") == {"brief.mp4": (0, 1.6, True, False), "late.mkv": (0, 1.6, True, False)}
    with pytest.raises(DataError, match=r"2 too_short(.|\n)*0\.5\d s, a clip lasts 1\.5 s"):
        opened("video", "audio")
    clip = ClipConfig(frames=8, fps=10.0, sample_rate=8000, samples=8000)
    assert opened("video", "audio") == {"late.mkv": (0.6, 1.6, True, True)}
    assert opened("audio") == {"late.mkv": (0.6, 1.6, False, True)}


def test_a_clip_of_one_modality_is_as_long_as_that_needs():
    clip = ClipConfig(frames=32, fps=12.5, sample_rate=48_000, samples=153_600)
    assert (clip.seconds, clip.of(("video",)).seconds, clip.of(("audio",)).seconds) == (3.2, 2.56, 3.2)
    assert clip.of(("audio", "video")) == clip
    longer = ClipConfig(frames=32, fps=8.0, sample_rate=48_000, samples=48_000)
    assert (longer.of(("audio",)).seconds, longer.of(("video",))) == (1.0, longer)


def test_what_cannot_be_used_is_left_out_and_told_of(tmp_path, media):
    shutil.copy(media[0], tmp_path / "good.mp4")
    (tmp_path / "good.srt").write_text("nonsense")
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "cut.mp4").write_bytes(media[0].read_bytes()[:3000])
    write_wav(tmp_path / "short.wav", 0.5)
    source = open_source(str(tmp_path), seconds=1.0)
    assert [source[i].id for i in range(len(source))] == ["good.mp4"]
    assert source[0].captions == ()
    found = {fault.id: fault.reason for fault in source.faults}
    assert found.keys() == {"good.mp4", "text.mp4", "cut.mp4", "short.wav"}
    assert found["good.mp4"] == "bad_captions"
    assert found["text.mp4"] == "unreadable"
    assert found["short.wav"] == "too_short"
    assert "0.50 s, a clip lasts 1 s" in next(f.detail for f in source.faults if f.id == "short.wav")


def test_nothing_usable_is_an_error_that_counts_reasons_and_names_five(tmp_path):
    for index in range(7):
        (tmp_path / f"bad_{index}.mp4").write_text("not a video")
    for index in range(2):
        write_wav(tmp_path / f"short_{index}.wav", 0.5)
    with pytest.raises(DataError) as error:
        open_source(str(tmp_path), seconds=1.0)
    message = str(error.value)
    assert f"nothing in it can be used; vatt data check {tmp_path} tells more" in message
    assert "7 unreadable: " in message
    assert "2 too_short: " in message
    assert "clip.frames" in message  # the remedy
    assert all(f"bad_{index}.mp4" in message for index in range(5))
    assert "bad_5.mp4" not in message
    assert "and 4 more" in message
    (tmp_path / "m.csv").write_text("path,start\n")
    with pytest.raises(DataError, match=r"m\.csv: holds no rows"):
        open_source(str(tmp_path / "m.csv"), seconds=1.0)


def test_rows_cut_files_and_missing_ones_are_faults(tmp_path, media, monkeypatch):
    shutil.copy(media[0], tmp_path / "a.mp4")
    (tmp_path / "m.csv").write_text(
        "path,id,start,end,caption,label\n"
        "a.mp4,all,,,one,x\na.mp4,part,0.25,1.25,two,x\na.mp4,long,0.5,99,three,\na.mp4,late,50,60,,\n"
        "a.mp4,brief,0,0.5,,\ngone.mp4,gone,,,,\n../a.mp4,out,,,,\n"
    )
    calls = []
    import vatt.data.sources as sources

    probe = sources.probe
    monkeypatch.setattr(sources, "probe", lambda media: calls.append(media) or probe(media))
    source = open_source(f"{tmp_path}/m.csv", seconds=0.75)
    assert len(calls) == 2  # each file once
    items = [source[i] for i in range(len(source))]
    assert [(item.id, item.start) for item in items] == [("all", 0.0), ("part", 0.25), ("long", 0.5)]
    assert items[1].end == 1.25
    assert items[0].end == items[2].end < 2
    assert [item.labels for item in items] == [("x",), ("x",), ()]
    assert sorted((f.id, f.reason) for f in source.faults) == [
        ("brief", "too_short"), ("gone", "missing"), ("late", "too_short"), ("out", "outside")
    ]  # fmt: skip


def test_members_of_a_shard_are_read_in_place(tmp_path, media):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for index, path in enumerate(media[:2]):
            tar.add(path, f"{index}.mp4")
    source = open_source(f"{tmp_path}/a.tar", seconds=1.0)
    assert [source[i].id for i in range(2)] == ["a.tar/0.mp4", "a.tar/1.mp4"]
    assert isinstance(source[0].media, Slice)
    assert source[1].media.read() == media[1].read_bytes()


def test_a_source_pickles_and_its_fingerprint_tells_what_changed(demo, tmp_path):
    shutil.copytree(demo / "heldout", tmp_path / "one")
    shutil.copytree(demo / "heldout", tmp_path / "two")

    def print_of(folder, seconds=1.0):
        return open_source(str(tmp_path / folder), seconds=seconds).fingerprint()

    source = open_source(str(tmp_path / "one"), seconds=1.0, workers=1)
    copy = pickle.loads(pickle.dumps(source))
    assert [copy[i] for i in range(len(copy))] == [source[i] for i in range(len(source))]
    assert copy.fingerprint() == source.fingerprint() == print_of("one") == print_of("two")
    captions = tmp_path / "two/clip_00001.srt"
    before = captions.read_text()
    captions.write_text(before.replace("a ", "some ", 1))
    assert print_of("two") != source.fingerprint()
    captions.write_text(before)
    assert print_of("two") == source.fingerprint()
    (tmp_path / "two/clip_00002.mp4").rename(tmp_path / "two/clip_00003.mp4")
    assert print_of("two") != source.fingerprint()


def test_words_are_counted_without_opening_media(tmp_path):
    for name, text in (("a", "A dog\nthe dog"), ("b", "a cat")):
        (tmp_path / f"{name}.mp4").write_text("not a video")
        (tmp_path / f"{name}.txt").write_text(text)
    assert word_counts(str(tmp_path)) == {"a": 2, "dog": 2, "the": 1, "cat": 1}


def test_columns_give_back_what_they_were_given():
    class Lazy:
        """Captions that are read when asked for."""

        def __len__(self):
            return 1

        def __iter__(self):
            return iter((Caption(0.0, 1.0, "late words"),))

        def __repr__(self):
            return "Lazy"

    shared = (Caption(0.0, 1.5, "é 🎬"), Caption(1.0, float("inf"), ""))
    items = [
        Item(id="é 🎬", media="/x/é.mp4", start=1.25, end=9.5, captions=shared, labels=("a", "b")),
        Item(id="b", media=Slice("/x.tar", 1 << 40, 7, "y.mp4"), end=1.0, has_video=False, captions=shared),
        Item(id="c", media="", end=float("inf"), has_audio=False, still=True, labels=("", "c")),
        Item(id="d", media="d", end=1.0, captions=Lazy()),
    ]
    columns = Items(items)
    assert [columns[i] for i in range(len(columns))] == items
    assert len(columns.texts) == 2  # what two items share is kept once
    assert columns.word_counts() == {"é": 2, "late": 1, "words": 1}
    assert Items([]).fingerprint() != columns.fingerprint()
    assert Items(items[:1]).fingerprint() != Items(items[:1][::-1] + items[:1]).fingerprint()


def test_work_in_parallel_keeps_its_order_and_drops_the_queue_at_an_error():
    seen = []
    jobs = list(range(100))

    def square(i):
        time.sleep(0.001 * (i % 3))
        return i * i

    assert in_parallel(square, jobs, workers=8, progress=lambda *at: seen.append(at)) == [i * i for i in jobs]
    assert seen == [(i, 100) for i in range(1, 101)]
    started = []

    def fail(i):
        started.append(i)
        if i == 0:
            raise ValueError(i)
        time.sleep(0.05)

    with pytest.raises(ValueError, match="0"):
        in_parallel(fail, list(range(10_000)), workers=2)
    assert len(started) < 10


def test_ctrl_c_drops_what_is_queued(tmp_path):
    script = (
        "import time\nfrom vatt.data.pool import in_parallel\n"
        "def work(i):\n    print(i, flush=True)\n    time.sleep(0.2)\n"
        "in_parallel(work, list(range(1000)), workers=2)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout.readline() == "0\n"
    process.send_signal(signal.SIGINT)
    rest, error = process.communicate(timeout=20)
    assert len(rest.split()) < 10
    assert "KeyboardInterrupt" in error


def vatt(*args):
    return subprocess.run(
        [sys.executable, "-m", "vatt", *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=100,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_vocabulary_is_made_on_the_command_line(demo, tmp_path):
    done = vatt("data", "vocab", demo / "train", demo / "heldout", "-o", tmp_path / "words.txt", "--size", "7")
    assert done.returncode == 0, done.stderr
    words = (tmp_path / "words.txt").read_text().split()
    counts = word_counts(str(demo / "train")) + word_counts(str(demo / "heldout"))
    assert words[:3] == ["<pad>", "<unk>", "a"]
    share = sum(counts[word] for word in words) / counts.total()
    assert (
        f"5 of {len(counts)} different words, which are {share:.2%} of {counts.total()} in the captions" in done.stdout
    )
    write_wav(tmp_path / "a.wav", 1.0)
    done = vatt("data", "vocab", tmp_path, "-o", tmp_path / "none.txt")
    assert (done.returncode, "no captions with words" in done.stderr) == (1, True)
    assert not (tmp_path / "none.txt").exists()


def test_a_prepared_set_is_told_from_a_folder(tmp_path):
    (tmp_path / "prepared.json").write_text("{}")
    with pytest.raises(DataError, match=r"in format None; this version reads format"):
        open_source(str(tmp_path), seconds=1.0)
    with pytest.raises(DataError, match="no media files"):
        list_rows(str(tmp_path))
