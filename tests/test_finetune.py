"""Fine-tuning runs on real media: what they take from another run, stopping and going on, and what they refuse."""

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from tests.media import ROOT
from vatt.cli import main
from vatt import sharding
from vatt.config import ClassifyConfig, Config, FinetuneConfig, load_experiment
from vatt.errors import CheckpointError, DataError
from vatt.evals.run import evaluate_run
from vatt.train import loop
from vatt.train.checkpoint import read_classes_of, read_config
from vatt.train.finetune import finetune
from vatt.train.initial import start_from
from vatt.train.log import read_metrics
from vatt.train.step import make_state
from vatt.train.weights import read_weights

QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """What runs need several for is tested elsewhere, and a program for one compiles sooner."""
    real = sharding.make_mesh
    monkeypatch.setattr(sharding, "make_mesh", lambda cfg, devices=None: real(cfg, devices or jax.devices()[:1]))


@pytest.fixture
def pretrained(tiny_run):
    cfg = read_config(tiny_run)
    assert isinstance(cfg, Config)
    return cfg


@pytest.fixture
def config(tmp_path, demo_media, pretrained):
    recipe = load_experiment(ROOT / "experiments" / "finetune_demo.py")
    assert isinstance(recipe, FinetuneConfig)
    labels = tmp_path / "labels"
    labels.mkdir()
    for name in ("train", "heldout"):
        rows = [f"{demo_media / name / f'clip_{i:05d}.mp4'},{'ring' if i % 2 else 'cross'}" for i in range(12)]
        (labels / f"{name}.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    return replace(
        recipe,
        run=str(tmp_path / "run"),
        init=pretrained.run,
        steps=4,
        batch_size=8,
        model=pretrained.model,
        data=replace(recipe.data, sources=(str(labels / "train.csv"),), worker_kind="thread"),
        evaluate=replace(recipe.evaluate, source=str(labels / "heldout.csv"), batch_size=5),
        checkpoint=replace(recipe.checkpoint, every=2),
        log=replace(recipe.log, every=1, tensorboard=False),
        optim=replace(recipe.optim, warmup_steps=1),
    )


def losses(run: str) -> list[float]:
    return [line["loss"] for line in read_metrics(run) if "loss" in line]


def test_a_run_stopped_and_gone_on_with_is_one_that_was_not_and_is_evaluated_from_its_folder(
    config, tmp_path, monkeypatch
):
    straight = finetune(config, QUIET)
    assert straight is not None
    assert set(straight) == {"zero-shot", "fine-tuned"}
    assert straight["fine-tuned"].metrics["items"] == 12
    assert read_classes_of(config.run) == ("cross", "ring")
    started = read_config(config.run)
    assert isinstance(started, FinetuneConfig)
    assert started.init_step == "2"  # of the other run, which may be trained on

    class StopAt(loop.Interrupt):
        asked = property(lambda self: True, lambda self, value: None)

    other = replace(config, run=str(tmp_path / "stopped"))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Interrupt", StopAt)
        assert finetune(other, QUIET) is None
    result = finetune(replace(other, evaluate=replace(other.evaluate, batch_size=12)), QUIET)
    assert result is not None
    assert losses(other.run) == losses(config.run)
    np.testing.assert_array_equal(result["fine-tuned"].scores, straight["fine-tuned"].scores)  # nor do batches matter
    again = evaluate_run(config.run, "latest", "", QUIET)
    np.testing.assert_array_equal(again.scores, straight["fine-tuned"].scores)


def test_parameters_are_loaded_resized_or_fresh_and_said_to_be(config, pretrained):
    config = replace(config, clip=replace(config.clip, frames=4, size=96))
    mesh = loop.sharding.make_mesh(config.mesh)
    task_state = make_state(config, _task(config), mesh)
    found = read_weights(pretrained.run, "latest", mesh)
    state, origins = start_from(task_state, found, config, ("a", "b"))
    how = {origin.path: origin.how for origin in origins}
    tables = "tokenizers/video/positions/tables"
    assert {path for path, x in how.items() if x == "resized"} == {
        f"{tables}/{axis}" for axis in ("time", "height", "width")
    }
    assert {path for path, x in how.items() if x == "fresh"} == {"classifier/kernel", "classifier/bias"}
    old = found.params
    assert found.step == 2
    video = state["params"]["tokenizers"]["video"]
    was = old["tokenizers"]["video"]["positions"]["tables"]["height"]
    np.testing.assert_allclose(
        video["positions"]["tables"]["height"], jax.image.resize(was, (6, was.shape[1]), "cubic"), rtol=1e-5
    )
    np.testing.assert_array_equal(video["project"]["kernel"], old["tokenizers"]["video"]["project"]["kernel"])
    wide = replace(config.model.video.encoder, width=48, mlp_width=96, heads=3, depth=2)
    other = replace(config, model=replace(config.model, video=replace(config.model.video, encoder=wide)))
    fresh = make_state(other, _task(other), mesh)
    with pytest.raises(CheckpointError, match="none of its parameters fits"):
        start_from(fresh, found, other, ("a", "b"))


def _task(cfg):
    from vatt.tasks.classify import Classify

    return Classify(cfg, ("a", "b"))


def test_the_head_of_names_starts_at_zero_shot_and_mixtures_end_there(config):
    how = ClassifyConfig(head="text", template="a {}", wise=(0.0, 1.0))
    measured = finetune(replace(config, classify=how), QUIET)
    assert measured is not None
    np.testing.assert_array_equal(measured["0 of fine-tuned"].scores, measured["zero-shot"].scores)
    np.testing.assert_array_equal(measured["1 of fine-tuned"].scores, measured["fine-tuned"].scores)
    assert not np.array_equal(measured["fine-tuned"].scores, measured["zero-shot"].scores)


def test_labels_that_do_not_serve_are_refused_by_name(config, tmp_path):
    rows = (tmp_path / "labels" / "heldout.csv").read_text()
    (tmp_path / "labels" / "new.csv").write_text(rows.replace("ring", "star", 1))
    unseen = replace(config, evaluate=replace(config.evaluate, source=str(tmp_path / "labels" / "new.csv")))
    with pytest.raises(DataError, match=r"1 of its labels are no class of the 2 trained on:\n  'star', 1 clips"):
        finetune(unseen, QUIET)
    (tmp_path / "labels" / "one.csv").write_text(rows.replace("ring", "cross"))
    with pytest.raises(DataError, match="only 'cross'"):
        finetune(replace(config, data=replace(config.data, sources=(str(tmp_path / "labels" / "one.csv"),))), QUIET)
    assert not Path(config.run).exists()
    none = tmp_path / "none"
    with pytest.raises(CheckpointError, match="not a run folder"):
        finetune(replace(config, init=str(none)), QUIET)


def test_clips_without_a_label_are_left_out_and_told(config, tmp_path):
    path = tmp_path / "labels" / "train.csv"
    path.write_text(path.read_text().replace(",ring", ",", 1))
    said = Console(record=True, width=200)
    finetune(replace(config, steps=1, evaluate=replace(config.evaluate, source="")), said)
    assert "2 classes, 11 clips to train on" in said.export_text()


def test_a_folder_that_holds_a_folder_for_each_class_names_its_classes(config, tmp_path, demo_media):
    for number, clip in enumerate(sorted((demo_media / "train").glob("*.mp4"))[:12]):
        place = tmp_path / "media" / ("ring" if number % 2 else "cross") / "deeper" / clip.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, place)
    said, media = Console(record=True, width=400), str(tmp_path / "media")
    data, evaluate = replace(config.data, sources=(media,)), replace(config.evaluate, source=media)
    found = finetune(replace(config, init="", steps=1, data=data, evaluate=evaluate), said)
    assert found is not None
    assert found["fine-tuned"].metrics["items"] == 12
    assert read_classes_of(config.run) == ("cross", "ring")
    assert said.export_text(clear=False).count("labels are the names of the folders that clips lie in") == 2
    assert "2 classes, 12 clips to train on" in said.export_text()


def test_an_experiment_of_another_kind_is_refused(capsys):
    assert main(["finetune", str(ROOT / "experiments" / "demo.py")]) == 1
    assert "vatt finetune takes a FinetuneConfig" in capsys.readouterr().err
    assert main(["pretrain", str(ROOT / "experiments" / "finetune_demo.py")]) == 1
    assert "vatt pretrain takes a Config" in capsys.readouterr().err
