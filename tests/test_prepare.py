"""From a folder of media to a prepared set, whatever happens on the way."""

import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.oddfiles import ODD, picture, tone, write
from vatt.config import ClipConfig
from vatt.data.captions import Caption, nearest, read_srt, write_srt
from vatt.data.crops import centre
from vatt.data.demo import make_demo
from vatt.data.media.clip import decode_clip
from vatt.data.prepare import run as module
from vatt.data.prepare.plan import PrepareConfig, plan_shards
from vatt.data.prepare.run import make_one, prepare
from vatt.data.records import PreparedSource
from vatt.data.sources import open_source
from vatt.data.text import words
from vatt.errors import ConfigError, DataError

CONFIG = PrepareConfig(size=64, sample_rate=16_000, seconds=1.0, min_seconds=0.5)
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Eight demo clips, one broken file, one that is no media, a film with captions, a still, and a sound alone."""
    folder = tmp_path_factory.mktemp("media") / "media"
    make_demo(folder.parent / "demo", clips=8, heldout=1)
    shutil.copytree(folder.parent / "demo/train", folder)
    (folder / "broken.mp4").write_bytes((folder / "clip_00003.mp4").read_bytes()[:3000])
    (folder / "words.mp4").write_text("this is no film")
    (folder / "deep").mkdir()
    film = folder / "deep" / "film ü.mp4"
    write(film, pictures=[picture(i) for i in range(90)], sound=tone(3.6, 48_000))
    write_srt(film.with_suffix(".srt"), [Caption(i * 0.6, i * 0.6 + 0.5, f"word{i} said") for i in range(6)])
    Image.new("RGB", (90, 60), "red").save(folder / "still.png")
    (folder / "still.txt").write_text("a red picture")
    write(folder / "alone.flac", sound=tone(1.4, 44_100), rate=44_100, audio="flac")
    return folder


@pytest.fixture(scope="module")
def prepared(media, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "out"
    prepare(str(media), out, config=CONFIG, workers=2)
    return out


def contents(out: Path) -> dict[str, str]:
    """A digest of every file."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def errors(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "errors.jsonl").read_text(encoding="utf-8").splitlines()]


def cli(*args: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "vatt", "data", "prepare", *args]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)


# What is in it


def test_every_kind_of_medium_gives_its_records(media, prepared):
    source = open_source(str(prepared), seconds=0.1)
    assert isinstance(source, PreparedSource)
    items = [source[index] for index in range(len(source))]
    ids = [item.id for item in items]
    assert len(set(ids)) == len(ids)
    assert [item.id for item in items if item.still] == ["still.png"]
    assert [item.id for item in items if not item.has_video] == ["alone.flac"]
    film = [item for item in items if item.id.startswith("deep/film ü.mp4")]
    assert [item.id.partition("@")[2] for item in film] == ["0.000-1.000", "1.000-2.000", "2.000-3.600"]
    assert sum(item.end for item in film) == pytest.approx(3.6)
    clip = ClipConfig(frames=3, fps=10.0, size=64, sample_rate=16_000, samples=4800)
    for item in items:
        example = decode_clip(item, 0.0, clip, crop=centre, canvas=64)
        assert (example["video_mask"], example["audio_mask"]) == (item.has_video, item.has_audio)
    assert not list(prepared.glob(".staging"))


def test_broken_files_become_errors_and_stop_nothing(prepared):
    found = {line["id"]: line for line in errors(prepared)}
    assert found.keys() == {"broken.mp4", "words.mp4"}
    assert {line["reason"] for line in found.values()} <= {"truncated", "unreadable"}
    assert all(line["detail"] for line in found.values())


def test_captions_of_records_are_those_of_the_film(media, prepared):
    said = read_srt(media / "deep" / "film ü.srt")
    source = PreparedSource(prepared)
    records = [source.record(index) for index in range(len(source))]
    film = [record for record in records if record.id.startswith("deep/film")]
    for record in film:
        for begin in (0.0, 0.1, 0.25):
            of_record = nearest(record.captions, begin, begin + 0.3, 5)
            of_film = nearest(said, record.start + begin, record.start + begin + 0.3, 5)
            assert [caption.text for caption in of_record] == [caption.text for caption in of_film]
    assert {record.path for record in film} == {str(media / "deep" / "film ü.mp4")}


def test_words_are_counted_once_however_many_records_share_a_caption(media, prepared):
    counts = PreparedSource(prepared).word_counts()
    assert [counts[f"word{i}"] for i in range(6)] == [1] * 6
    srt = Counter(word for path in media.rglob("*.srt") for caption in read_srt(path) for word in words(caption.text))
    assert counts == srt + Counter(["a", "red", "picture"])


def test_cut_at_captions(media, tmp_path):
    config = PrepareConfig(size=64, sample_rate=16_000, seconds=1.0, min_seconds=0.8, cut="captions")
    prepare(str(media), tmp_path / "out", config=config, workers=2)
    source = PreparedSource(tmp_path / "out")
    film = [source.record(index) for index in range(len(source)) if source[index].id.startswith("deep/film")]
    assert [record.start for record in film] == pytest.approx([0.0, 0.45, 1.05, 1.65, 2.25, 2.8])
    assert all(record.duration == pytest.approx(0.8) for record in film)
    for index, record in enumerate(film):
        assert f"word{index} said" in [caption.text for caption in nearest(record.captions, 0.2, 0.6, 1)]
    uncaptioned = {line["id"] for line in errors(tmp_path / "out") if line["reason"] == "no_captions"}
    assert "alone.flac" in uncaptioned


def test_rows_give_parts_labels_and_splits(media, tmp_path):
    (media.parent / "rows.csv").write_text(
        "path,id,start,end,caption,label,split\n"
        "media/deep/film ü.mp4,one,0.5,1.5,first part,red,train\n"
        "media/deep/film ü.mp4,two,2,3.2,second part,blue,val\n"
        "media/deep/film ü.mp4,three,0.5,1.5,the same part again,green,train\n"
        "media/gone.mp4,four,,,absent,red,val\n"
    )
    result = prepare(str(media.parent / "rows.csv"), tmp_path / "out", config=CONFIG, workers=1)
    assert result.splits == {"train": 2, "val": 1}
    train, val = PreparedSource(tmp_path / "out"), PreparedSource(tmp_path / "out", "val")
    records = [train.record(0), train.record(1), val.record(0)]
    assert [(r.id, r.start, r.end, r.labels) for r in records] == [
        ("one", 0.5, 1.5, ("red",)),
        ("three", 0.5, 1.5, ("green",)),
        ("two", 2.0, 3.2, ("blue",)),
    ]
    assert [nearest(r.captions, 0, 1, 1)[0].text for r in records] == [
        "first part",
        "the same part again",
        "second part",
    ]
    assert records[0].media == records[1].media
    assert [(line["id"], line["reason"]) for line in errors(tmp_path / "out")] == [("four", "missing")]
    with pytest.raises(DataError, match="no split 'test' in it; there are train, val"):
        open_source(f"{tmp_path / 'out'}@test", seconds=0.1)


# The same, whoever does it and however often


def test_the_number_of_workers_changes_nothing(media, prepared, tmp_path):
    prepare(str(media), tmp_path / "out", config=CONFIG, workers=1)
    assert contents(tmp_path / "out") == contents(prepared)


def test_shards_follow_from_the_source_and_all_their_records_come_in_order(media, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "plan_shards", functools.partial(plan_shards, shard_bytes=60_000))
    prepare(str(media), tmp_path / "out", config=CONFIG, workers=2)
    assert len(list((tmp_path / "out").glob("clips-train.array_record-*-of-*"))) > 2
    one, many = PreparedSource(prepared), PreparedSource(tmp_path / "out")
    assert [vars(one.record(i)) for i in range(len(one))] == [vars(many.record(i)) for i in range(len(many))]
    assert one.word_counts() == many.word_counts()
    assert errors(prepared) == errors(tmp_path / "out")


def test_a_finished_set_is_kept(media, prepared):
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    result = prepare(str(media), prepared, config=CONFIG)
    assert result.records == len(PreparedSource(prepared))
    assert result.faults == {"truncated": 1, "unreadable": 1} or sum(result.faults.values()) == 2
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before


def start(*args: str) -> subprocess.Popen:
    """The command, in a group of its own, as a terminal would have it."""
    return subprocess.Popen(
        [sys.executable, "-m", "vatt", "data", "prepare", *args],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


ARGUMENTS = ("--size", "64", "--sample-rate", "16000", "--seconds", "1", "--min-seconds", "0.5", "--workers", "2")


def staged(out: Path) -> int:
    return len([path for path in out.glob(".staging/units/*/*") if not path.name.startswith(".")])


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_and_started_again_it_gives_the_same(media, prepared, tmp_path, kills):
    out, rng, done, cut_short = tmp_path / "out", random.Random(kills), 0, 0
    for number in range(kills):
        process = start(str(media), str(out), *ARGUMENTS)
        goal = round((number + 1) * 12 / (kills + 1))  # of 13 media
        while process.poll() is None and staged(out) < goal:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()  # on a busy machine it may be done by now
        cut_short += process.wait() == -signal.SIGKILL
        time.sleep(0.3)  # the processes it had end with it
        now = staged(out)
        assert now >= done or (out / "prepared.json").exists() or list(out.glob(".staging/shards/*.json"))
        done = now
    assert cut_short
    ages = {path: path.stat().st_mtime_ns for path in out.glob(".staging/units/*/*") if not path.name.startswith(".")}
    made = []
    real = module.make_all
    try:
        module.make_all = lambda units, *rest: made.extend(units) or real(units, *rest)
        prepare(str(media), out, config=CONFIG, workers=2)
    finally:
        module.make_all = real
    assert len(made) <= 13 - len(ages)  # nothing is done over again
    assert contents(out) == contents(prepared)


def test_ctrl_c_stops_at_once_and_says_what_goes_on(media, tmp_path):
    process = start(str(media), str(tmp_path / "out"), *ARGUMENTS)
    while process.poll() is None and not staged(tmp_path / "out"):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    begun = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    assert process.returncode == 130
    assert said.strip() == "vatt: interrupted; what is done is kept, and the same command goes on from here"


# A process that dies


def make_or_die(unit, alive, *, staging, config):
    if unit.rows[0].id == "clip_00002.mp4":
        os.kill(os.getpid(), signal.SIGSEGV)
    make_one(unit, alive, staging=staging, config=config)


def test_a_file_that_kills_its_process_costs_itself_alone(media, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "make_one", make_or_die)
    result = prepare(str(media), tmp_path / "out", config=CONFIG, workers=2)
    assert result.faults["crashes"] == 1
    assert ("clip_00002.mp4", "crashes") in [(line["id"], line["reason"]) for line in errors(tmp_path / "out")]
    whole, left = PreparedSource(prepared), PreparedSource(tmp_path / "out")
    ids = [whole[i].id for i in range(len(whole)) if not whole[i].id.startswith("clip_00002.mp4")]
    assert [left[i].id for i in range(len(left))] == ids


# What is refused


def test_another_source_or_configuration_is_refused_by_what_differs(media, prepared, tmp_path):
    with pytest.raises(DataError, match=r"size 64, asked for 32; fps 10.0, asked for 5"):
        prepare(
            str(media), prepared, config=PrepareConfig(size=32, fps=5, sample_rate=16_000, seconds=1, min_seconds=0.5)
        )
    make_demo(tmp_path / "demo", clips=1, heldout=1)
    with pytest.raises(DataError, match=r"source .*media, asked for .*demo/train"):
        prepare(str(tmp_path / "demo/train"), prepared, config=CONFIG)


def test_a_source_that_changed_on_the_way_is_refused(media, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    make_demo(tmp_path / "demo", clips=2, heldout=1)
    source = str(tmp_path / "demo/train")
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out", config=CONFIG, work=stop)
    with pytest.raises(DataError, match="was not finished"):
        open_source(str(tmp_path / "out"), seconds=0.1)
    shutil.copy(media / "clip_00005.mp4", tmp_path / "demo/train/another.mp4")
    with pytest.raises(DataError, match="media or captions of the source have changed since"):
        prepare(source, tmp_path / "out", config=CONFIG)


def test_a_finished_set_is_left_alone_unless_its_source_has_grown(media, tmp_path):
    make_demo(tmp_path / "demo", clips=2, heldout=1)
    source, out = str(tmp_path / "demo/train"), tmp_path / "out"
    first = prepare(source, out, config=CONFIG, workers=1)
    assert prepare(source, out, config=CONFIG, workers=1) == first
    before = contents(out)
    shutil.copy(media / "clip_00005.mp4", tmp_path / "demo/train/another.mp4")
    with pytest.raises(DataError, match=r"have changed since. Prepare into another folder, or remove this one"):
        prepare(source, out, config=CONFIG, workers=1)
    assert contents(out) == before


def test_text_that_no_file_can_hold_costs_nothing_else(media, tmp_path):
    shutil.copy(media / "clip_00005.mp4", tmp_path / "a.mp4")
    lines = [{"path": "a.mp4", "id": str(n), "caption": f"good {n}", "label": "one"} for n in range(2)]
    lines[1] |= {"caption": "half \ud83d a character", "label": "\ud83d"}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = prepare(str(tmp_path / "rows.jsonl"), tmp_path / "out", config=CONFIG, workers=1)
    assert made.records >= 2
    source = PreparedSource(tmp_path / "out")
    said = {caption.text for i in range(len(source)) for caption in source[i].captions}
    assert said == {"good 0", "half ? a character"}
    plain = open_source(str(tmp_path / "rows.jsonl"), seconds=0.1)
    assert [plain[i].labels for i in range(2)] == [("one",), ("?",)]


def test_what_was_away_for_a_while_is_tried_again(media, tmp_path):
    make_demo(tmp_path / "demo", clips=2, heldout=1)
    source, film = tmp_path / "demo/train", tmp_path / "demo/train/clip_00000.mp4"

    def away(shards, staging, config, progress):
        film.rename(tmp_path / "away")
        units = [unit for shard in shards for unit in shard.units]
        list(module.make_all(units, staging, config, 1))
        (tmp_path / "away").rename(film)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(str(source), tmp_path / "out", config=CONFIG, work=away)
    result = prepare(str(source), tmp_path / "out", config=CONFIG, workers=1)
    assert not result.faults
    assert any(PreparedSource(tmp_path / "out")[i].id.startswith(film.name) for i in range(result.records))


def test_folders_of_something_else_are_refused(media, prepared, tmp_path):
    (tmp_path / "mine.txt").write_text("dear diary")
    with pytest.raises(DataError, match=r"holds other files \(mine.txt\)"):
        prepare(str(media), tmp_path, config=CONFIG)
    with pytest.raises(DataError, match="is a file"):
        prepare(str(media), tmp_path / "mine.txt", config=CONFIG)
    with pytest.raises(DataError, match="is prepared already"):
        prepare(str(prepared), tmp_path / "out", config=CONFIG)


def test_nothing_but_broken_files_is_an_error_that_names_them(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/words.mp4").write_text("this is no film")
    with pytest.raises(DataError, match=r"not one record could be made of it:\n  words.mp4: unreadable"):
        prepare(str(tmp_path / "in"), tmp_path / "out", config=CONFIG, workers=1)


@pytest.mark.parametrize(
    "change", [{"size": 7}, {"size": 65}, {"fps": 0}, {"seconds": 0}, {"min_seconds": 20}, {"sample_rate": 1}]
)
def test_configurations_that_cannot_work_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        PrepareConfig(**change)


def test_two_at_once_are_refused(media, tmp_path):
    def second(*_):
        with pytest.raises(DataError, match="another process is preparing into it"):
            prepare(str(media), tmp_path / "out", config=CONFIG)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(str(media), tmp_path / "out", config=CONFIG, work=second)


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, as long as it is not made larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(media, prepared, small_disk):
    out = small_disk / "out"
    full = cli(str(media), str(out), *ARGUMENTS)
    assert full.returncode == 1
    assert "No space left on device" in full.stderr
    assert "type the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    # What the other process was at when this one met the full disk lies under a name that begins with a dot.
    whole = [path for path in out.glob(".staging/units/*/*") if not path.name.startswith(".")]
    kept = {path: path.read_bytes() for path in whole}
    assert kept
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert all(path.read_bytes() == data for path, data in kept.items())
    done = cli(str(media), str(out), *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(prepared)


def test_a_disk_that_fills_while_shards_are_joined(media, prepared, small_disk):
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    out = small_disk / "out"
    real = module.join

    def fill_then_join(*args):
        free = os.statvfs(small_disk)
        (small_disk / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize - 65_536))
        real(*args)

    try:
        module.join = fill_then_join
        with pytest.raises(DataError, match=r"No space left on device.*type the same command again"):
            prepare(str(media), out, config=CONFIG, workers=2)
    finally:
        module.join = real
    (small_disk / "ballast").unlink()
    prepare(str(media), out, config=CONFIG, workers=2)
    assert contents(out) == contents(prepared)


# The command line


def test_the_command_says_what_came_of_it_and_what_to_type_next(media, prepared):
    done = cli(str(media), str(prepared), *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    assert f"{len(PreparedSource(prepared))} records (train" in done.stdout
    assert f"2 lines in {prepared / 'errors.jsonl'}" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("next: vatt pretrain")
    assert f"--data.sources {prepared}" in done.stdout


def test_help_has_examples_and_unknown_options_are_named(media):
    assert "vatt data prepare ~/videos data/mine" in cli("--help").stdout
    wrong = cli(str(media), "out", "--sizes", "3")
    assert wrong.returncode == 2
    assert "--sizes" in wrong.stderr


def test_sound_and_picture_stay_together(tmp_path):
    """A flash and a click at 2.0 s, cut to records of a second and a half, are within a frame of each other."""
    pictures = [np.full((64, 64, 3), 235 if 50 <= i < 55 else 20, np.uint8) for i in range(90)]
    sound = np.zeros(90 * 1920)
    sound[96_000:96_480] = 0.9
    (tmp_path / "in").mkdir()
    write(tmp_path / "in/flash.mp4", pictures=pictures, sound=sound)
    config = PrepareConfig(size=64, fps=25, seconds=1.5, min_seconds=1)
    prepare(str(tmp_path / "in"), tmp_path / "out", config=config, workers=1)
    source = PreparedSource(tmp_path / "out")
    record = next(source.record(i) for i in range(len(source)) if source.record(i).start == 1.5)
    clip = ClipConfig(frames=25, fps=25.0, size=64, sample_rate=48_000, samples=48_000)
    item = next(source[i] for i in range(len(source)) if source[i].id == record.id)
    example = decode_clip(item, 0.0, clip, crop=centre, canvas=64)
    flash = np.flatnonzero(example["video"][:, :64].mean((1, 2)) > 120)[0] / 25
    click = np.flatnonzero(np.abs(example["audio"].astype(int)) > 12_000)[0] / 48_000
    assert 0.5 <= flash < 0.54
    assert abs(click - 0.5) < 0.002


def test_odd_files_show_and_sound_prepared_as_they_do_themselves(tmp_path):
    """Whatever gives a clip gives the same one from its record; what gives none is an error, and stops nothing."""
    names = ("vfr.mp4", "audio_late.mkv", "surround.mp4", "rotated_90.mp4", "late_clock.ts", "mpeg1.mpg")
    for name in (*names, "vast.png", "text.mp4", "absurd_rate.wav"):
        (tmp_path / "in").mkdir(exist_ok=True)
        ODD[name](tmp_path / "in" / name)
    config = PrepareConfig(size=64, sample_rate=16_000, seconds=60)
    prepare(str(tmp_path / "in"), tmp_path / "out", config=config, workers=2)
    assert {line["id"] for line in errors(tmp_path / "out")} == {"vast.png", "text.mp4", "absurd_rate.wav"}
    originals = open_source(str(tmp_path / "in"), seconds=1.0)
    source = PreparedSource(tmp_path / "out", seconds=1.0)
    records = {source[i].id: (source.record(i), source[i]) for i in range(len(source))}
    assert records.keys() == {originals[i].id for i in range(len(originals))} == set(names)
    clip = ClipConfig(frames=5, fps=10.0, size=64, sample_rate=16_000, samples=8000)
    for original in (originals[i] for i in range(len(originals))):
        record, item = records[original.id]
        assert (record.start, record.end) == (original.start, original.end)
        before = decode_clip(original, original.start + 0.4, clip, crop=centre, canvas=64)
        after = decode_clip(item, 0.4, clip, crop=centre, canvas=64)
        assert np.abs(before["video"][:, :64].astype(int) - after["video"][:, :64]).mean() < 8, original.id
        assert np.corrcoef(before["audio"], after["audio"])[0, 1] > 0.98, original.id
