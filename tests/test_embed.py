"""`vatt embed` through the command line: the same bytes whatever the batch, the order, the workers and the kills."""

import functools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors import safe_open

from tests.indexed import read_whole
from tests.media import ROOT
from tests.oddfiles import damaged, picture, short, text, tone, write
from vatt.cli import main
from vatt.data.files import list_media
from vatt.evals import parts, pretrained
from vatt.evals.index import About, batch, write_index

# Writes a part for every file, so that a kill finds some.
SMALL_PARTS = textwrap.dedent("""
    import sys
    from vatt.evals import parts, pretrained
    from vatt.cli import main
    parts.FILES = 1
    sys.exit(main(sys.argv[1:]))
""")


OF_ROWS = (".start", ".end", ".path", ".modality", ".text")  # tensors of a safetensors index


@pytest.fixture(scope="module")
def media(demo_media, tmp_path_factory):
    """A folder with a film, clips with captions, and whatever else people have."""
    folder, rng = tmp_path_factory.mktemp("media"), np.random.default_rng(0)
    for number, clip in enumerate(sorted((demo_media / "heldout").glob("*.mp4"))[:2]):
        shutil.copy(clip, folder / f"demo{number}.mp4")
        shutil.copy(clip.with_suffix(".srt"), folder / f"demo{number}.srt")
    pictures = [rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(150)]
    (folder / "films").mkdir()
    write(folder / "films" / "long.mp4", pictures=pictures, sound=rng.normal(size=6 * 48_000) / 9)
    write(folder / "mute.mp4", pictures=pictures[:40])
    write(folder / "silent.mp4", pictures=pictures[:40], sound=np.zeros(80_000))
    write(folder / "tone.wav", sound=tone(2.2, 8000), rate=8000, audio="pcm_s16le")
    Image.fromarray(picture(9)).save(folder / "still.png")
    text(folder / "broken.mp4")
    short(folder / "short.mp4")
    damaged(folder / "damaged.mp4", 0.0)
    (folder / "mute.txt").write_text("a red circle\naxolotl zebra\n")
    return folder


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """Each run is loaded once, for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "load", functools.cache(pretrained.load))
        yield


def embed(*args) -> int:
    return main(["embed", *map(str, args)])


@pytest.fixture(scope="module")
def index(tiny_run, media, tmp_path_factory):
    """Embedded once, with windows every half a second."""
    path = tmp_path_factory.mktemp("index") / "emb.parquet"
    assert embed(tiny_run, media, "-o", path, "--hop", "0.5", "--modalities", "video", "audio", "text") == 0
    return path


def errors(path) -> dict[str, dict[str, str]]:
    """file -> reason -> detail"""
    found: dict[str, dict[str, str]] = {}
    for line in (path.parent / f"{path.name}.errors.jsonl").read_text().splitlines():
        line = json.loads(line)
        found.setdefault(os.path.basename(line["path"]), {})[line["reason"]] = line["detail"]
    return found


def test_the_index_holds_a_row_a_window_modality_and_space(index, media, tiny_run):
    table = pq.read_table(index)
    assert table.column_names == ["path", "modality", "space", "start", "end", "vector", "text", "model"]
    rows = table.to_pylist()
    order = [(row["path"], row["modality"], row["space"], row["start"]) for row in rows]
    assert order == sorted(order)
    assert len(set(order)) >= len(rows) - 1  # two captions may begin together
    model = pretrained.load(str(tiny_run), step="latest")
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata == {
        "vatt.version": "1",
        "vatt.model": model.hash,
        "vatt.run": str(tiny_run),
        "vatt.step": "2",
        "vatt.seconds": "1.024",
        "vatt.hop": "0.5",
    }
    assert {row["model"] for row in rows} == {model.hash}
    film = [row for row in rows if row["path"] == str(media / "films" / "long.mp4")]
    assert {(row["modality"], row["space"]) for row in film} == {
        (modality, space) for modality in ("audio", "video") for space in ("va", "vt")
    }
    starts = [row["start"] for row in film if (row["modality"], row["space"]) == ("video", "vt")]
    np.testing.assert_allclose(starts, [*np.arange(0, 5, 0.5), 6.0 - 1.024], atol=0.03)
    for row in rows:
        assert np.linalg.norm(row["vector"]) == pytest.approx(1, abs=1e-5)
        assert (row["text"] is not None) == (row["modality"] == "text")
        assert 0 <= row["start"] <= row["end"] < 7
        if row["modality"] != "text":
            assert row["end"] - row["start"] == pytest.approx(1.024)
    said = {row["text"] for row in rows if row["path"].endswith("mute.mp4") and row["text"]}
    assert said == {"a red circle"}
    assert not (index.parent / "emb.parquet.partial").exists()


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(index):
    found = errors(index)
    assert set(found) == {
        "broken.mp4", "damaged.mp4", "long.mp4", "mute.mp4", "short.mp4", "silent.mp4", "still.png", "tone.wav",
    }  # fmt: skip
    assert set(found["broken.mp4"]) == {"unreadable"}
    assert set(found["short.mp4"]) == {"too_short"}
    assert set(found["silent.mp4"]) == {"silent", "no_captions"}
    assert set(found["tone.wav"]) == {"no_video", "no_captions"}
    assert set(found["still.png"]) == {"no_audio", "no_captions"}
    assert set(found["mute.mp4"]) == {"no_audio", "unknown_words"}
    assert "axolotl" in found["mute.mp4"]["unknown_words"]
    assert "video of " in found["damaged.mp4"]["damaged"]
    paths = {os.path.basename(path) for path in read_whole(index).paths}
    assert paths == {
        "damaged.mp4", "demo0.mp4", "demo1.mp4", "long.mp4", "mute.mp4", "silent.mp4",
        "still.png", "tone.wav",
    }  # fmt: skip


@pytest.mark.parametrize("options", [("--batch-size", 1, "--workers", 1), ("--batch-size", 64, "--workers", 2)])
def test_neither_batch_nor_workers_nor_order_changes_a_byte(index, media, tiny_run, tmp_path, options):
    inside = [path for path in media.iterdir() if path.suffix not in (".srt", ".txt")]
    random.Random(options[1]).shuffle(inside)
    out = tmp_path / "emb.parquet"
    given = [media / "demo1.mp4", *inside]  # one of them twice
    assert embed(tiny_run, *given, "-o", out, "--hop", "0.5", "--modalities", "text", "audio", "video", *options) == 0
    assert out.read_bytes() == index.read_bytes()
    assert errors(out) == errors(index)


def test_python_gives_the_bytes_of_the_command_line(index, media, tiny_run):
    model, found = pretrained.load(str(tiny_run), step="latest"), read_whole(index)
    for name in ("films/long.mp4", "demo1.mp4", "damaged.mp4"):
        here = found.paths == str(media / name)
        for modality, windows in (
            ("video", model.embed_video(media / name, hop=0.5)),
            ("audio", model.embed_audio(media / name, hop=0.5)),
        ):
            for space in ("va", "vt"):
                rows, vectors = found.vectors[space]
                chosen = (here & (found.modality == modality))[rows]
                assert chosen.sum() == len(windows.start) > 0
                assert vectors[chosen].tobytes() == getattr(windows, space).tobytes()
                np.testing.assert_array_equal(found.start[rows][chosen], windows.start)
    rows, vectors = found.vectors["vt"]
    said = (found.modality == "text")[rows]
    assert vectors[said].tobytes() == model.embed_text(found.text[rows][said]).tobytes()


def run_killed(tiny_run, media, out, after: int, delay: float) -> bool:
    """Starts to embed, and kills it when some files are done. Whether it was killed before it ended."""
    command = [sys.executable, "-c", SMALL_PARTS, "embed", str(tiny_run), str(media), "-o", str(out)]
    said = out.with_name("stderr.txt")  # a pipe that nobody reads would fill up, and hold the process
    with said.open("w") as stderr:
        process = subprocess.Popen([*command, "--hop", "0.2", "--batch-size", "4"], cwd=ROOT, stderr=stderr)
    partial, end = out.with_name(out.name + ".partial"), time.monotonic() + 180
    try:
        while len(list(partial.glob("*.arrow"))) < after and process.poll() is None:
            assert time.monotonic() < end, said.read_text()
            time.sleep(0.001)
        time.sleep(delay)
        killed = process.poll() is None
    finally:
        process.kill()
        process.wait(60)
    assert killed or process.returncode == 0, said.read_text()
    return killed


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_killed_at_any_moment_the_same_command_gives_the_same_bytes(tiny_run, media, tmp_path, kills):
    straight, out, rng = tmp_path / "straight.parquet", tmp_path / "killed.parquet", random.Random(kills)
    assert embed(tiny_run, media, "-o", straight, "--hop", "0.2") == 0
    partial = tmp_path / "killed.parquet.partial"
    killed = 0
    for _ in range(kills):
        done = len(list(partial.glob("*.arrow")))
        killed += run_killed(tiny_run, media, out, rng.randint(done, min(done + 3, 9)), rng.random() * 0.05)
    assert killed == kills or out.exists()
    assert killed >= 1
    kept = len(list(partial.glob("*.arrow")))
    assert kept or out.exists()
    assert embed(tiny_run, media, "-o", out, "--hop", "0.2") == 0
    assert out.read_bytes() == straight.read_bytes()
    assert errors(out) == errors(straight)
    assert not partial.exists()


def test_ctrl_c_says_that_the_same_command_goes_on(tiny_run, media, index, tmp_path, monkeypatch, capsys):
    from vatt.evals import embed as module

    real, seen = module._Work.take, []

    def interrupted(self, state, windows, batch_size):
        seen.append(state.path)
        if len(set(seen)) > 4:
            raise KeyboardInterrupt
        return real(self, state, windows, batch_size)

    options = ("--hop", "0.5", "--modalities", "video", "audio", "text", "--batch-size", "4")
    out = tmp_path / "emb.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(module._Work, "take", interrupted)
        assert embed(tiny_run, media, "-o", out, *options) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert len(list((tmp_path / "emb.parquet.partial").glob("*.arrow"))) == 1
    assert embed(tiny_run, media, "-o", out, *options) == 0
    assert re.search(r"[1-3] files before", capsys.readouterr().out)
    assert out.read_bytes() == index.read_bytes()


def begun(tiny_run, media, out, monkeypatch) -> None:
    """Work that was interrupted when every file was done."""
    from vatt.evals import embed as module

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_finish", interrupted)
        assert embed(tiny_run, media, "-o", out) == 130


def test_work_of_another_model_hop_or_modality_is_not_gone_on_with(tiny_run, demo_media, tmp_path, monkeypatch, capsys):
    clip, out = sorted((demo_media / "heldout").glob("*.mp4"))[0], tmp_path / "emb.parquet"
    begun(tiny_run, clip, out, monkeypatch)
    capsys.readouterr()
    for options, said in ((("--hop", "0.5"), "hop 1.024, not 0.5"), (("--modalities", "video"), "modalities")):
        assert embed(tiny_run, clip, "-o", out, *options) == 1
        message = capsys.readouterr().err
        assert said in message
        assert "remove that folder" in message
    settings = tmp_path / "emb.parquet.partial" / "settings.json"
    before = settings.read_text()
    settings.write_text(before.replace(pretrained.load(str(tiny_run), step="latest").hash, "0123456789abcdef"))
    assert embed(tiny_run, clip, "-o", out) == 1
    assert "model 0123456789abcdef" in capsys.readouterr().err
    settings.write_text(before)
    held = parts.Parts(tmp_path / "emb.parquet.partial", pa.schema([]), json.loads(before))
    assert embed(tiny_run, clip, "-o", out) == 1
    assert "another process" in capsys.readouterr().err
    held.__exit__()
    assert embed(tiny_run, clip, "-o", out) == 0


def test_a_file_that_changed_in_between_is_embedded_anew(tiny_run, demo_media, tmp_path, monkeypatch):
    clips = sorted((demo_media / "heldout").glob("*.mp4"))
    (tmp_path / "media").mkdir()
    for number in range(3):
        shutil.copy(clips[number], tmp_path / "media" / f"{number}.mp4")
    begun(tiny_run, tmp_path / "media", tmp_path / "emb.parquet", monkeypatch)
    shutil.copy(clips[5], tmp_path / "media" / "1.mp4")
    shutil.copy(clips[6], tmp_path / "media" / "3.mp4")
    assert embed(tiny_run, tmp_path / "media", "-o", tmp_path / "emb.parquet") == 0
    assert embed(tiny_run, tmp_path / "media", "-o", tmp_path / "again.parquet") == 0
    assert (tmp_path / "emb.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()


def test_safetensors_hold_the_same(index, media, tiny_run, tmp_path):
    out, options = tmp_path / "emb.safetensors", ("--hop", "0.5", "--modalities", "video", "audio", "text")
    assert embed(tiny_run, media, "-o", out, *options) == 0
    assert embed(tiny_run, media, "-o", tmp_path / "other", *options, "--format", "safetensors") == 0
    assert out.read_bytes() == (tmp_path / "other").read_bytes()
    found, model = read_whole(index), pretrained.load(str(tiny_run), step="latest")
    with safe_open(out, "numpy") as file:
        about = json.loads(file.metadata()["vatt"])
        assert (about["model"], about["step"], about["hop"]) == (model.hash, 2, 0.5)
        assert set(file.keys()) == {space + of for space in ("va", "vt") for of in ("", *OF_ROWS)}
        for space, (rows, vectors) in found.vectors.items():
            np.testing.assert_array_equal(file.get_tensor(space), vectors)
            np.testing.assert_array_equal(file.get_tensor(f"{space}.start"), found.start[rows])
            assert [about["paths"][i] for i in file.get_tensor(f"{space}.path")] == found.paths[rows].tolist()
            assert [about["modalities"][i] for i in file.get_tensor(f"{space}.modality")] == found.modality[
                rows
            ].tolist()
            texts = [None if i < 0 else about["texts"][i] for i in file.get_tensor(f"{space}.text")]
            assert texts == found.text[rows].tolist()


def test_manifests_and_tars_are_embedded_too(tiny_run, demo_media, media, tmp_path):
    clips = sorted((demo_media / "heldout").glob("*.mp4"))[:2]
    long = media / "films" / "long.mp4"
    lines = [f"{clips[0]},0.25,1.4,a red circle", f"{long},0,4,", f"{long},0.5,3.2,"]
    (tmp_path / "rows.csv").write_text("\n".join(["path,start,end,caption", *lines]) + "\n")
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        tar.add(clips[1], "clip.mp4")
    out = tmp_path / "emb.parquet"
    options = ("--modalities", "video", "text")
    assert embed(tiny_run, tmp_path / "some.tar", tmp_path / "rows.csv", "-o", out, *options) == 0
    found = read_whole(out)
    row = found.paths == str(clips[0])
    assert found.start[row & (found.modality == "video")].min() == 0.25
    assert found.end[row].max() < 1.41
    assert found.text[row & (found.modality == "text")].tolist() == ["a red circle"]
    starts = found.start[(found.paths == str(long)) & (found.space == "vt")]  # of rows that overlap
    np.testing.assert_allclose(starts, [0, 0.5, 1.024, 1.524, 2.048, 2.176, 2.976], atol=1e-6)
    assert set(found.paths) == {str(clips[0]), str(long), f"{tmp_path / 'some.tar'}: clip.mp4"}


def test_a_folder_is_listed_once_for_all_of_its_files_that_are_named(tmp_path, monkeypatch):
    for number in range(20):
        (tmp_path / f"{number:02d}.mp4").touch()
        (tmp_path / f"{number:02d}.txt").write_text(f"caption {number}")
    listed, real = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real(path))
    files, unusable = list_media([str(path) for path in tmp_path.glob("*.mp4")])
    assert [file.rows[0].captions[0].text for file in files] == [f"caption {number}" for number in range(20)]
    assert unusable == []
    assert listed == [str(tmp_path)]


def test_a_kill_while_it_tidies_up_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    folder, schema = tmp_path / "emb.parquet.partial", pa.schema([("a", pa.int64())])

    def killed(path, **_):
        (path / "settings.json").unlink()
        raise KeyboardInterrupt

    work = parts.Parts(folder, schema, {"hop": 1.0})
    work.add("key", pa.record_batch([[1]], schema), [])
    work.flush()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            work.remove()
    assert list(tmp_path.iterdir()) != []
    with parts.Parts(folder, schema, {"hop": 1.0}) as work:
        assert "key" not in work
        work.remove()
    assert list(tmp_path.iterdir()) == []


def test_errors_name_what_is_wrong_before_any_work(tiny_run, demo_media, tmp_path, capsys):
    clip = sorted((demo_media / "heldout").glob("*.mp4"))[0]
    text(tmp_path / "broken.mp4")
    out = tmp_path / "emb.parquet"
    for args, said in (
        ((tiny_run, tmp_path / "nope.mp4", "-o", out), "nope.mp4: no such file"),
        ((tmp_path, clip, "-o", out), "not a run folder"),
        ((tiny_run, clip, "-o", tmp_path), "is a folder"),
        ((tiny_run, clip, "-o", tmp_path / "no" / "emb.parquet"), "there is no folder"),
        ((tiny_run, clip, "-o", out, "--hop", "-1"), "hop is -1"),
        ((tiny_run, clip, "-o", out, "--batch-size", "0"), "batch size"),
        ((tiny_run, tmp_path / "broken.mp4", "-o", out), "nothing could be embedded"),
    ):
        assert embed(*args) == 1
        assert said in capsys.readouterr().err
        assert not out.exists()
    assert set(errors(out)) == {"broken.mp4"}
    with pytest.raises(SystemExit, match="2"):
        embed(tiny_run, clip, "-o", tmp_path / "emb.txt")
    assert "--format" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.mp4", "emb.parquet.errors.jsonl"]


def test_row_groups_do_not_depend_on_how_rows_come(tmp_path):
    about = About(run="/run", step=1, model="0" * 16, seconds=1.0, hop=1.0)
    times, rng = np.arange(9000.0), np.random.default_rng(0)
    rows = [
        batch(about, path, "video", "va", start=times, end=times + 1, vectors=rng.normal(size=(9000, 3)))
        for path in ("/a", "/b")
    ]
    assert write_index(tmp_path / "whole.parquet", about, rows) == 18_000
    pieces = [part.slice(first, 700) for part in rows for first in range(0, 9000, 700)]
    write_index(tmp_path / "pieces.parquet", about, pieces)
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "pieces.parquet").read_bytes()
    assert pq.ParquetFile(tmp_path / "whole.parquet").num_row_groups == 3
