"""Whole runs on real media files: they learn, resume bit for bit, and lose nothing when something goes wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from tests.media import small_demo
from vatt.config import Config, MeshConfig
from vatt.data.crops import centre
from vatt.data.items import Item
from vatt.data.media.canvas import to_rgb
from vatt.data.media.clip import decode_clip, probe
from vatt.data.text import Vocabulary, load_word2vec
from vatt.errors import CheckpointError, ConfigError, DataError, NonFiniteError
from vatt.evals.run import evaluate_run
from vatt.jsonl import read_lines
from vatt.tasks.pretrain import Pretrain
from vatt.train import loop
from vatt.train import pretrain as pretraining
from vatt.train.checkpoint import Checkpoints
from vatt.train.log import read_metrics
from vatt.train.replay import as_seen, replay
from vatt.train.step import weights

QUIET = Console(quiet=True)


def run(cfg: Config):
    return pretraining.pretrain(cfg, QUIET)


def run_until(cfg: Config, step: int) -> None:
    """Ctrl-C, as the user would press it while the run is about to end `step`."""

    class StopAt(loop.Interrupt):
        @property
        def asked(self) -> bool:
            return len(history(cfg)) >= step - 1

        @asked.setter
        def asked(self, _) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Interrupt", StopAt)
        assert run(cfg) is None


def history(cfg: Config) -> dict[int, dict]:
    """What each step logged, without how long it took."""
    timed = ("clips_per_second", "input_wait")
    lines = [line for line in read_metrics(cfg.run) if "loss" in line]
    return {line["step"]: {k: v for k, v in line.items() if k not in timed} for line in lines}


@pytest.fixture(scope="module")
def straight(demo_media, tmp_path_factory):
    """An uninterrupted run, and what it returned."""
    cfg = small_demo(demo_media, tmp_path_factory.mktemp("straight") / "run")
    return cfg, run(cfg)


def copy_of(straight, tmp_path: Path) -> Config:
    shutil.copytree(straight[0].run, tmp_path / "run")
    return replace(straight[0], run=str(tmp_path / "run"))


def test_a_run_leaves_everything_that_evaluation_needs(straight):
    cfg, result = straight
    folder = Path(cfg.run)
    assert {p.name for p in folder.iterdir()} >= {
        "config.json",
        "vocabulary.txt",
        "versions.json",
        "metrics.jsonl",
        "checkpoints",
    }
    assert json.loads((folder / "versions.json").read_text())["jax"] == jax.__version__
    assert list(history(cfg)) == [1, 2, 3, 4, 5, 6]
    again = evaluate_run(cfg.run, "latest", "", QUIET)
    assert again.metrics == result.metrics
    assert {line["step"] for line in read_metrics(cfg.run) if "retrieval/text_to_video/R@1" in line} == {6}


@pytest.mark.parametrize("stop", [3, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 2, 5))])
def test_stopping_anywhere_and_going_on_gives_the_same_losses_bit_for_bit(straight, tmp_path, stop):
    cfg = replace(straight[0], run=str(tmp_path / "run"))
    run_until(cfg, stop)
    assert 0 < max(history(cfg)) < 6
    assert (Path(cfg.run) / "checkpoints" / str(max(history(cfg)))).is_dir()
    result = run(cfg)
    assert history(cfg) == history(straight[0])
    assert result.metrics == straight[1].metrics


def test_a_crash_between_checkpoints_goes_on_from_the_last_one(straight, tmp_path, monkeypatch):
    cfg = replace(straight[0], run=str(tmp_path / "run"))
    real, calls = loop.sharding.put_batch, []

    def crash(batch, mesh):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("the power is gone")
        return real(batch, mesh)

    with monkeypatch.context() as patch:
        patch.setattr(loop.sharding, "put_batch", crash)
        with pytest.raises(RuntimeError):
            run(cfg)
    (Path(cfg.run) / "metrics.jsonl").open("a").write('{"step": 3, "lo')  # a line cut short
    run(cfg)
    assert history(cfg) == history(straight[0])


def test_a_finished_run_is_measured_again_and_not_trained_further(straight, tmp_path):
    cfg = copy_of(straight, tmp_path)
    before = (Path(cfg.run) / "metrics.jsonl").read_text()
    assert run(cfg).metrics == straight[1].metrics
    assert (Path(cfg.run) / "metrics.jsonl").read_text() == before


def test_another_configuration_in_the_same_folder_is_refused_by_field(straight, tmp_path):
    cfg = copy_of(straight, tmp_path)
    before = (Path(cfg.run) / "config.json").read_text()
    with pytest.raises(CheckpointError, match=r"batch_size 16 -> 8.*--run"):
        run(replace(cfg, batch_size=8))
    assert (Path(cfg.run) / "config.json").read_text() == before


def test_clips_or_captions_that_changed_since_are_refused(straight, tmp_path, demo_media):
    folder = tmp_path / "media"
    shutil.copytree(demo_media / "train", folder)
    cfg = replace(straight[0], run=str(tmp_path / "run"), data=replace(straight[0].data, sources=(str(folder),)))
    run_until(cfg, 2)
    captions = next(path for path in sorted(folder.glob("*.srt")) if path.read_text())
    before = captions.read_text()
    captions.write_text(before.replace("a ", "one ", 1))
    with pytest.raises(CheckpointError, match=r"media: its clips or captions have changed .*\(40 clips then, 40 now\)"):
        run(cfg)
    captions.write_text(before)
    run_until(cfg, 4)


def test_sources_mean_the_same_from_another_folder(straight, tmp_path, demo_media, monkeypatch):
    cfg = replace(straight[0], run=str(tmp_path / "run"), steps=2)
    cfg = replace(cfg, data=replace(cfg.data, sources=("train",)), evaluate=replace(cfg.evaluate, source="heldout"))
    monkeypatch.chdir(demo_media)
    result = run(cfg)
    monkeypatch.chdir(tmp_path)
    assert evaluate_run(cfg.run, "latest", "", QUIET).metrics == result.metrics
    assert not (tmp_path / "heldout").exists()


def test_a_checkpoint_of_another_model_is_refused_and_left_alone(straight, tmp_path):
    cfg = copy_of(straight, tmp_path)
    path = Path(cfg.run) / "config.json"
    path.write_text(path.read_text().replace('"va_width": 128', '"va_width": 64'))
    with pytest.raises(CheckpointError, match="another model"):
        evaluate_run(cfg.run, "latest", "", QUIET)
    path.write_text((Path(straight[0].run) / "config.json").read_text())
    assert evaluate_run(cfg.run, "latest", "", QUIET).metrics == straight[1].metrics


def test_a_half_written_checkpoint_is_passed_over_and_a_damaged_one_named(straight, tmp_path):
    cfg = copy_of(straight, tmp_path)
    checkpoints = Path(cfg.run) / "checkpoints"
    shutil.copytree(checkpoints / "6", checkpoints / "8.orbax-checkpoint-tmp-1")  # what a crash while writing leaves
    assert evaluate_run(cfg.run, "latest", "", QUIET).metrics == straight[1].metrics
    for path in sorted((checkpoints / "6").rglob("*"), reverse=True):
        if path.is_file() and path.stat().st_size > 1_000:
            path.unlink()
    with pytest.raises(
        CheckpointError, match=r"checkpoints/6: cannot be restored.*earlier step \(there are \[2, 4, 6\]"
    ):
        run(cfg)
    shutil.rmtree(checkpoints / "6")
    run(cfg)
    assert history(cfg) == history(straight[0])


def test_a_loss_that_is_not_finite_stops_the_run_names_step_and_clips_and_is_not_saved(straight, tmp_path):
    cfg = replace(
        straight[0],
        run=str(tmp_path / "run"),
        optim=replace(straight[0].optim, learning_rate=1e30, end_learning_rate=1e30, clip_norm=0.0),
    )
    with pytest.raises(NonFiniteError, match=r"step [2-6]: .*loss.*clip_000\d\d.mp4"):
        run(cfg)
    with Checkpoints(cfg.run, cfg.checkpoint) as checkpoints:
        for step in checkpoints.steps:
            state = checkpoints.load(step, loop.abstract_state(cfg, Pretrain(cfg), loop.sharding.make_mesh(cfg.mesh)))
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state["params"]))


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint_as_it_was(straight, tmp_path, monkeypatch):
    cfg = replace(straight[0], run=str(tmp_path / "run"))
    real, calls = loop.sharding.put_batch, []

    def poison(batch, mesh):
        calls.append(1)
        poisoned = {"audio": np.full(batch["audio"].shape, np.nan, np.float32)}
        return real(batch | (poisoned if len(calls) == 5 else {}), mesh)

    with monkeypatch.context() as patch:
        patch.setattr(loop.sharding, "put_batch", poison)
        with pytest.raises(NonFiniteError, match=r"step 5: .*loss nan"):
            run(cfg)
    run(cfg)  # from step 4, without the poison
    assert history(cfg) == history(straight[0])


def test_the_latest_checkpoints_and_the_best_are_kept(straight, tmp_path):
    cfg = straight[0]
    task, mesh = Pretrain(cfg), loop.sharding.make_mesh(cfg.mesh)
    state = loop.make_state(cfg, task, mesh)
    with Checkpoints(tmp_path, replace(cfg.checkpoint, keep=2)) as checkpoints:
        for step, score in enumerate([10.0, 50.0, 20.0, 30.0, 15.0]):
            checkpoints.save(step, state, {"text_to_video/R@10": score})
        checkpoints.save(5, state)
    with Checkpoints(tmp_path, replace(cfg.checkpoint, keep=2)) as checkpoints:
        assert list(checkpoints.steps) == [1, 4, 5]
        assert checkpoints.best_step() == 1


def test_one_process_at_a_time_writes_a_run_and_any_number_read_it(straight, tmp_path):
    cfg = copy_of(straight, tmp_path)
    with Checkpoints(cfg.run, cfg.checkpoint):
        with pytest.raises(CheckpointError, match="another vatt is training there"):
            Checkpoints(cfg.run, cfg.checkpoint)
        with Checkpoints(cfg.run, cfg.checkpoint, access="read") as reader:
            assert list(reader.steps) == [2, 4, 6]
    Checkpoints(cfg.run, cfg.checkpoint).close()  # the lock went with its holder


def test_what_is_saved_is_the_state_at_the_save_and_not_after(straight, tmp_path):
    """Steps donate the buffers that the writer reads."""
    cfg = straight[0]
    task, mesh = Pretrain(cfg), loop.sharding.make_mesh(cfg.mesh)
    state, bump = (
        loop.make_state(cfg, task, mesh),
        jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0),
    )
    expected = jax.device_get(jax.tree.map(lambda x: x + 0, state))
    with Checkpoints(tmp_path, cfg.checkpoint) as checkpoints:
        checkpoints.save(1, state)
        for _ in range(20):
            state = bump(state)
        checkpoints.wait()
        saved = checkpoints.load(1, loop.abstract_state(cfg, task, mesh))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(saved), expected)


def test_a_checkpoint_moves_to_another_mesh(straight, tmp_path, monkeypatch):
    cfg = replace(straight[0], run=str(tmp_path / "run"))
    run_until(cfg, 4)
    monkeypatch.setattr(loop.sharding, "SHARD_FROM", 256)
    run(replace(cfg, mesh=MeshConfig(fsdp=4)))
    assert list(history(cfg)) == [1, 2, 3, 4, 5, 6]
    for step in (5, 6):
        assert history(cfg)[step] == pytest.approx(history(straight[0])[step], rel=1e-4)


def test_word2vec_fills_the_table(straight, tmp_path):
    cfg = straight[0]
    vocabulary = Vocabulary.load(Path(cfg.run) / "vocabulary.txt")
    word = vocabulary.words[5]
    path = tmp_path / "vectors.txt"
    path.write_text(f"1 64\n{word} {' '.join(['0.25'] * 64)}\n")
    cfg = replace(cfg, optim=replace(cfg.optim, ema=0.9))
    vectors, found = load_word2vec(path, vocabulary, cfg.model.text.embed_width)
    assert found == 1
    task, mesh = Pretrain(cfg), loop.sharding.make_mesh(cfg.mesh)
    state = pretraining.with_word_vectors(loop.make_state(cfg, task, mesh), vectors)
    for params in (state["params"], weights(state)):  # trained, and averaged
        table = np.asarray(params["tokenizers"]["text"]["table"])
        np.testing.assert_array_equal(table[5], np.full(64, 0.25, np.float32))
        assert not np.isclose(table[6], 0.25).any()


def with_source(cfg: Config, *folders: Path, **data) -> Config:
    return replace(cfg, data=replace(cfg.data, sources=tuple(map(str, folders)), **data))


def test_bad_media_stop_the_run_before_the_first_step_unless_they_are_few(straight, tmp_path, demo_media):
    cfg = replace(straight[0], run=str(tmp_path / "run"), steps=2)
    with pytest.raises(DataError, match="nowhere"):
        run(with_source(cfg, tmp_path / "nowhere"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="empty"):
        run(with_source(cfg, empty))
    broken = tmp_path / "broken"
    shutil.copytree(demo_media / "train", broken)
    (broken / "cut.mp4").write_bytes((broken / "clip_00000.mp4").read_bytes()[:2_000])
    (broken / "text.mp4").write_text("no media at all")
    with pytest.raises(DataError, match=r"2 of 42 files cannot be used(.|\n)*data.max_bad(.|\n)*cut\.mp4") as caught:
        run(with_source(cfg, broken))
    assert "text.mp4" in str(caught.value)
    assert not Path(cfg.run).exists()
    run(with_source(cfg, broken, max_bad=0.05))
    lines = read_lines(Path(cfg.run) / "ledger.jsonl")
    assert {line["id"]: line["step"] for line in lines if line.get("reason") in ("unreadable", "truncated")} == {
        "cut.mp4": 0,
        "text.mp4": 0,
    }


@pytest.fixture
def fragile(straight, tmp_path, demo_media, monkeypatch):
    """A run whose source loses a file once it has been opened."""
    folder = tmp_path / "media"
    shutil.copytree(demo_media / "train", folder)
    real = pretraining.open_tokenizer

    def sabotage(*args):
        (folder / "clip_00007.mp4").write_bytes(b"gone")
        return real(*args)

    monkeypatch.setattr(pretraining, "open_tokenizer", sabotage)
    return with_source(replace(straight[0], run=str(tmp_path / "run")), folder)


def test_a_file_that_breaks_during_the_run_stops_it_saved_and_is_named(fragile):
    with pytest.raises(DataError, match=r"clips .* could not be decoded, more than data.max_bad(.|\n)*clip_00007\.mp4"):
        run(fragile)
    with Checkpoints(fragile.run, fragile.checkpoint, access="read") as checkpoints:
        assert max(checkpoints.steps) in (3, 4)  # judged once each of the 40 clips may have been drawn


def test_a_file_that_breaks_is_replaced_and_counted_where_that_is_allowed(fragile):
    cfg = replace(fragile, data=replace(fragile.data, max_bad=0.5))
    run(cfg)
    *_, totals = (line for line in read_lines(Path(cfg.run) / "ledger.jsonl") if "counts" in line)
    (counts,) = totals["counts"].values()
    assert sum(totals["drawn"].values()) == 6 * cfg.batch_size
    assert counts["undecodable"] >= 1
    assert history(cfg)[6]["data/undecodable"] == counts["undecodable"]


def test_what_was_trained_is_saved_when_the_media_go_away(straight, tmp_path, demo_media, monkeypatch):
    folder = tmp_path / "media"
    shutil.copytree(demo_media / "train", folder)
    cfg = with_source(replace(straight[0], run=str(tmp_path / "run"), steps=40), folder)
    cfg = replace(cfg, checkpoint=replace(cfg.checkpoint, every=100))
    real = loop.Reporter.push

    def unmount(self, step, *rest):
        if step == 2:
            folder.rename(tmp_path / "gone")
        real(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Reporter, "push", unmount)
        with pytest.raises(DataError, match=r"clips in a row cannot be decoded.*Is the disk there"):
            run(cfg)
    with Checkpoints(cfg.run, cfg.checkpoint, access="read") as checkpoints:
        (saved,) = checkpoints.steps
    assert saved >= 2
    (tmp_path / "gone").rename(folder)
    run_until(cfg, saved + 1)
    assert list(history(cfg)) == list(range(1, saved + 2))


def test_a_step_can_be_replayed(straight, tmp_path, monkeypatch):
    cfg = straight[0]
    seen = []
    real = loop.sharding.put_batch
    with monkeypatch.context() as patch:
        patch.setattr(loop.sharding, "put_batch", lambda batch, mesh: seen.append(batch) or real(batch, mesh))
        run(replace(cfg, run=str(tmp_path / "run"), steps=2, evaluate=replace(cfg.evaluate, source="")))
    folder = replay(tmp_path / "run", 2, QUIET, rows=3)
    lines = read_lines(folder / "clips.jsonl")
    assert len(lines) == 3
    for row, line in enumerate(lines):
        info = probe(str(folder / line["file"]))
        assert (info.width, info.height) == (cfg.clip.size, cfg.clip.size)
        assert info.has_audio == bool(seen[1]["audio_mask"][row])
        rgb, audio = as_seen(cfg, seen[1], row, 2)
        item = Item(id="", media=str(folder / line["file"]), end=info.end, has_audio=info.has_audio)
        clip = replace(cfg.clip, samples=4_000)
        again = decode_clip(item, 0.0, clip, crop=centre, canvas=clip.size)
        picture = to_rgb(again["video"], again["video_box"], again["video_colour"], clip.size)
        assert np.abs(picture.astype(int) - rgb).mean() < 8  # but for the codec, what the step was given
        if audio is not None:
            assert np.corrcoef(again["audio"], audio[:4_000])[0, 1] > 0.9
    assert (folder / "sheet.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(CheckpointError, match="has steps 1 to 2; there is no step 3"):
        replay(tmp_path / "run", 3, QUIET, rows=3)


def test_the_ledger_of_a_run_that_stopped_and_went_on_is_that_of_one_that_did_not(straight, tmp_path):
    cfg = replace(straight[0], run=str(tmp_path / "run"))
    run_until(cfg, 3)
    run(cfg)
    ledgers = [read_lines(Path(name) / "ledger.jsonl") for name in (cfg.run, straight[0].run)]
    assert ledgers[0] == ledgers[1]
    assert any(line.get("reason") == "no_captions" for line in ledgers[0])


def test_a_folder_that_cannot_be_written_is_refused(straight, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot be written.*--run"):
        run(replace(straight[0], run=str(tmp_path / "file" / "run")))


def test_a_batch_that_the_devices_do_not_divide_is_refused_before_anything_is_made(straight, tmp_path):
    cfg = replace(straight[0], run=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="batch_size 30 does not divide over 8 devices; use 24 or 32"):
        run(replace(cfg, batch_size=30))
    assert not Path(cfg.run).exists()
