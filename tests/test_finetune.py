"""Fine-tuning runs on real media: what they take from another run, stopping and going on, and what they refuse."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from tests.media import ROOT
from vatt import sharding
from vatt.cli import config_from, main
from vatt.config import ClassifyConfig, Config, FinetuneConfig, load_experiment
from vatt.data.media.clip import probe
from vatt.errors import CheckpointError, DataError
from vatt.evals.classification import Classification
from vatt.evals.pretrained import ready
from vatt.evals.run import evaluate_run
from vatt.evals.zeroshot import softmax
from vatt.jsonl import read_lines
from vatt.presets import ma_medium, mbs
from vatt.tasks.pretrain import Pretrain
from vatt.train import finetune as module
from vatt.train import loop
from vatt.train.checkpoint import read_classes_of, read_config, read_names_of
from vatt.train.finetune import finetune, measure_on, name_classes
from vatt.train.initial import model_options, start_from, table
from vatt.train.log import read_metrics
from vatt.train.replay import replay
from vatt.train.step import make_state
from vatt.train.weights import Weights, read_weights, task_of

QUIET = Console(quiet=True)


@pytest.fixture(autouse=True, scope="module")
def one_device():
    """What runs need several for is tested elsewhere, and a program for one compiles sooner."""
    real = sharding.make_mesh
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "make_mesh", lambda cfg, devices=None: real(cfg, devices or jax.devices()[:1]))
        yield


@pytest.fixture
def pretrained(tiny_run):
    cfg = read_config(tiny_run)
    assert isinstance(cfg, Config)
    return cfg


def small(folder: Path, media: Path, init: str) -> FinetuneConfig:
    """A run of a few steps, on clips called ring and cross by turns."""
    recipe = load_experiment(ROOT / "experiments" / "finetune_demo.py")
    assert isinstance(recipe, FinetuneConfig)
    labels = folder / "labels"
    labels.mkdir()
    for name in ("train", "heldout"):
        rows = [f"{media / name / f'clip_{i:05d}.mp4'},{'ring' if i % 2 else 'cross'}" for i in range(12)]
        (labels / f"{name}.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    return replace(
        recipe,
        run=str(folder / "run"),
        init=init,
        steps=4,
        batch_size=8,
        model=read_config(init).model,
        data=replace(recipe.data, sources=(str(labels / "train.csv"),), worker_kind="thread"),
        evaluate=replace(recipe.evaluate, source=str(labels / "heldout.csv"), batch_size=5),
        checkpoint=replace(recipe.checkpoint, every=2),
        log=replace(recipe.log, every=1, tensorboard=False),
        optim=replace(recipe.optim, warmup_steps=1),
    )


@pytest.fixture
def config(tmp_path, demo_media, tiny_run):
    return small(tmp_path, demo_media, tiny_run)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, demo_media, tiny_run):
    """A run from scratch, and what was measured at its end."""
    cfg = replace(small(tmp_path_factory.mktemp("straight"), demo_media, tiny_run), init="")
    measured = finetune(cfg, QUIET)
    assert measured is not None
    assert set(measured) == {"fine-tuned"}
    return cfg, measured["fine-tuned"]


def losses(run: str) -> list[float]:
    return [line["loss"] for line in read_metrics(run) if "loss" in line]


def test_a_run_stopped_and_gone_on_with_is_one_that_was_not(straight, tmp_path, monkeypatch):
    config, found = straight

    class StopAt(loop.Interrupt):
        asked = property(lambda self: True, lambda self, value: None)

    other = replace(config, run=str(tmp_path / "stopped"))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Interrupt", StopAt)
        assert finetune(other, QUIET) is None
    result = finetune(replace(other, evaluate=replace(other.evaluate, batch_size=12)), QUIET)
    assert result is not None
    assert losses(other.run) == losses(config.run)
    np.testing.assert_array_equal(result["fine-tuned"].scores, found.scores)  # nor do batches matter


def test_a_run_is_evaluated_from_its_folder(straight):
    config, found = straight
    assert read_classes_of(config.run) == ("cross", "ring")
    assert found.metrics["items"] == 12
    np.testing.assert_array_equal(evaluate_run(config.run, "latest", "", QUIET).scores, found.scores)


def test_files_and_folders_are_classified_by_a_runs_own_classes(straight, tmp_path, demo_media, capsys):
    config, found = straight
    (tmp_path / "media").mkdir()
    for name in ("clip_00000.mp4", "clip_00003.mp4"):
        shutil.copy(demo_media / "heldout" / name, tmp_path / "media")
    (tmp_path / "broken.mp4").write_text("no media")
    assert main(["classify", config.run, str(tmp_path / "broken.mp4"), str(tmp_path / "media"), "--json"]) == 1
    broken, *named = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert broken["path"] == str(tmp_path / "broken.mp4")
    assert [line["path"] for line in named] == [str(path) for path in sorted((tmp_path / "media").iterdir())]
    for line, row in zip(named, (0, 3), strict=True):
        expected = dict(zip(("cross", "ring"), softmax(found.scores[row]), strict=True))
        assert line["labels"] == pytest.approx(expected, rel=1e-6)
        assert line["windows"] == config.evaluate.windows


def test_a_step_can_be_replayed_and_curves_be_plotted_without_measuring(straight, monkeypatch):
    config, _ = straight
    folder = replay(config.run, 2, QUIET, rows=2)
    for line in read_lines(folder / "clips.jsonl"):
        assert line["captions"] == ["ring" if int(line["id"].split(".")[0][-1]) % 2 else "cross"]
        assert probe(str(folder / line["file"])).width == config.clip.size
    monkeypatch.setattr("vatt.evals.run.evaluate_run", None)
    assert main(["plot", config.run]) == 0


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
    with pytest.raises(
        CheckpointError, match=r"its parameters do not fit encoders/video.*--model.video.encoder.depth 1"
    ):
        start_from(fresh, found, other, ("a", "b"))
    # Of a model of another width, what is as wide as before fits; nothing is gained by it.
    wide = replace(config.model.video.encoder, width=48, heads=3)
    other = replace(config, model=replace(config.model, video=replace(config.model.video, encoder=wide)))
    fresh = make_state(other, _task(other), mesh)
    with pytest.raises(CheckpointError, match=r"its parameters do not fit encoders/video.*--model.video.encoder.width"):
        start_from(fresh, found, other, ("a", "b"))
    printed = Console(record=True, width=300)
    printed.print(table(origins, "runs/x"))
    assert re.search(r"not used of runs/x: .* of encoders/audio, .* of encoders/text", printed.export_text())


def _task(cfg):
    from vatt.tasks.classify import Classify

    return Classify(cfg, ("a", "b"))


def test_the_options_that_an_error_names_give_a_run_the_others_model():
    experiment = str(ROOT / "experiments" / "finetune_kinetics.py")
    cfg = load_experiment(experiment)
    assert isinstance(cfg, FinetuneConfig)
    other = Config(model=ma_medium())
    options = model_options(Weights(Pretrain(other), 0, {}, {}), cfg)
    mended = config_from("finetune", FinetuneConfig, [experiment, *options.split()], "", "").model
    assert mended == replace(other.model, video=replace(other.model.video, keep=1.0))
    assert model_options(Weights(Pretrain(Config(model=mbs())), 0, {}, {}), cfg) == ""


def test_the_head_of_names_starts_at_zero_shot_and_mixtures_of_merged_weights_end_there(config, tmp_path, monkeypatch):
    for path in (tmp_path / "labels").glob("*.csv"):  # their names are in a file of classes, as UCF101's must be
        path.write_text(path.read_text().replace(",ring", ",n02").replace(",cross", ",n01"))
    (tmp_path / "classes.txt").write_text("n01\tred cross\nn02\tblue ring\n")
    seen = []

    def noting(task, *rest):
        measure = measure_on(task, *rest)
        return lambda state: seen.append(task.merged(state["params"])) or measure(state)

    monkeypatch.setattr(module, "measure_on", noting)
    classes = str(tmp_path / "classes.txt")
    how = ClassifyConfig(head="text", template="a {}", wise=(0.0, 0.5, 1.0), lora_rank=2, classes=classes)
    measured = finetune(replace(config, classify=how), QUIET)
    assert measured is not None
    assert list(measured) == ["zero-shot", "fine-tuned", "0 of fine-tuned", "0.5 of fine-tuned", "1 of fine-tuned"]
    scores = {name: found.scores for name, found in measured.items()}
    np.testing.assert_array_equal(scores["0 of fine-tuned"], scores["zero-shot"])
    np.testing.assert_allclose(scores["1 of fine-tuned"], scores["fine-tuned"], rtol=1e-4, atol=1e-4)
    assert not np.allclose(scores["fine-tuned"], scores["zero-shot"], rtol=1e-4, atol=1e-4)
    after, before, *mixed = seen
    middle = jax.tree.map(lambda x, y: 0.5 * (x + y), before, after)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), mixed[1], middle)
    kernels = [at["encoders"]["video"]["blocks"]["up"]["kernel"] for at in (before, after)]
    assert not np.allclose(*kernels)
    assert read_names_of(config.run) == {"n01": "red cross", "n02": "blue ring"}
    started = read_config(config.run)
    assert isinstance(started, FinetuneConfig)
    assert started.init_step == "2"  # of the other run, which may be trained on


def test_a_name_that_the_run_does_not_know_is_refused_with_the_remedy(config):
    mesh = sharding.make_mesh(config.mesh)
    model = ready(config.init, Weights(task_of(config.init), 2, {}, {}), mesh)
    with pytest.raises(DataError, match=r"class 'n01440764': .*holds no word that the model knows.*--classify.classes"):
        name_classes({}, model, config, {"ring": "blue ring", "n01440764": "n01440764"})


def only_measured(monkeypatch, before_that=lambda: None):
    """Of fine-tuning, what surrounds the training."""
    found = Classification({"top_1": 50.0}, np.zeros((1, 2)), np.zeros((1, 2)), ["a"])

    def train(job, console):
        before_that()
        return {}, found

    monkeypatch.setattr(module, "train", train)
    return found


def test_what_was_measured_stands_though_the_other_run_has_gone(config, tmp_path, monkeypatch):
    shutil.copytree(config.init, tmp_path / "init")
    found = only_measured(monkeypatch, lambda: shutil.rmtree(tmp_path / "init"))
    said = Console(record=True, width=300)
    assert finetune(replace(config, init=str(tmp_path / "init")), said) == {"fine-tuned": found}
    assert re.search(r"What the run started from is not measured: .*init: not a run folder", said.export_text())


def test_what_was_measured_stands_though_ctrl_c_ends_the_rest(config, monkeypatch):
    found = only_measured(monkeypatch)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "compared", stopped)
    said = Console(record=True, width=300)
    assert finetune(config, said) == {"fine-tuned": found}
    assert "Measuring was stopped. The same command measures again." in said.export_text()


def test_labels_that_do_not_serve_are_refused_by_name(config, tmp_path):
    rows = (tmp_path / "labels" / "heldout.csv").read_text()
    (tmp_path / "labels" / "new.csv").write_text(rows.replace("ring", "star", 1))
    unseen = replace(config, evaluate=replace(config.evaluate, source=str(tmp_path / "labels" / "new.csv")))
    with pytest.raises(DataError, match=r"no class of the 2 trained on:\n  'star', 1 clips"):
        finetune(unseen, QUIET)
    (tmp_path / "labels" / "one.csv").write_text(rows.replace("ring", "cross"))
    with pytest.raises(DataError, match="only 'cross'"):
        finetune(replace(config, data=replace(config.data, sources=(str(tmp_path / "labels" / "one.csv"),))), QUIET)
    assert not Path(config.run).exists()
    none = tmp_path / "none"
    with pytest.raises(CheckpointError, match="not a run folder"):
        finetune(replace(config, init=str(none)), QUIET)


def test_clips_without_a_label_are_left_out_and_told(config, tmp_path, monkeypatch):
    path = tmp_path / "labels" / "train.csv"
    path.write_text(path.read_text().replace(",ring", ",", 1))
    only_measured(monkeypatch)
    said = Console(record=True, width=400)
    finetune(replace(config, evaluate=replace(config.evaluate, source="")), said)
    assert "2 classes, 11 clips to train on" in said.export_text(clear=False)
    assert re.search(r"train.csv: of 12 clips 1 are left out. 1 x no label:\n  \S*clip_00001.mp4", said.export_text())


def test_a_folder_that_holds_a_folder_for_each_class_names_its_classes(config, tmp_path, demo_media, monkeypatch):
    for number, clip in enumerate(sorted((demo_media / "train").glob("*.mp4"))[:12]):
        place = tmp_path / "media" / ("ring" if number % 2 else "cross") / "deeper" / clip.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, place)
    only_measured(monkeypatch)
    said, media = Console(record=True, width=400), str(tmp_path / "media")
    data, evaluate = replace(config.data, sources=(media,)), replace(config.evaluate, source=media)
    finetune(replace(config, init="", data=data, evaluate=evaluate), said)
    assert read_classes_of(config.run) == ("cross", "ring")
    assert said.export_text(clear=False).count("labels are the names of the folders that clips lie in") == 2
    assert "2 classes, 12 clips to train on" in said.export_text()


def test_labels_belong_to_pretraining_runs_which_need_them(straight, tiny_run, capsys):
    assert main(["classify", straight[0].run, "a.mp4", "--labels", "dog,siren"]) == 1
    assert "is a fine-tuned classifier, with classes and modalities of its own" in capsys.readouterr().err
    assert main(["classify", tiny_run, "a.mp4"]) == 1
    assert 'say which labels to tell apart: --labels "dog,siren"' in capsys.readouterr().err


def test_an_experiment_of_another_kind_is_refused(capsys):
    assert main(["finetune", str(ROOT / "experiments" / "demo.py")]) == 1
    assert "vatt finetune takes a FinetuneConfig" in capsys.readouterr().err
    assert main(["pretrain", str(ROOT / "experiments" / "finetune_demo.py")]) == 1
    assert "vatt pretrain takes a Config" in capsys.readouterr().err
