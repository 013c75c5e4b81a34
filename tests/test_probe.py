"""Probes on tiny copies of the published sets, laid out as released, and their features."""

import functools
import json
import wave
from dataclasses import replace
from pathlib import Path

import av
import jax
import numpy as np
import pytest
from rich.console import Console

from tests.media import small_demo
from tests.releases import write_copy
from vatt import sharding
from vatt.cli import main
from vatt.config import AugmentConfig, ClipConfig, MeshConfig
from vatt.data.sources import open_clips, open_source
from vatt.data.text import Vocabulary
from vatt.errors import ConfigError, DataError, MediaError
from vatt.evals import pretrained, probe
from vatt.evals.embedding import Embedder
from vatt.evals.probe import PROBES, fresh, probe_source, published, recipe, run_folds, split_of
from vatt.evals.probe.features import Passes, Windows, features
from vatt.evals.probe.recipes import MMV
from vatt.tasks.pretrain import Pretrain
from vatt.train.checkpoint import open_run, read_pretrain_config, tokenizer_text
from vatt.train.weights import Weights

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
    """The folder of a run, without its weights."""
    folder = tmp_path_factory.mktemp("probe")
    cfg = small_demo(folder, folder / "run", augment=AugmentConfig(resize="host", audio_noise=0.01))
    open_run(replace(cfg, clip=replace(cfg.clip, size=32)), [], tokenizer_text(Vocabulary(["<pad>", "<unk>", "red"])))
    return cfg.run


@pytest.fixture(scope="module")
def untrained(run):
    cfg = read_pretrain_config(run)
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    return fresh(pretrained.ready(run, Weights(Pretrain(cfg), 3, {}, {}), mesh))


@pytest.fixture(scope="module")
def model(untrained):
    """At step 3, with weights a little larger."""
    params = jax.tree.map(lambda x: np.asarray(1.1 * x), untrained.params)
    embedder = Embedder(untrained.cfg, untrained.mesh, params, untrained.stats)
    return replace(untrained, step=3, params=params, embedder=embedder)


@pytest.fixture(scope="module")
def clip(model):
    """How the command line cuts the clips of a published set, of which some are shorter than the window of 1 s."""
    return replace(model.cfg.clip, short="repeat")


@pytest.fixture
def loaded(monkeypatch, model, untrained):
    """What the command line reads, or draws anew."""
    monkeypatch.setattr(pretrained, "load", lambda run, *, step: model)
    monkeypatch.setattr(probe, "fresh", lambda model, seed=None: untrained)


@pytest.fixture(scope="module")
def ucf(tmp_path_factory):
    """UCF101 as released, in small: two classes of two groups, some clips shorter than a window; and one clip that the
    lists name and nobody has."""
    folder = tmp_path_factory.mktemp("ucf")
    classes = {"ApplyEyeMakeup": "red", "Biking": "blue"}
    clips = [(name, f"v_{name}_g{g:02d}_c{c:02d}") for name in classes for g in (1, 2) for c in (1, 2)]
    for number, (name, stem) in enumerate(clips):
        draw(folder / "UCF-101" / name / f"{stem}.avi", classes[name], seed=number, seconds=1.5 if number % 3 else 0.6)
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


@pytest.mark.usefixtures("loaded")
def test_the_command_line_probes_esc50_by_its_five_folds(run, model, esc, capsys):
    argv = ["evaluate", run, "--probe", "esc50", "--data", str(esc), "--passes", "2", "--windows", "2"]
    assert main(argv) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "esc50: svm on audio" in out
    assert "(2 training passes varied as MMV does, 2 test windows)" in out
    assert "1 x the file is not there" in out
    assert "fold5: labels seen only in test, whose clips count as wrong: rain (2)" in out
    (path,) = Path(f"{run}/evaluations").glob("probe-esc50-svm-audio-step3-*.json")
    assert str(path) in out
    found = json.loads(path.read_text())
    assert (found["probe"], found["step"], found["modalities"]) == ("esc50", 3, ["audio"])
    assert (found["model"], found["share"]) == (model.hash, 22 / 23)
    assert found["hash"] in out
    assert "the figures are of 95.7 % of the test clips" in out
    assert [(fault["id"], fault["reason"]) for fault in found["missing"]] == [("2-9-A-0", "missing")]
    assert main([*argv, "--folds", "1", "3"]) == 0
    (other,) = {*path.parent.glob("probe-esc50-*")} - {path}  # beside it, not in its place
    assert json.loads(other.read_text())["folds"] == {name: found["folds"][name] for name in ("fold1", "fold3")}
    folds = found["folds"]
    assert list(folds) == [f"fold{n}" for n in range(1, 6)]
    assert [(f["items"], f["expected"], f["train"], f["expected_train"], f["unseen"]) for f in folds.values()] == [
        (4, 4, 18, 19, 0), (4, 5, 18, 18, 0), (4, 4, 18, 19, 0), (4, 4, 18, 19, 0), (6, 6, 16, 17, 2),
    ]  # fmt: skip
    assert [fold["top_1"] for fold in folds.values()] == pytest.approx([100, 100, 100, 100, 100 * 4 / 6])
    assert folds["fold5"]["top_5"] == pytest.approx(100 * 4 / 6)  # also where k reaches all the classes there are
    assert found["mean"]["top_1"] == pytest.approx((400 + 400 / 6) / 5)
    assert "C" in folds["fold1"]


def test_ucf101_has_three_splits_of_which_some_can_be_chosen(model, clip, ucf):
    assert recipe("svm", probe=PROBES["ucf101"]).C == (1e-3,)
    folds = published(PROBES["ucf101"], ucf, clip, modalities=("video",), console=QUIET)
    assert [(fold.name, fold.train.name) for fold in folds] == [(f"test{n}", f"train{n}") for n in (1, 2, 3)]
    train = folds[0].train
    groups = {train.group(train.source[index].id) for index in train.label}
    assert groups == {"ApplyEyeMakeup/v_ApplyEyeMakeup_g02", "Biking/v_Biking_g02"}
    small = recipe("svm", probe=PROBES["ucf101"], passes=2, windows=2)
    (report,) = run_folds(model, folds, recipes=[small], modalities=("video",), clip=clip)
    assert {name: (f["top_1"], f["items"], f["expected"], f["train"]) for name, f in report.folds.items()} == {
        "test1": (100, 4, 5, 4), "test2": (100, 4, 4, 4), "test3": (100, 4, 4, 4),
    }  # fmt: skip
    assert [(fault.id, fault.reason) for fault in report.missing] == [("Biking/v_Biking_g01_c09", "missing")]
    (second,) = published(PROBES["ucf101"], ucf, clip, modalities=("video",), folds=[2], console=QUIET)
    (again,) = run_folds(model, [second], recipes=[small], modalities=("video",), clip=clip)
    assert again.folds == {"test2": report.folds["test2"]}  # a fold's numbers do not depend on what else is asked
    assert (again.share, again.missing, again.hash != report.hash) == (1, [], True)
    with pytest.raises(DataError, match="folds 1 to 3; there is no fold 4"):
        published(PROBES["ucf101"], ucf, clip, modalities=("video",), folds=[4], console=QUIET)


@pytest.fixture(scope="module")
def hmdb(tmp_path_factory):
    """HMDB51 as released, in small: two classes; split 3 has no test clip that is there."""
    folder = tmp_path_factory.mktemp("hmdb")
    lists = {}
    for name, colour in (("brush_hair", "red"), ("wave", "blue")):
        stems = [f"April_{n:02d}_{name}_u_nm_np1_ba_goo_{n % 2}" for n in range(4)]
        for number, stem in enumerate(stems):
            draw(folder / name / f"{stem}.avi", colour, seed=number, seconds=0.6 if number == 2 else 1.5)
        codes = {1: "1122", 2: "2211", 3: "1100"}
        for split, given in codes.items():
            lines = [f"{stem}.avi {code} " for stem, code in zip(stems, given, strict=True)]
            lines += [f"gone_{name}_u_nm_np1_ba_goo_0.avi 2 "] if split == 3 else []
            lists[f"testTrainMulti_7030_splits/{name}_test_split{split}.txt"] = "\n".join(lines) + "\n"
    return write_copy(folder, lists=lists)


def test_hmdb51_chooses_its_c_and_says_which_split_has_no_clips(model, clip, hmdb):
    how = {"modalities": ("video",), "console": QUIET}
    with pytest.raises(DataError, match="none of the 2 clips of test3 can be used; leave its fold out with --folds"):
        published(PROBES["hmdb51"], hmdb, clip, **how)
    folds = published(PROBES["hmdb51"], hmdb, clip, folds=[1, 2], **how)
    test = folds[0].test
    groups = {test.group(test.source[index].id) for index in test.label}
    assert groups == {f"{n}/April_0{i}_{n}" for n in ("brush_hair", "wave") for i in (2, 3)}
    chosen = recipe("svm", probe=PROBES["hmdb51"], passes=1, windows=1)
    (report,) = run_folds(model, folds, recipes=[chosen], modalities=("video",), clip=clip)
    assert all(fold["C"] in (1e-4, 2e-4, 3e-4) for fold in report.folds.values())
    assert [(fold["items"], fold["expected"], fold["train"]) for fold in report.folds.values()] == [(4, 4, 4)] * 2
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


@pytest.mark.usefixtures("loaded")
def test_any_two_sources_can_be_probed(model, untrained, run, labelled_folders, capsys):
    train, test = (open_source(str(labelled_folders / split), seconds=1.1) for split in ("train", "test"))
    found = probe_source(model, train, test, classifier="logistic", C=(0.1,), passes=2, windows=2)
    assert (found["top_1"], found["items"], found["train"], found["classes"], found["C"]) == (100, 4, 6, 2, 0.1)
    argv = ["evaluate", run, "--probe", "linear", "--data", train.name, "--test", test.name, "--random"]
    argv += ["--classifier", "svm", "low_rank", "--classifier-steps", "300"]
    assert main([*argv, "--passes", "0", "--windows", "1", "--C", "0.01"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "untrained (1 training window, 1 test window)" in out
    assert "labels are the names of the folders" in out
    (svm,) = Path(f"{run}/evaluations").glob("probe-linear-svm-video-step0-*.json")
    (low_rank,) = Path(f"{run}/evaluations").glob("probe-linear-low_rank-video-step0-*.json")
    found = json.loads(svm.read_text())
    assert found["model"] == untrained.hash
    assert (found["folds"]["test"]["C"], found["recipe"]["augment"], found["missing"]) == (0.01, None, [])
    found = json.loads(low_rank.read_text())
    assert (found["recipe"]["steps"], found["recipe"]["passes"], found["recipe"]["C"]) == (300, 0, [])
    assert found["folds"]["test"]["top_1"] == 100


def test_the_untrained_model_is_that_of_the_runs_seed_or_of_another(model, untrained):
    assert len({model.hash, untrained.hash, fresh(model, 1).hash}) == 3


def test_a_clip_that_cannot_be_looked_at_is_named(model, clip, labelled_folders, tmp_path):
    draw(tmp_path / "red" / "0.avi", "red", seed=0)
    draw(tmp_path / "blue" / "1.avi", "blue", seed=1)
    play(tmp_path / "red" / "2.wav", "dog", seed=0)
    (tmp_path / "red" / "3.avi").write_bytes(b"no film")
    train, test = (split_of(open_clips(str(f), clip, max_bad=1.0)) for f in (labelled_folders / "train", tmp_path))
    fold, plain = probe.Fold("test", train, test), recipe("svm", passes=0, windows=1, C=(0.1,))
    (report,) = run_folds(model, [fold], recipes=[plain], modalities=("video",))
    assert (report.folds["test"]["items"], report.folds["test"]["expected"], report.share) == (2, 4, 0.5)
    assert [(fault.id, fault.reason) for fault in report.missing] == [
        ("red/3.avi", "unreadable"), ("red/2.wav", "no_video"),
    ]  # fmt: skip


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
        (["--probe", "esc50", "--data", "x", "--classifier", "low_rank", "--C", "1"], "low_rank has no C"),
        (["--probe", "esc50", "--data", "x", "--classifier-steps", "9"], "those of --classifier low_rank"),
    ],
)
def test_options_that_do_not_fit_are_refused(capsys, argv, says):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "run", *argv])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err


def test_what_is_wrong_is_said_before_weights_are_read(run, esc, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pretrained, "load", None)
    argv = ["evaluate", run, "--probe"]
    assert main([*argv, "esc50", "--data", str(tmp_path)]) == 1
    assert "no meta/esc50.csv there" in capsys.readouterr().err
    assert main([*argv, "esc50", "--data", str(esc), "--folds", "6"]) == 1
    assert "there is no fold 6" in capsys.readouterr().err
    assert main([*argv, "esc50", "--data", str(esc), "--classifier", "low_rank", "--classifier-steps", "0"]) == 1
    assert "takes 0 steps" in capsys.readouterr().err
    assert main([*argv, "linear", "--data", str(esc / "audio"), "--test", str(tmp_path), "--modalities", "audio"]) == 1
    assert "none of 22 clips has a label" in capsys.readouterr().err


def test_video_is_sampled_as_published_where_the_model_takes_as_many_frames():
    ours = ClipConfig(frames=32, fps=10.0, size=200, sample_rate=48_000, samples=153_600)
    clip = PROBES["ucf101"].followed(ours, ("video",))
    assert (clip.fps, clip.seconds) == (12.5, 2.56)
    assert PROBES["ucf101"].differs(clip, ("video",)) == ["200 pixels a side, published with 224"]
    assert PROBES["esc50"].followed(ours, ("audio",)).seconds == 3.2
    fewer = replace(ours, frames=16)
    assert PROBES["ucf101"].followed(fewer, ("video",)).fps == 10
    assert "windows of 1.6 s, published with 2.56 s" in PROBES["ucf101"].differs(fewer, ("video",))


def test_a_recipe_that_cannot_work_is_refused():
    for changes in ({"passes": -1}, {"windows": 0}, {"C": ()}, {"C": (0.0,)}):
        with pytest.raises(ConfigError):
            recipe("svm", **changes)
    with pytest.raises(ConfigError, match="steps"):
        recipe("low_rank", steps=0)


# Features


def test_training_passes_vary_by_seed_and_clip_alone(model, clip, labelled_folders):
    source = open_source(str(labelled_folders / "train"), seconds=1.1)

    def look(views, **more):
        return features(model, source, clip=clip, views=views, modalities=("video",), failed={}, **more)

    passes = functools.partial(Passes, augment=model.cfg.augment)
    whole, again, other = look(passes(3)), look(passes(3), indices=[4, 1]), look(passes(4, seed=1))
    assert whole[0].shape == (3, model.cfg.model.video.encoder.width)
    assert all((whole[i] == again[i]).all() for i in (4, 1))
    assert all((whole[i] != other[i][:3]).any(axis=1).all() for i in range(6))
    assert len(np.unique(np.concatenate(list(whole.values())), axis=0)) == 18  # no pass of any clip is another
    longer = look(passes(4))
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


def test_passes_of_published_sets_are_mmvs(labelled_folders):
    """Another start and the largest square at another place; on the device, half are flipped and colours stay."""
    assert recipe("svm", probe=PROBES["ucf101"]).augment == MMV
    assert recipe("svm").augment is None
    assert (MMV.flip, MMV.colour, MMV.audio_noise) == (0.5, 0, 0)
    item = open_source(str(labelled_folders / "train"), seconds=1.1)[0]
    looks = Passes(20, MMV)(item, ClipConfig(frames=8, fps=8.0, samples=8192, sample_rate=8000))
    assert len({look.start for look in looks}) > 2
    boxes = [look.crop(320, 240) for look in looks]
    assert {(box.height, box.width, box.top) for box in boxes} == {(240, 240, 0)}
    assert max(box.left for box in boxes) > 60 > 20 > min(box.left for box in boxes) >= 0


def test_passes_are_varied_on_the_device_too(model, clip, labelled_folders):
    """With a fixed crop and a clip as long as a window, passes differ by what the embedder does alone."""

    class Short(list):
        name, faults = "short", ()

    item = open_source(str(labelled_folders / "train"), seconds=1.1)[0]
    short = Short([replace(item, end=item.start + 1.1)])
    views = Passes(3, replace(model.cfg.augment, crop="centre"))
    passes = features(model, short, clip=clip, views=views, modalities=("video",), failed={})[0]
    assert len(np.unique(passes, axis=0)) == 3


def test_both_modalities_lie_side_by_side_and_what_lacks_one_is_told(model, demo_media, labelled_folders):
    source = open_source(str(demo_media / "heldout"), seconds=model.cfg.clip.seconds)
    failed: dict[int, MediaError] = {}
    clip = model.cfg.clip

    def look(*modalities):
        views = Windows(2)
        return features(model, source, clip=clip, views=views, modalities=modalities, indices=[0, 3], failed=failed)

    both, video, audio = look("video", "audio"), look("video"), look("audio")
    assert not failed
    for i in (0, 3):
        np.testing.assert_array_equal(both[i], np.concatenate([video[i], audio[i]], axis=1))
    silent = open_source(str(labelled_folders / "test"), seconds=1.1)
    how = {"clip": clip, "views": Windows(1), "modalities": ("video", "audio"), "failed": failed}
    assert features(model, silent, **how) == {}
    assert (failed[0].kind, failed[0].path) == ("no_audio", "blue/0.avi")
