"""Files on their way to the model: one that kills the process, or hangs, costs no other file."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time

import pyarrow as pa
import pytest

from tests.media import ROOT
from tests.oddfiles import tone, write
from vatt.config import ClipConfig
from vatt.data.files import MediaFile, list_media
from vatt.data.items import Row
from vatt.evals import reading
from vatt.evals.parts import Parts
from vatt.evals.reading import Wanted, read

CLIP = ClipConfig(frames=8, fps=8.0, samples=8000, sample_rate=8000)
SETTINGS = {"layout": "1"}

# Reads the files of a folder as vatt embed does, with a probe that kills or hangs. A spawned process runs it as well.
READER = textwrap.dedent("""
    import json, os, signal, sys, time
    import pyarrow as pa
    from tests.test_reading import CLIP, SETTINGS
    from vatt.data.files import list_media
    from vatt.evals import reading
    from vatt.evals.parts import Parts

    probe = reading.probe

    def harmful(media):
        if "deadly" in media:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "endless" in media and __name__ != "__main__":
            time.sleep(600)
        return probe(media)

    reading.probe = harmful
    reading.PATIENCE = 3.0
    if __name__ == "__main__":
        folder, partial = sys.argv[1:]
        wanted = reading.Wanted(clip=CLIP, canvas=32, modalities=("audio",), hop=1.0)
        found = {}
        with Parts(partial, pa.schema([]), SETTINGS) as parts:
            files = [(file, file.key()) for file in list_media([folder])[0]]
            for state, windows in reading.read(files, wanted, parts, workers=1, depth=1):
                name = os.path.basename(state.path)
                found.setdefault(name, [0, [error["reason"] for error in state.errors]])[0] += len(windows or [])
        print(json.dumps(found))
""")


@pytest.fixture
def media(tmp_path):
    (tmp_path / "media").mkdir()
    for name in ("a.wav", "deadly.wav", "endless.wav", "z.wav"):
        write(tmp_path / "media" / name, sound=tone(2.0, 8000), rate=8000, audio="pcm_s16le")
    return tmp_path / "media"


def wanted() -> Wanted:
    return Wanted(clip=CLIP, canvas=32, modalities=("audio",), hop=1.0)


def test_a_file_that_killed_the_process_is_an_error_of_the_next_one(media, tmp_path):
    (tmp_path / "reader.py").write_text(READER)
    command = [sys.executable, str(tmp_path / "reader.py"), str(media), str(tmp_path / "partial")]

    def run() -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    done = run()
    assert done.returncode == -11, done.stderr
    (mark,) = (tmp_path / "partial" / "at_work").iterdir()
    key = mark.name.partition(".")[0]
    deadly, endless = (list_media([str(media / name)])[0][0].key() for name in ("deadly.wav", "endless.wav"))
    assert key == deadly
    (mark.parent / f"{endless}.7").touch()  # as if it had hung, and the process been killed
    done = run()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "a.wav": [2, []],
        "deadly.wav": [0, ["crashes"]],
        "endless.wav": [0, ["crashes"]],
        "z.wav": [2, []],
    }


def test_a_file_that_was_at_work_by_chance_is_read_like_the_others(media, tmp_path):
    (file,), _ = list_media([str(media / "a.wav")])
    with Parts(tmp_path / "partial", pa.schema([]), SETTINGS) as parts, parts.at_work(file.key()):
        (mark,) = (tmp_path / "partial" / "at_work").iterdir()
        name = mark.name
    (tmp_path / "partial" / "at_work" / name).touch()
    with Parts(tmp_path / "partial", pa.schema([]), SETTINGS) as parts:
        assert parts.suspects == {file.key()}
        found = [windows for _, windows in read([(file, file.key())], wanted(), parts, workers=2, depth=1)]
    assert [len(windows or []) for windows in found] == [2, 0]
    assert list((tmp_path / "partial" / "at_work").iterdir()) == []


def test_a_decoder_that_hangs_does_not_hold_who_leaves(tmp_path, monkeypatch):
    released = threading.Event()

    def hangs(file, wanted):
        if file.path == "hangs":
            released.wait(60)
        return reading.State(file.path)

    monkeypatch.setattr(reading, "open_file", hangs)
    monkeypatch.setattr(reading, "GRACE", 0.2)
    names = [*(f"quick{i}" for i in range(10)), "hangs", "behind it"]
    files = [(MediaFile(path=name, media=name, rows=(Row(id=name, media=name),)), name) for name in names]
    marks = tmp_path / "partial" / "at_work"
    with Parts(tmp_path / "partial", pa.schema([]), SETTINGS) as parts:
        stream = read(files, wanted(), parts, workers=1, depth=1)
        assert next(stream)[0].path == "quick0"
        end = time.monotonic() + 30
        while not list(marks.glob("hangs.*")) and time.monotonic() < end:
            time.sleep(0.01)
        before = time.monotonic()
        stream.close()
        assert time.monotonic() - before < 30
        assert [mark.name.partition(".")[0] for mark in marks.iterdir()] == ["hangs"]
        released.set()
