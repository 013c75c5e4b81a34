"""Probes on tiny copies of the published sets, laid out as released; their classifiers; features; kNN."""

import json
import wave
from dataclasses import replace
from pathlib import Path

import av
import jax
import numpy as np
import pytest
from rich.console import Console
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from tests.media import small_demo
from tests.releases import write_copy
from vatt import sharding
from vatt.cli import main
from vatt.config import AugmentConfig, MeshConfig
from vatt.data.sources import open_source
from vatt.data.text import Vocabulary
from vatt.errors import ConfigError, DataError, MediaError
from vatt.evals.pretrained import load
from vatt.evals.probe import PROBES, fresh, probe_source, published, recipe, run_folds, split_of
from vatt.evals.probe.classifiers import best_c, fit, linear, low_rank
from vatt.evals.probe.features import Passes, Windows, features
from vatt.tasks.pretrain import Pretrain
from vatt.train.checkpoint import Checkpoints, open_run, tokenizer_text
from vatt.train.step import make_state

QUIET = Console(quiet=True)
COLOURS = {"red": (200, 20, 20), "blue": (20, 20, 200), "grey": (120, 120, 120)}
PITCHES = {"dog": 300, "siren": 1500, "rain": 3000}


def draw(path, colour, *, seed, seconds=1.5):
    """A noisy film of one colour, as AVI of MPEG-4."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", 8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(round(seconds * 8)):
            picture = np.clip(np.array(COLOURS[colour]) + rng.integers(-20, 20, (48, 64, 3)), 0, 255)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), "rgb24")))
        container.mux(stream.encode(None))


def play(path, pitch, *, seed, seconds=2.0):
    """A noisy tone."""
    rng, t = np.random.default_rng(seed), np.arange(round(8000 * seconds)) / 8000
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        tone = 9000 * np.sin(2 * np.pi * PITCHES[pitch] * t) + rng.normal(0, 500, len(t))
        file.writeframes(tone.astype("<i2").tobytes())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of a tiny model: as it is initialised, and at step 3 with weights a little larger."""
    folder = tmp_path_factory.mktemp("probe")
    cfg = small_demo(folder, folder / "run", augment=AugmentConfig(resize="host", audio_noise=0.01))
    open_run(cfg, [], tokenizer_text(Vocabulary(["<pad>", "<unk>", "red"])))
    mesh = sharding.make_mesh(MeshConfig())
    state = make_state(cfg, Pretrain(cfg), mesh)
    larger = jax.jit(lambda params: jax.tree.map(lambda x: 1.1 * x, params))
    with Checkpoints(cfg.run, cfg.checkpoint) as checkpoints:
        checkpoints.save(0, state)
        checkpoints.save(3, state | {"params": larger(state["params"])})
        checkpoints.wait()
    return cfg.run


@pytest.fixture(scope="module")
def model(run):
    return load(run)


@pytest.fixture(scope="module")
def ucf(tmp_path_factory):
    """UCF101 as released, in small: two classes of two groups; and one clip that the lists name and nobody has."""
    folder = tmp_path_factory.mktemp("ucf")
    classes = {"ApplyEyeMakeup": "red", "Biking": "blue"}
    clips = [(name, f"v_{name}_g{g:02d}_c{c:02d}") for name in classes for g in (1, 2) for c in (1, 2)]
    for number, (name, stem) in enumerate(clips):
        draw(folder / "UCF-101" / name / f"{stem}.avi", classes[name], seed=number)
    lists = {}
    for split, held in ((1, "g01"), (2, "g02"), (3, "g01")):
        test = [f"{name}/{stem}.avi" for name, stem in clips if held in stem]
        train = [f"{name}/{stem}.avi {list(classes).index(name) + 1}" for name, stem in clips if held not in stem]
        if split == 1:
            test.append("Biking/v_Biking_g01_c09.avi")
        lists |= {
            f"ucfTrainTestlist/{kind}list0{split}.txt": "\n".join(lines) + "\n"
            for kind, lines in (("test", test), ("train", train))
        }
    return write_copy(folder, lists=lists)


@pytest.fixture(scope="module")
def esc(tmp_path_factory):
    """ESC-50 as released, in small: three classes, two sounds a fold; `rain` is in the last fold alone."""
    folder = tmp_path_factory.mktemp("esc")
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, name in enumerate(PITCHES):
            if name == "rain" and fold < 5:
                continue
            for take in "AB":
                file = f"{fold}-{1000 * fold + target}-{take}-{target}.wav"
                lines.append(f"{file},{fold},{target},{name},False,{1000 * fold + target},{take}")
                play(folder / "audio" / file, name, seed=len(lines))
    lines.append("2-9-A-0.wav,2,0,dog,False,9,A")  # lost
    return write_copy(folder, table={"meta/esc50.csv": "\n".join(lines) + "\n"})


def test_the_command_line_probes_esc50_by_its_five_folds(run, esc, capsys):
    argv = ["evaluate", run, "--probe", "esc50", "--data", str(esc), "--passes", "2", "--windows", "2"]
    assert main(argv) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "esc50: svm on audio" in out
    assert "1 x the file is not there" in out
    assert "fold5: labels seen only in test, whose clips count as wrong: rain (2)" in out
    path = f"{run}/evaluations/probe-esc50-svm-audio-step3.json"
    assert path in out
    found = json.loads(Path(path).read_text())
    assert (found["probe"], found["step"], found["model"], found["modalities"]) == (
        "esc50",
        3,
        load(run).hash,
        ["audio"],
    )
    folds = found["folds"]
    assert list(folds) == [f"fold{n}" for n in range(1, 6)]
    assert [(f["items"], f["expected"], f["train"], f["expected_train"], f["unseen"]) for f in folds.values()] == [
        (4, 4, 18, 19, 0), (4, 5, 18, 18, 0), (4, 4, 18, 19, 0), (4, 4, 18, 19, 0), (6, 6, 16, 17, 2),
    ]  # fmt: skip
    assert [fold["top_1"] for fold in folds.values()] == pytest.approx([100, 100, 100, 100, 100 * 4 / 6])
    assert folds["fold5"]["top_5"] == pytest.approx(100 * 4 / 6)  # also where k reaches all the classes there are
    assert found["mean"]["top_1"] == pytest.approx((400 + 400 / 6) / 5)
    assert "C" in folds["fold1"]


def test_ucf101_has_three_splits_of_which_some_can_be_chosen(model, ucf):
    assert recipe("svm", probe=PROBES["ucf101"]).C == (1e-3,)
    folds = published(PROBES["ucf101"], ucf, model, console=QUIET)
    assert [(fold.name, fold.train.name) for fold in folds] == [(f"test{n}", f"train{n}") for n in (1, 2, 3)]
    assert set(folds[0].train.group.values()) == {"ApplyEyeMakeup/v_ApplyEyeMakeup_g02", "Biking/v_Biking_g02"}
    small = recipe("svm", probe=PROBES["ucf101"], passes=2, windows=2)
    (report,) = run_folds(model, folds, recipes=[small], modalities=("video",))
    assert {name: (f["top_1"], f["items"], f["expected"], f["train"]) for name, f in report.folds.items()} == {
        "test1": (100, 4, 5, 4), "test2": (100, 4, 4, 4), "test3": (100, 4, 4, 4),
    }  # fmt: skip
    (second,) = published(PROBES["ucf101"], ucf, model, folds=[2], console=QUIET)
    (again,) = run_folds(model, [second], recipes=[small], modalities=("video",))
    assert again.folds == {"test2": report.folds["test2"]}  # a fold's numbers do not depend on what else is asked
    with pytest.raises(DataError, match="folds 1 to 3; there is no fold 4"):
        published(PROBES["ucf101"], ucf, model, folds=[4], console=QUIET)


@pytest.fixture(scope="module")
def hmdb(tmp_path_factory):
    """HMDB51 as released, in small: two classes; split 3 has no test clip that is there."""
    folder = tmp_path_factory.mktemp("hmdb")
    lists = {}
    for name, colour in (("brush_hair", "red"), ("wave", "blue")):
        stems = [f"April_{n:02d}_{name}_u_nm_np1_ba_goo_{n % 2}" for n in range(4)]
        for number, stem in enumerate(stems):
            draw(folder / name / f"{stem}.avi", colour, seed=number)
        codes = {1: "1122", 2: "2211", 3: "1100"}
        for split, given in codes.items():
            lines = [f"{stem}.avi {code} " for stem, code in zip(stems, given, strict=True)]
            lines += [f"gone_{name}_u_nm_np1_ba_goo_0.avi 2 "] if split == 3 else []
            lists[f"testTrainMulti_7030_splits/{name}_test_split{split}.txt"] = "\n".join(lines) + "\n"
    return write_copy(folder, lists=lists)


def test_hmdb51_chooses_its_c_and_says_which_split_has_no_clips(model, hmdb):
    with pytest.raises(DataError, match="none of the 2 clips of test3 can be used; leave its fold out with --folds"):
        published(PROBES["hmdb51"], hmdb, model, console=QUIET)
    folds = published(PROBES["hmdb51"], hmdb, model, folds=[1, 2], console=QUIET)
    assert set(folds[0].test.group.values()) == {f"{n}/April_0{i}_{n}" for n in ("brush_hair", "wave") for i in (2, 3)}
    chosen = recipe("svm", probe=PROBES["hmdb51"], passes=1, windows=1)
    (report,) = run_folds(model, folds, recipes=[chosen], modalities=("video",))
    assert all(fold["C"] in (1e-4, 2e-4, 3e-4) for fold in report.folds.values())
    assert report.mean() == {"top_1": 100, "top_5": 100}


@pytest.fixture(scope="module")
def labelled_folders(tmp_path_factory):
    """A folder of classes, each a folder, to train on, and another to test on."""
    folder = tmp_path_factory.mktemp("folders")
    for split, count in (("train", 3), ("test", 2)):
        for name in ("red", "blue"):
            for number in range(count):
                draw(folder / split / name / f"{number}.avi", name, seed=100 * count + number)
    return folder


def test_any_two_sources_can_be_probed(model, run, labelled_folders, capsys):
    train, test = (open_source(str(labelled_folders / split), seconds=1.1) for split in ("train", "test"))
    found = probe_source(model, train, test, classifier="logistic", C=(0.1,), passes=2, windows=2)
    assert (found["top_1"], found["items"], found["train"], found["classes"], found["C"]) == (100, 4, 6, 2, 0.1)
    argv = ["evaluate", run, "--probe", "linear", "--data", train.name, "--test", test.name, "--random"]
    argv += ["--classifier", "svm", "low_rank", "--classifier-steps", "300"]
    assert main([*argv, "--passes", "0", "--windows", "1", "--C", "0.01"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "untrained (1 training window, 1 test window)" in out
    assert "labels are the names of the folders" in out
    found = json.loads(Path(f"{run}/evaluations/probe-linear-svm-video-step0.json").read_text())
    assert found["model"] == fresh(model).hash
    assert found["folds"]["test"]["C"] == 0.01
    found = json.loads(Path(f"{run}/evaluations/probe-linear-low_rank-video-step0.json").read_text())
    assert found["recipe"] == {"classifier": "low_rank", "passes": 0, "windows": 1, "C": [], "steps": 300}
    assert found["folds"]["test"]["top_1"] == 100


def test_the_untrained_model_is_the_one_that_its_run_began_with(run, model):
    assert fresh(model).hash == load(run, step=0).hash != model.hash


def test_sources_that_cannot_be_probed_are_refused(model, labelled_folders, tmp_path):
    train = open_source(str(labelled_folders / "train"), seconds=1.1)
    files = sorted((labelled_folders / "train" / "red").glob("*.avi"))

    def manifest(*labels):
        lines = [f"{path},{label}" for path, label in zip(files, labels, strict=False)]
        (tmp_path / "m.csv").write_text("\n".join(["path,label", *lines]) + "\n")
        return open_source(str(tmp_path / "m.csv"), seconds=1.1)

    given = {"passes": 0, "windows": 1, "C": (0.1,)}
    with pytest.raises(DataError, match="none of 3 clips has a label"):
        split_of(open_source(str(labelled_folders / "train" / "red"), seconds=1.1))
    with pytest.raises(DataError, match=r"all 3 clips are 'x'; a classifier needs two classes"):
        probe_source(model, manifest("x", "x", "x"), train, **given)
    with pytest.raises(DataError, match=r"no clip has a label that occurs in .*; it has x \(2\), y \(1\)"):
        probe_source(model, train, manifest("x", "x", "y"), **given)
    with pytest.raises(DataError, match="none of its 6 labelled clips gives audio"):
        probe_source(model, train, train, modalities=("audio",), **given)
    (tmp_path / "two.jsonl").write_text(json.dumps({"path": str(files[0]), "labels": ["a", "b"]}) + "\n")
    with pytest.raises(DataError, match=r"has 2 labels \(a, b\)"):
        split_of(open_source(str(tmp_path / "two.jsonl"), seconds=1.1))
    part = split_of(manifest("x", "", "y"))
    assert (part.label, part.expected) == ({0: "x", 2: "y"}, 2)
    assert "1 of 3 clips have no label" in part.note


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--probe", "esc50"], "needs --data"),
        (["--probe", "linear", "--data", "x"], "needs --test"),
        (["--probe", "esc50", "--data", "x", "--test", "y"], "no other probe"),
        (["--probe", "linear", "--data", "x", "--test", "y", "--folds", "1"], "no folds"),
        (["--probe", "nothing", "--data", "x"], "invalid choice"),
    ],
)
def test_options_that_do_not_fit_are_refused(capsys, argv, says):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "run", *argv])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err


def test_a_recipe_that_cannot_work_is_refused():
    for changes in ({"passes": -1}, {"windows": 0}, {"C": ()}, {"C": (0.0,)}):
        with pytest.raises(ConfigError):
            recipe("svm", **changes)
    with pytest.raises(ConfigError, match="steps"):
        recipe("low_rank", steps=0)


# Features


def test_training_passes_vary_by_seed_and_clip_alone(model, labelled_folders):
    source = open_source(str(labelled_folders / "train"), seconds=1.1)

    def look(views, **more):
        failed: list[MediaError] = []
        return features(model, source, views=views, modalities=("video",), failed=failed, **more)

    whole, again, other = look(Passes(3)), look(Passes(3)), look(Passes(3, seed=1))
    assert whole[0].shape == (3, model.cfg.model.video.encoder.width)
    assert all((whole[i] == again[i]).all() for i in range(6))
    assert all((whole[i] != other[i]).any(axis=1).all() for i in range(6))
    assert len(np.unique(np.concatenate(list(whole.values())), axis=0)) == 18  # no pass of any clip is another
    part = look(Passes(3), indices=[4, 1])
    assert (part[4] == whole[4]).all()
    assert (part[1] == whole[1]).all()
    longer = look(Passes(4))
    assert all((longer[i][:3] == whole[i]).all() for i in range(6))
    plain = look(Windows(1))[0]
    assert (whole[0] != plain).any(axis=1).all()


def test_the_embedder_varies_each_clip_by_its_own_seed(model):
    rng, (frames, P) = np.random.default_rng(0), (model.cfg.clip.frames, model.cfg.canvas)
    arrays = {
        "video": np.repeat(rng.integers(0, 256, (1, frames, P * 3 // 2, P), dtype=np.uint8), 4, axis=0),
        "video_box": np.tile(np.array([0, 0, P, P], np.float32), (4, 1)),
        "video_colour": np.zeros(4, np.int32),
    }
    plain, varied = model.embedder(arrays)["video"], model.embedder(arrays, seeds=np.array([5, 6, 5, 7]))["video"]
    assert (plain == plain[0]).all()
    assert (varied[0] == varied[2]).all()
    assert len(np.unique(np.concatenate([varied, plain]), axis=0)) == 4
    last = model.embedder({name: x[:1] for name, x in arrays.items()}, seeds=np.array([7]))["video"]
    assert (last[0] == varied[3]).all()


def test_passes_are_varied_on_the_device_too(model, labelled_folders):
    """With a fixed crop and a clip as long as a window, passes differ by what the embedder does alone."""

    class Short(list):
        name, faults = "short", ()

    item = open_source(str(labelled_folders / "train"), seconds=1.1)[0]
    fixed = replace(model, cfg=replace(model.cfg, augment=replace(model.cfg.augment, crop="centre")))
    short = Short([replace(item, end=item.start + 1.1)])
    passes = features(fixed, short, views=Passes(3), modalities=("video",), failed=[])[0]
    assert len(np.unique(passes, axis=0)) == 3


def test_both_modalities_lie_side_by_side_and_what_lacks_one_is_told(model, demo_media, labelled_folders):
    source = open_source(str(demo_media / "heldout"), seconds=model.cfg.clip.seconds)
    failed: list[MediaError] = []

    def look(*modalities):
        return features(model, source, views=Windows(2), modalities=modalities, indices=[0, 3], failed=failed)

    both, video, audio = look("video", "audio"), look("video"), look("audio")
    assert not failed
    for i in (0, 3):
        np.testing.assert_array_equal(both[i], np.concatenate([video[i], audio[i]], axis=1))
    silent = open_source(str(labelled_folders / "test"), seconds=1.1)
    assert features(model, silent, views=Windows(1), modalities=("video", "audio"), failed=failed) == {}
    assert [(error.kind, error.path) for error in failed][:1] == [("no_audio", "blue/0.avi")]


# Classifiers


def blobs(*, clips=30, views=2, width=6, classes=3, seed=0, spread=0.3):
    rng = np.random.default_rng(seed)
    y = np.arange(clips) % classes
    centres = np.eye(classes, width)
    return (centres[y][:, None] + rng.normal(0, spread, (clips, views, width))).astype(np.float32), y


def test_the_svm_is_mmvs():
    """StandardScaler over all views, LinearSVC, decision values averaged over the windows."""
    x, y = blobs()
    x_test, _ = blobs(seed=1, views=4)
    notes: list[str] = []
    scorer, C = fit(recipe("svm", C=(1e-3,)), x, y, groups=[str(i) for i in range(30)], seed=0, notes=notes)
    flat = x.reshape(-1, 6)
    scaler = StandardScaler().fit(flat)
    svm = LinearSVC(C=1e-3, dual=True, tol=1e-8, max_iter=100_000).fit(scaler.transform(flat), np.repeat(y, 2))
    expected = np.mean([svm.decision_function(scaler.transform(x_test[:, w])) for w in range(4)], axis=0)
    np.testing.assert_allclose(scorer(x_test), expected, atol=1e-3)
    assert (C, notes) == (1e-3, [])


@pytest.mark.parametrize("classifier", ["svm", "logistic"])
def test_two_classes_have_two_scores(classifier):
    x, y = blobs(classes=2)
    scores = linear(recipe(classifier), x, y, C=0.1, notes=[])(x)
    assert scores.shape == (30, 2)
    assert (scores.argmax(1) == y).all()


def test_probabilities_of_logistic_regression_are_averaged():
    x, y = blobs()
    scores = linear(recipe("logistic"), x, y, C=0.1, notes=[])(x)
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    assert (scores.argmax(1) == y).mean() > 0.9


def test_a_solver_that_does_not_converge_is_told(monkeypatch):
    monkeypatch.setitem(linear.__globals__["ITERATIONS"], "logistic", 1)
    x, y = blobs()
    notes: list[str] = []
    linear(recipe("logistic"), x, y, C=10, notes=notes)
    assert notes == ["logistic with C 10 did not converge in 1 iterations"]


def test_c_is_chosen_on_groups_that_were_left_out(monkeypatch):
    real, seen = linear, []

    def spy(recipe, x, y, **more):
        seen.append(set(x[:, 0, 0].tolist()))
        return real(recipe, x, y, **more)

    monkeypatch.setitem(best_c.__globals__, "linear", spy)
    x, y = blobs(clips=24, classes=2)
    x[:, :, 0] = np.arange(24)[:, None]  # each clip bears its number
    group = np.arange(24) // 2 % 6
    best_c(recipe("svm", C=(1e-3,)), x, y, groups=[str(g) for g in group], notes=[])
    assert len(seen) == 4
    for trained in seen:
        whole = [{i in trained for i in np.flatnonzero(group == g)} for g in range(6)]
        assert {True} in whole
        assert {False} in whole
        assert {True, False} not in whole


def test_of_two_values_of_c_the_better_is_chosen():
    """A weak cue that all dimensions share, and few clips: what fits them closely fits noise."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = ((2 * y[:, None] - 1) * 0.3 + rng.normal(size=(60, 40)))[:, None]
    groups = [str(i) for i in range(60)]
    notes: list[str] = []
    chosen = best_c(recipe("svm", C=(1e2, 1e-4)), x, y, groups=groups, notes=notes)
    x_test = ((2 * y[:, None] - 1) * 0.3 + rng.normal(size=(60, 40)))[:, None]
    right = {C: (linear(recipe("svm"), x, y, C=C, notes=[])(x_test).argmax(1) == y).mean() for C in (1e2, 1e-4)}
    assert right[1e-4] > right[1e2]
    assert chosen == 1e-4


def test_c_at_the_edge_of_its_grid_and_one_group_alone_are_told():
    x, y = blobs(spread=0.01)
    notes: list[str] = []
    assert best_c(recipe("svm"), x, y, groups=[str(i) for i in range(30)], notes=notes) == 1e-5  # all are as good
    assert "edge of its grid" in notes[0]
    assert best_c(recipe("svm"), x, y, groups=["a"] * 30, notes=notes) == 1e-3
    assert "one group" in notes[1]


def test_the_low_rank_classifier_learns_and_is_a_function_of_its_seed():
    x, y = blobs(spread=0.1)
    first, again, other = (low_rank(x, y, steps=300, seed=seed)(x) for seed in (0, 0, 1))
    np.testing.assert_allclose(first.sum(1), 1, rtol=1e-5)
    assert (first.argmax(1) == y).all()
    assert (first == again).all()
    assert (first != other).any()
