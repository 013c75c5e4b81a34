"""The health check: every fault put into a corpus is found, no sound file is accused, and bad files cost themselves."""

import base64
import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vatt.config import ClipConfig
from vatt.data.captions import Caption
from vatt.data.captions.faults import caption_faults, is_text
from vatt.data.check import examine as examination
from vatt.data.check.examine import Task, examine
from vatt.data.check.run import check
from vatt.data.check.summary import print_report
from vatt.data.crops import centre
from vatt.data.faults import FAULTS
from vatt.data.items import Item
from vatt.data.media.clip import decode_clip, is_silent
from vatt.errors import DataError

RATE = 16_000


def picture(seed: int, seconds: float = 2.0, fps: int = 12, width: int = 64, height: int = 48) -> np.ndarray:
    """Smooth random blobs that drift, [T H W 3] uint8; the same content at any size and rate."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * fps))[:, None, None] / fps
    y, x = np.mgrid[0:height, 0:width][0] / height, np.mgrid[0:height, 0:width][1] / width
    planes = []
    for _ in range(3):
        plane = np.full((len(time), height, width), rng.uniform(80, 170))
        for _ in range(4):
            fx, fy, ft, phase = rng.uniform(2, 9), rng.uniform(2, 9), rng.uniform(-3, 3), rng.uniform(0, 7)
            plane = plane + 25 * np.sin(fx * x + fy * y + ft * time + phase)
        planes.append(plane)
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


def sound(seed: int, seconds: float = 2.0) -> np.ndarray:
    """Noise whose loudness wanders, [S] float32."""
    rng = np.random.default_rng((seed, 1))
    samples = round(seconds * RATE)
    course = np.interp(
        np.arange(samples) / RATE,
        np.arange(0, seconds + 0.4, 0.3),
        rng.uniform(-45, -10, int(seconds / 0.3) + 3)[: len(np.arange(0, seconds + 0.4, 0.3))],
    )
    return (rng.uniform(-1, 1, samples) * 10 ** (course / 20)).astype(np.float32)


def write(
    path: Path,
    pictures: np.ndarray | None,
    samples: np.ndarray | None,
    *,
    fps: int = 12,
    times: list[float] | None = None,
    late: float = 0.0,
    video: str = "libx264",
    audio: str = "aac",
    options: dict | None = None,
    container_options: dict | None = None,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        packets = []
        if pictures is not None:
            stream = container.add_stream(video, fps, options=options or {})
            stream.height, stream.width = pictures.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000 if times else fps)
        if samples is not None:
            track = container.add_stream(audio, 48_000 if audio == "libopus" else RATE)
            track.layout = "mono"
            resampler = av.AudioResampler(track.format.name, "mono", track.rate)
        if pictures is not None:
            for index, image in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(image, "rgb24")
                frame.pts, frame.time_base = (
                    (round(times[index] * 1000), Fraction(1, 1000)) if times else (index, Fraction(1, fps))
                )
                packets += stream.encode(frame)
            packets += stream.encode(None)
        if samples is not None:
            frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), round(late * RATE)
            for out in [*resampler.resample(frame), *resampler.resample(None)]:
                packets += track.encode(out)
            packets += track.encode(None)
        for packet in sorted((p for p in packets if p.dts is not None), key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return path


def rotate(path: Path) -> None:
    """Turns a picture by the matrix in its track header (ISO 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def spoil(path: Path) -> None:
    """Overwrites pieces of the media data."""
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    size = struct.unpack(">I", data[begin - 8 : begin - 4])[0] - 8
    rng = np.random.default_rng(0)
    for at in np.linspace(begin + size // 3, begin + size - 200, 12).astype(int):
        data[at : at + 40] = rng.bytes(40)
    path.write_bytes(data)


def srt(path: Path, *cues: tuple[float, float, str]) -> None:
    def stamp(seconds: float) -> str:
        return f"00:{int(seconds // 60):02d}:{seconds % 60:06.3f}".replace(".", ",")

    path.write_text("\n".join(f"{n}\n{stamp(a)} --> {stamp(b)}\n{text}\n" for n, (a, b, text) in enumerate(cues, 1)))


def make_faulty(folder: Path) -> dict[str, set[str]]:
    """Files with a fault each; id -> reasons that must be found, and no others."""
    expected: dict[str, set[str]] = {}

    def new(name: str, *reasons: str) -> Path:
        expected[name] = set(reasons)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        return folder / name

    new("text.mp4", "unreadable").write_text("this is no video")
    new("empty.mkv", "unreadable").write_bytes(b"")
    whole = write(folder / "a_whole.mp4", picture(0), sound(0))
    expected["a_whole.mp4"] = set()
    new("headless.mp4", "unreadable").write_bytes(whole.read_bytes()[:-2500])  # the index is at the end
    fast = write(folder / "cut.mp4", picture(1, 4), sound(1, 4), container_options={"movflags": "faststart"})
    fast.write_bytes(fast.read_bytes()[: fast.stat().st_size // 2])
    expected["cut.mp4"] = {"truncated"}
    write(new("deaf.mp4", "no_audio"), picture(2), None)
    write(new("blind.mp4", "no_video"), None, sound(3))
    write(new("mute.mp4", "silent"), picture(4), np.zeros(2 * RATE, np.float32))
    times = np.cumsum([0.05, 0.12] * 12) - 0.05
    write(new("varies.mkv", "variable_rate"), picture(5), sound(5), times=times.tolist())
    rotate(write(new("turned.mp4", "rotated"), picture(6), sound(6)))
    write(new("uneven.mp4", "lengths_differ"), picture(7, 3), sound(7, 1.6))
    write(new("late.mkv", "late_start"), picture(8, 2.5), sound(8, 1.9), late=0.6)
    expected["late.mkv"].add("lengths_differ")
    write(new("brief.mp4", "too_short"), picture(9, 0.5), sound(9, 0.5))
    spoil(write(new("spoilt.mp4", "damaged"), picture(10, 4), sound(10, 4)))
    new("sub/copy.mp4", "duplicate").write_bytes(whole.read_bytes())
    write(new("smaller.mp4", "near_duplicate"), picture(0, width=40, height=30), sound(0), options={"crf": "34"})
    write(
        new("zsound.mkv", "near_duplicate"),
        picture(0, width=96, height=72, fps=24),
        sound(0),
        fps=24,
        video="mpeg4",
        audio="libmp3lame",
    )
    new("gone.mp4", "missing").symlink_to(folder / "nowhere.mp4")
    for seed, (name, reason, cues) in enumerate(
        [
            ("outside", "caption_times", [(0, 1, "hello"), (30, 31, "too late")]),
            ("lasting", "caption_times", [(0, 100, "hello")]),
            ("backwards", "caption_times", [(1, 2, "second"), (0, 1, "first")]),
            ("wordless", "empty_captions", [(0, 1, "hello"), (1, 2, "")]),
            ("numbers", "not_text", [(0, 1, "12 34")]),
            ("markup", "empty_captions", [(0, 1, "<c.colour></c>")]),
            ("symbols", "not_text", [(0, 1, "♪♪")]),
        ],
        start=20,
    ):
        write(new(f"{name}.mp4", reason), picture(seed), sound(seed))
        srt(folder / f"{name}.srt", *cues)
    write(new("unwritten.mp4", "empty_captions"), picture(30), sound(30))
    (folder / "unwritten.srt").write_text("")
    write(new("broken.mp4", "bad_captions"), picture(31), sound(31))
    (folder / "broken.srt").write_text("1\n00:00:zz --> 1\nhello\n")
    return expected


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "clips"
    expected = make_faulty(folder)
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    report = check(str(folder), folder.parent / "report", seconds=1.5, workers=1)
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*")} == before, "the source is only read"
    return expected, report


def found(report) -> dict[str, set[str]]:
    return {line.id: {reason for reason, _ in line.faults} for line in report.lines}


def test_every_fault_is_found_and_nothing_else(faulty):
    expected, report = faulty
    assert found(report) == expected
    assert {name for name, reasons in expected.items() if reasons} == {
        line.id for _, lines in report.kinds.items() for line, _ in lines
    }


def test_copies_name_the_file_they_are_copies_of(faulty):
    details = {line.id: dict(line.faults) for line in faulty[1].lines}
    for name in ("smaller.mp4", "zsound.mkv", "sub/copy.mp4"):
        assert any("smaller.mp4" in d or "a_whole.mp4" in d or "copy.mp4" in d for d in details[name].values()), name


def test_details_say_what_was_measured(faulty):
    details = {line.id: dict(reversed(line.faults)) for line in faulty[1].lines}
    assert "of its picture cannot be decoded" in details["spoilt.mp4"]["damaged"]
    assert details["uneven.mp4"]["lengths_differ"] == "picture 3.00 s, sound 1.60 s"
    assert details["late.mkv"]["late_start"] == "both run from 0.60 s on"
    assert details["brief.mp4"]["too_short"] == "0.50 s of 1.50 s"
    assert details["outside.mp4"]["caption_times"] == "1: 30-31 s in a file of 2.00 s"
    assert details["unwritten.mp4"]["empty_captions"] == "unwritten.srt holds none"


def test_lines_are_json_with_facts(faulty):
    expected, report = faulty
    lines = [json.loads(line) for line in (report.folder / "report.jsonl").read_text().splitlines()]
    assert {line["id"]: {fault["reason"] for fault in line["faults"]} for line in lines} == expected
    whole = next(line for line in lines if line["id"] == "a_whole.mp4")
    assert whole["usable"]
    assert (whole["width"], whole["height"], whole["fps"]) == (64, 48, 12)
    assert (whole["video_codec"], whole["audio_codec"], whole["frames"]) == ("h264", "aac", 24)
    assert whole["end"] == pytest.approx(2.0, abs=0.1)
    turned = next(line for line in lines if line["id"] == "turned.mp4")
    assert (turned["width"], turned["height"]) == (48, 64)


class Page(HTMLParser):
    VOID = ("meta", "img", "input")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.images, self.links, self.rows, self.text = [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(attrs["src"])
        self.links += [
            attrs[name] for name in ("href", "src") if name in attrs and not (attrs[name] or "").startswith("data:")
        ]
        if "data-kinds" in attrs:
            self.rows.append(attrs["data-kinds"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_well_formed_and_needs_no_network(faulty):
    expected, report = faulty
    content = (report.folder / "report.html").read_text()
    page = Page(content)
    assert page.open == []
    assert page.links == []
    assert "http" not in content
    assert len(page.rows) == len(expected)
    assert len(page.images) > 15
    for source in page.images:
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            image.load()
            assert max(image.size) <= 128
            assert np.asarray(image).std() > 5
    assert "too_short" in " ".join(page.rows)
    assert "remove it, or shorten the clip" in page.text


def test_the_terminal_says_few_names_a_kind(faulty):
    report = faulty[1]
    lines = report.lines * 1000
    many = type(report)(source=report.source, folder=report.folder, lines=lines)
    file = io.StringIO()
    print_report(many, Console(file=file, width=100))
    said = file.getvalue()
    assert said.count("\n") < 130
    assert "and 2,997 more" in said  # three files that cannot be read, a thousand times
    assert f"{len(lines):,} files, 6,000 cannot be used" in said


def make_sound(folder: Path) -> None:
    """Files without a fault, in as many ways as there are."""
    write(folder / "a.mp4", picture(50), sound(50))
    write(
        folder / "b.webm",
        picture(51, width=80, height=46),
        sound(51),
        video="libvpx-vp9",
        audio="libopus",
        options={"cpu-used": "8"},
    )
    write(folder / "c.ts", picture(52, 2, 25), sound(52), video="mpeg2video", audio="mp2", fps=25, options={"g": "5"})
    write(folder / "d.avi", picture(53), sound(53), video="mpeg4", audio="libmp3lame")
    write(folder / "e.mkv", picture(54, fps=30), sound(54), fps=30, options={"bf": "3", "g": "12"})
    write(folder / "f.mov", picture(55, 2, 25), sound(55), fps=25, container_options={"movflags": "faststart"})
    for name, codec in (
        ("g.wav", "pcm_s16le"),
        ("h.flac", "flac"),
        ("i.mp3", "libmp3lame"),
        ("j.m4a", "aac"),
        ("k.opus", "libopus"),
    ):
        write(folder / name, None, sound(ord(name[0])), audio=codec)
    for seed, suffix in enumerate(("jpg", "png", "webp", "bmp")):
        Image.fromarray(picture(60 + seed)[0]).save(folder / f"still{seed}.{suffix}")
    # Dark, static and steady ones, which look and sound alike for want of anything in them
    rng = np.random.default_rng(0)
    for seed in range(3):
        dark = (picture(70 + seed) // 24).astype(np.uint8)
        write(folder / f"dark{seed}.mp4", dark, sound(70 + seed))
        quiet = np.sin(2 * np.pi * 220 * np.arange(2 * RATE) / RATE).astype(np.float32) * 0.1
        write(folder / f"steady{seed}.mp4", picture(80 + seed), quiet)
        write(folder / f"black{seed}.mp4", np.zeros((24, 48, 64, 3), np.uint8), sound(90 + seed))
        # one camera, other people: a small thing moves over the same background
        scene = np.repeat(picture(100)[:1], 24, 0).copy()
        course = np.clip(np.cumsum(rng.integers(-9, 10, (24, 2)), 0) + rng.integers(0, 40, 2), 0, (36, 52))
        for frame, (top, left) in zip(scene, course, strict=True):
            frame[top : top + 12, left : left + 12] = (240, 230, 220)
        write(folder / f"camera{seed}.mp4", scene, sound(110 + seed))
        write(folder / f"slide{seed}.mp4", np.repeat(picture(101)[:1], 24, 0), sound(120 + seed))
    srt(folder / "a.srt", (0, 1, "hello"), (1, 3.5, "world 3"))
    (folder / "b.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nΓειά σου\n\n00:01.000 --> 00:02.000\n你好\n")
    (folder / "g.txt").write_text("a bell rings\n")
    (folder / "notes.pdf").write_bytes(b"passed over")


def test_no_sound_file_is_accused(tmp_path):
    make_sound(tmp_path / "good")
    report = check(str(tmp_path / "good"), tmp_path / "out", seconds=1.5, workers=1)
    assert {name: reasons for name, reasons in found(report).items() if reasons} == {}
    assert report.usable == len(report.lines) == 30
    assert report.ignored == {"pdf": 1}


def test_demo_media_come_out_clean_and_no_two_alike(demo_media, tmp_path):
    report = check(str(demo_media), tmp_path / "out", seconds=1.2, workers=1)
    factors = [json.loads(line) for line in (demo_media / "factors.jsonl").read_text().splitlines()]
    assert len(report.lines) == len(factors) == 56
    silent = {line.id for line in report.lines if not line.facts["has_audio"]}  # as a tenth of them are made
    assert 0 < len(silent) < 12
    assert {name: reasons for name, reasons in found(report).items() if reasons} == {
        name: {"no_audio"} for name in silent
    }


def test_quick_decodes_nothing_and_still_finds_what_headers_tell(tmp_path):
    folder = tmp_path / "clips"
    write(folder / "a.mp4", picture(0), np.zeros(2 * RATE, np.float32))
    write(folder / "b.mp4", picture(1, 0.5), sound(1, 0.5))
    (folder / "c.mp4").write_bytes((folder / "a.mp4").read_bytes())
    report = check(str(folder), tmp_path / "out", seconds=1.5, workers=1, quick=True)
    assert found(report) == {"a.mp4": set(), "b.mp4": {"too_short"}, "c.mp4": {"duplicate"}}


def test_rows_of_a_manifest_share_their_file(tmp_path):
    write(tmp_path / "clips" / "long.mp4", picture(0, 4), sound(0, 4))
    manifest = tmp_path / "clips.csv"
    manifest.write_text(
        "id,path,start,end,caption\n"
        "one,clips/long.mp4,0,2,a bell\ntwo,clips/long.mp4,2,4,a drum\nthree,clips/long.mp4,3.5,4,a horn\n"
        "four,clips/none.mp4,0,2,a bell\n"
    )
    report = check(str(manifest), tmp_path / "out", seconds=1.5, workers=1)
    assert found(report) == {"one": {"short_rows"}, "four": {"missing"}}
    assert report.lines[0].ids == ["one", "two", "three"]
    assert "1 of 3 rows: three" in dict(report.lines[0].faults)["short_rows"]


def test_lines_of_a_manifest_need_not_be_in_the_order_of_time(tmp_path):
    write(tmp_path / "clips" / "a.mp4", picture(0, 4), sound(0, 4))
    timed = [{"text": "second", "start": 2, "end": 3}, {"text": "first", "start": 0, "end": 1}]
    lines = [{"path": "clips/a.mp4", "captions": [one]} for one in (timed[0], "a bell", timed[1])]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert found(check(str(tmp_path / "m.jsonl"), tmp_path / "out", seconds=1.5, workers=1)) == {"clips/a.mp4": set()}


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
def test_samples_that_are_no_numbers_are_damage(tmp_path, value):
    samples = sound(0)
    samples[1000:1003] = value
    write(tmp_path / "clips" / "a.wav", None, samples, audio="pcm_f32le")
    with np.errstate(all="raise"):
        exam = examine(Task(media=str(tmp_path / "clips" / "a.wav")))
    assert [reason for reason, _ in exam.faults] == ["damaged"]
    assert exam.faults[0][1].startswith("3 samples")
    assert exam.facts["peak_db"] == pytest.approx(20 * np.log10(abs(sound(0)).max()), abs=0.2)
    assert exam.signature is not None
    assert exam.signature.audio is not None
    report = check(str(tmp_path / "clips"), tmp_path / "out", seconds=1.5, workers=1)
    json.loads((report.folder / "report.jsonl").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("peak", [0, 1, 2, 30, 40, 300])
def test_what_check_calls_silent_training_masks(tmp_path, peak):
    samples = np.resize(np.array([peak, -peak], np.int16), 2 * RATE)
    path = write(tmp_path / "a.wav", None, samples / np.float32(32768), audio="pcm_s16le")
    item = Item(id="a", media=str(path), end=2.0, has_video=False)
    clip = decode_clip(item, 0.5, ClipConfig(frames=1, sample_rate=RATE, samples=RATE), crop=centre, canvas=64)
    silent = [reason for reason, _ in examine(Task(media=str(path))).faults] == ["silent"]
    assert silent == is_silent(clip["audio"])
    assert silent or peak > 1
    assert not silent or peak < 100


def test_what_takes_long_is_not_accused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", picture(0), sound(0))
    monkeypatch.setattr(examination, "BUDGET", 0.0)
    monkeypatch.setattr(examination, "SLOWEST", 0.0)
    exam = examine(Task(media=str(path)))
    assert [reason for reason, _ in exam.faults] == ["unchecked"]
    assert not FAULTS["unchecked"].fatal


def test_a_folder_that_takes_nothing_is_told_of_before_the_work(tmp_path):
    write(tmp_path / "clips" / "a.mp4", picture(0), sound(0))
    (tmp_path / "file").write_text("")
    done = []
    for out in ("file", "file/deeper"):
        with pytest.raises(DataError, match=r"cannot write the report there.*-o"):
            check(str(tmp_path / "clips"), tmp_path / out, seconds=1.5, progress=lambda *at: done.append(at))
    assert done == []


def test_the_report_is_written_before_the_search_for_files_that_look_alike(tmp_path):
    for seed in range(3):
        write(tmp_path / "clips" / f"{seed}.mp4", picture(seed), sound(seed))
    seen = []

    def progress(done: int, total: int) -> None:
        path = tmp_path / "out" / "report.jsonl"
        seen.append((done, total, len(path.read_text().splitlines()) if path.exists() else 0))

    check(str(tmp_path / "clips"), tmp_path / "out", seconds=1.5, workers=1, progress=progress)
    assert seen == [(1, 3, 0), (2, 3, 0), (3, 3, 0), (3, 3, 3)]


def test_the_report_never_lies_within_the_source(tmp_path, monkeypatch):
    write(tmp_path / "clips" / "a.mp4", picture(0), sound(0))
    with pytest.raises(DataError, match="lies within the source"):
        check(str(tmp_path / "clips"), tmp_path / "clips" / "out", seconds=1.5, workers=1)
    monkeypatch.chdir(tmp_path / "clips")
    report = check(".", seconds=1.5, workers=1, quick=True)
    assert report.folder == tmp_path / "check-clips"
    assert sorted(path.name for path in report.folder.iterdir()) == ["report.html", "report.jsonl"]


def test_hostile_names_do_no_harm(tmp_path):
    folder = tmp_path / "clips"
    write(folder / "<img src=x onerror=alert(1)>.mp4", picture(0, 0.5), sound(0, 0.5))
    write(folder / "[red]\x1b[31mß.mp4", picture(1, 0.5), sound(1, 0.5))
    report = check(str(folder), tmp_path / "out", seconds=1.5, workers=1)
    content = (report.folder / "report.html").read_text()
    assert "<img src=x" not in content
    assert "\x1b" not in content
    file = io.StringIO()
    print_report(report, Console(file=file, width=100))
    assert "[red]\\x1b[31mß.mp4" in file.getvalue()


def test_captions():
    def reasons(*captions: Caption, end: float | None = 10.0):
        return [reason for reason, _ in caption_faults(captions, end)]

    assert reasons(Caption(0, float("inf"), "a bell")) == []
    assert reasons(Caption(8, 11.5, "read to the end")) == []
    assert reasons(Caption(8, 13, "much too long")) == ["caption_times"]
    assert reasons(Caption(10, 11, "after")) == ["caption_times"]
    assert reasons(Caption(0, 1, "a"), Caption(0.5, 0.7, "b"), Caption(0.6, 2, "c")) == []
    assert reasons(Caption(1000, 1001, "of a picture"), end=None) == []
    throughout, second, first = Caption(0, float("inf"), "all"), Caption(5, 6, "b"), Caption(1, 2, "a")
    assert reasons(first, throughout, second, throughout) == []
    assert reasons(second, throughout, first) == ["caption_times"]
    assert caption_faults((second, first), 10.0, ordered=False) == []
    assert is_text("日本語")
    assert is_text("[Music]")
    assert is_text("see you at 5")
    assert not is_text("https://example.org/x")
    assert not is_text("&nbsp;")
    assert not is_text("- ?! -")


def test_what_would_wait_for_ever_costs_its_own_line(tmp_path):
    folder = tmp_path / "clips"
    write(folder / "a.mp4", picture(0), sound(0))
    write(folder / "c.mp4", picture(1), sound(1))
    os.mkfifo(folder / "b.mp4")
    os.mkfifo(folder / "c.srt")
    manifest = tmp_path / "clips.csv"
    manifest.write_text("path\nclips/a.mp4\nclips/b.mp4\nclips/c.mp4\n")
    reasons = found(check(str(manifest), tmp_path / "out", seconds=1.5, workers=1))
    assert sorted(map(sorted, reasons.values())) == [[], ["bad_captions"], ["unreadable"]]
    reasons = found(check(str(folder), tmp_path / "again", seconds=1.5, workers=1))
    assert reasons["a.mp4"] == set()
    assert reasons["c.mp4"] == {"bad_captions"}


def test_the_command_line(tmp_path):
    write(tmp_path / "clips" / "a.mp4", picture(0), sound(0))
    write(tmp_path / "clips" / "b.mp4", picture(1, 0.5), sound(1, 0.5))
    command = [sys.executable, "-m", "vatt", "data", "check", "clips", "--workers", "1", "--seconds", "1.5"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": "100"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "shorter than one clip" in done.stdout
    assert "b.mp4: 0.5" in done.stdout
    assert "2 files, 1 cannot be used" in done.stdout
    assert "\x1b" not in done.stdout
    assert (tmp_path / "check-clips" / "report.jsonl").is_file()
    assert done.stderr == ""


def test_ctrl_c_stops_it(tmp_path):
    write(tmp_path / "clips" / "a.mp4", picture(0), sound(0))
    for number in range(3000):
        os.link(tmp_path / "clips" / "a.mp4", tmp_path / "clips" / f"{number}.mp4")
    command = [sys.executable, "-m", "vatt", "data", "check", "clips", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    while len(in_group(process.pid)) < 4:  # itself, one that tracks resources, and two that read
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 130
    assert errors == b"vatt: interrupted\n"
    until = time.monotonic() + 10
    while in_group(process.pid):
        assert time.monotonic() < until, "a process is left"
        time.sleep(0.05)
    assert not (tmp_path / "check-clips").exists()


def in_group(group: int) -> list[str]:
    """The processes of a group that run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, number = status.read_text().rpartition(")")[2].split()[:3]
            found += [status.parent.name] if int(number) == group and state != "Z" else []
    return found


def test_examination_of_one_file_runs_anywhere(tmp_path):
    exam = examine(Task(media=str(write(tmp_path / "a.mp4", picture(0), sound(0)))))
    assert exam.faults == []
    assert exam.signature is not None
    assert exam.signature.video is not None
    assert exam.thumbnail.startswith(b"\xff\xd8")


def test_a_prepared_set_is_checked_record_by_record(tmp_path):
    from vatt.data.prepare.plan import PrepareConfig
    from vatt.data.prepare.run import prepare

    folder = tmp_path / "clips"
    for number in range(3):
        write(folder / f"{number}.mp4", picture(number, 3), sound(number, 3) * (number != 1))
        srt(folder / f"{number}.srt", (0, 1, "one"), (1, 2, "two"), (2, 3, "three" if number else "33"))
    prepare(str(folder), tmp_path / "set", config=PrepareConfig(), workers=1)
    report = check(str(tmp_path / "set"), tmp_path / "out", seconds=1.5, workers=1)
    assert len(report.lines) == 3
    assert sorted(sorted(reasons) for reasons in found(report).values()) == [[], ["not_text"], ["silent"]]
