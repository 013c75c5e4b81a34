"""Zero-shot classification through the command line, and its formulas."""

import functools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.oddfiles import picture, text, tone, write
from vatt.cli import main
from vatt.data.demo import COMBINATIONS, demo_labels
from vatt.errors import ConfigError, DataError, MediaError
from vatt.evals import pretrained
from vatt.evals.zeroshot import (
    Clips,
    check_templates,
    classify,
    embed_labels,
    embed_source,
    softmax,
    zero_shot_accuracy,
)

LABELS = ("red circle", "blue square", "green ring")


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """Each run is loaded once, for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "load", functools.cache(pretrained.load))
        yield


@pytest.fixture(scope="module")
def model(tiny_run):
    return pretrained.load(str(tiny_run), step="latest")


@pytest.fixture(scope="module")
def clips(demo_media):
    return sorted((demo_media / "heldout").glob("*.mp4"))


def run(*args) -> int:
    return main(["classify", *map(str, args)])


def normalised(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_prompts_are_averaged_and_files_are_the_mean_of_their_windows(model, clips):
    templates = ("a {}", "it {}")
    prompts = [model.embed_text([t.format(label) for t in templates]) for label in LABELS]
    targets = normalised(np.array([p.astype(np.float64).mean(0) for p in prompts]))
    np.testing.assert_allclose(embed_labels(model, LABELS, templates), targets, atol=1e-6)
    (result,) = classify(model, [clips[0]], LABELS, templates=templates)
    z = normalised(model.embed_video(clips[0]).vt.astype(np.float64).mean(0))
    scores = np.exp(targets @ z / model.cfg.loss.temperature)
    expected = dict(zip(LABELS, scores / scores.sum(), strict=True))
    assert result.probabilities == pytest.approx(expected, abs=1e-5)
    assert list(result.probabilities.values()) == sorted(result.probabilities.values(), reverse=True)
    assert result.windows == len(model.embed_video(clips[0]).vt)


def test_a_learned_temperature_is_the_one_that_counts(model):
    assert model.temperature() == model.cfg.loss.temperature
    learned = {"loss": {"video_text": {"log_scale": np.float32(np.log(20.0))}}}
    params = {**model.params, **learned}
    assert replace(model, params=params).temperature() == pytest.approx(0.05)
    assert replace(model, params=params).temperature("audio_text") == model.cfg.loss.temperature


def test_softmax_of_large_scores_is_finite():
    np.testing.assert_allclose(softmax(np.array([1e4, 1e4, -1e4])), [0.5, 0.5, 0.0])


def test_the_command_prints_probabilities_and_json(tiny_run, clips, tmp_path, capsys):
    assert run(tiny_run, clips[0], clips[1], "--labels", ", ".join(LABELS)) == 0
    out = capsys.readouterr().out
    assert all(out.count(label) == 2 for label in LABELS)
    assert str(clips[1]) in out
    (tmp_path / "labels.txt").write_text("\n".join(LABELS) + "\n")
    assert run(tiny_run, clips[0], clips[1], "--labels", tmp_path / "labels.txt", "--template", "a {}", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["path"] for line in lines] == [str(clip) for clip in clips[:2]]
    for line in lines:
        assert set(line["labels"]) == set(LABELS)
        assert sum(line["labels"].values()) == pytest.approx(1)
    assert run(tiny_run, clips[0], "--labels", "red,green,blue,yellow", "--top", "2") == 0
    assert "2 others" in capsys.readouterr().out


def test_words_that_the_model_does_not_know_are_named(tiny_run, clips, capsys):
    assert run(tiny_run, clips[0], "--labels", "red circle,axolotl square", "--template", "a photo of {}") == 0
    said = capsys.readouterr().err
    assert "'axolotl' in 'axolotl square'" in said
    assert "'photo', 'of' in 'a photo of {}'" in said
    assert run(tiny_run, clips[0], "--labels", "a circle,a square", "--template", "we see here a big red thing {}") == 0
    assert "the model sees the first 8 words" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--labels", "red,,blue"), "'' is empty"),
        (("--labels", "red,blue,Red!"), "'Red!' is given twice"),
        (("--labels", "red"), "two or more"),
        (("--labels", "red,axolotl"), "no word of 'axolotl'"),
        (("--labels", "labels.txt"), "labels.txt: no such file of labels"),
        (("--labels", "red,blue", "--template", "a photo"), "needs one {}"),
        (("--labels", "red,blue", "--step", "9"), "no step 9"),
    ],
)
def test_labels_that_cannot_be_used_are_errors(tiny_run, clips, capsys, options, said):
    assert run(tiny_run, clips[0], *options) == 1
    assert said in capsys.readouterr().err


def test_templates_have_one_place():
    check_templates(["a {}"])
    for templates in ([], ["{} {}"], ["a {0}"], ["a {name} {}"], ["}{} a"]):
        with pytest.raises(DataError, match="template"):
            check_templates(templates)


def test_a_file_that_cannot_be_used_is_named_and_the_rest_goes_on(tiny_run, clips, tmp_path, capsys):
    text(tmp_path / "broken.mp4")
    files = (tmp_path / "broken.mp4", clips[0], tmp_path / "gone.mp4")
    assert run(tiny_run, *files, "--labels", "red,blue", "--json") == 1
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line.get("reason") for line in lines] == ["unreadable", None, "missing"]
    assert "broken.mp4" in err
    assert "gone.mp4" in err


def test_sound_is_told_where_the_model_leads_it_to_text(model, tmp_path):
    write(tmp_path / "tone.wav", sound=tone(2.2, 8000), rate=8000, audio="pcm_s16le")
    write(tmp_path / "mute.mp4", pictures=[picture(i) for i in range(50)])
    sound, mute = classify(model, [tmp_path / "tone.wav", tmp_path / "mute.mp4"], LABELS)
    assert (sound.modality, mute.modality) == ("audio", "video")
    (asked,) = classify(model, [tmp_path / "mute.mp4"], LABELS, modality="audio")
    assert isinstance(asked, MediaError)
    assert asked.kind == "no_audio"
    silent = replace(model.cfg.model, heads=replace(model.cfg.model.heads, audio_text=False))
    deaf = replace(model, cfg=replace(model.cfg, model=silent))
    (error,) = classify(deaf, [tmp_path / "tone.wav"], LABELS)
    assert isinstance(error, MediaError)
    assert error.kind == "no_video"
    with pytest.raises(ConfigError, match="audio_text"):
        list(classify(deaf, [tmp_path / "tone.wav"], LABELS, modality="audio"))


def test_accuracy_is_the_share_of_clips_whose_nearest_label_is_theirs(model, demo_media):
    clips = embed_source(model, str(demo_media / "heldout"))
    assert len(clips.ids) == 16
    factors = demo_labels(demo_media)
    assert {name: len(labels) for name, (labels, _) in factors.items()} == {
        "shape": 5, "colour": 8, "motion": 4, "combination": len(COMBINATIONS),
    }  # fmt: skip
    for labels, of in factors.values():
        found = zero_shot_accuracy(model, clips, labels, of=of)
        nearest = np.argmax(clips.z.astype(np.float64) @ embed_labels(model, labels).T.astype(np.float64), axis=1)
        right = np.mean([labels[i] == of[id] for i, id in zip(nearest, clips.ids, strict=True)])
        assert found["items"] == 16
        assert found["chance"] == pytest.approx(100 / len(labels))
        if not found["ties"]:
            assert found["top_1"] == pytest.approx(100 * right)
    labels, of = factors["colour"]
    ideal = Clips(ids=clips.ids, labels=[], z=embed_labels(model, labels)[[labels.index(of[id]) for id in clips.ids]])
    assert zero_shot_accuracy(model, ideal, labels, of=of)["top_1"] == 100
    with pytest.raises(DataError, match="none of the 2"):
        zero_shot_accuracy(model, clips, ["red", "black"], of=of)


def test_labels_of_a_source_are_its_own(model, demo_media, tmp_path):
    clips = sorted((demo_media / "heldout").glob("*.mp4"))[:3]
    for number, clip in enumerate(clips):
        shutil.copy(clip, tmp_path / f"{number}.mp4")
    rows = ["path,label", "0.mp4,circle", "1.mp4,square", "2.mp4,circle"]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    found = zero_shot_accuracy(model, str(tmp_path / "rows.csv"), ["circle", "square"])
    assert found["items"] == 3
    (tmp_path / "rows.csv").write_text("path\n0.mp4\n")
    with pytest.raises(DataError, match="has no label"):
        zero_shot_accuracy(model, str(tmp_path / "rows.csv"), ["circle", "square"])
