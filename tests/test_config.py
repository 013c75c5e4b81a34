"""Configurations validate themselves, survive JSON, and experiment files fail with a message that helps."""

import dataclasses
from dataclasses import replace

import pytest

from vatt.config import (
    AudioConfig,
    AugmentConfig,
    ClipConfig,
    Config,
    EncoderConfig,
    EvaluateConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    VideoConfig,
    from_json,
    load_experiment,
    to_json,
)
from vatt.errors import ConfigError
from vatt.presets import PRESETS, ma_medium, released

GOOD = "from vatt.config import Config\ndef get_config():\n    return Config(run='runs/x', steps=7)\n"


@pytest.mark.parametrize("name", PRESETS)
def test_json_brings_back_the_same_config(name):
    cfg = Config(model=PRESETS[name](), clip=ClipConfig(samples=8_192 if name == "tiny" else 153_600))
    assert from_json(to_json(cfg)) == cfg
    assert hash(from_json(to_json(cfg))) == hash(cfg)


def test_json_with_an_unknown_field_is_refused():
    text = to_json(Config()).replace('"batch_size"', '"batchsize"')
    with pytest.raises(ConfigError, match="batchsize"):
        from_json(text)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Config(clip=ClipConfig(frames=30)), "clip.frames 30 .* 4 frames"),
        (lambda: Config(clip=ClipConfig(size=225)), "clip.size 225 .* 16x16"),
        (lambda: Config(clip=ClipConfig(samples=1000)), "clip.samples 1000 .* 128"),
        (lambda: Config(loss=LossConfig(audio_text=1.0)), "model.heads.audio_text True"),
        (lambda: EncoderConfig(width=100, heads=3), "100 .* 3"),
        (lambda: VideoConfig(keep=0.0), r"model.video.keep is 0.0"),
        (lambda: AudioConfig(keep=1.5), r"model.audio.keep is 1.5"),
        (lambda: AugmentConfig(flip=1.5), r"augment.flip is 1.5"),
        (lambda: AugmentConfig(hue=0.6), r"augment.hue is 0.6"),
        (lambda: AugmentConfig(contrast=-0.1), r"augment.contrast is -0.1"),
        (lambda: AugmentConfig(area=(0.5, 0.2)), r"augment.area is \(0.5, 0.2\)"),
        (lambda: AugmentConfig(aspect=(0.0, 2.0)), r"augment.aspect is \(0.0, 2.0\)"),
        (lambda: EvaluateConfig(crops=2), "evaluate.crops is 2"),  # pyright: ignore[reportArgumentType]
        (
            lambda: Config(
                clip=ClipConfig(size=225),
                model=ModelConfig(video=VideoConfig(patch=(4, 15, 15))),
                augment=AugmentConfig(resize="host"),
            ),
            "even clip.size, not 225",
        ),
        (lambda: LossConfig(video_audio=0, video_text=0), "every loss weight is 0"),
        (lambda: LossConfig(temperature=0.0), "temperature"),
        (lambda: OptimConfig(weight_decay=0.1), "adamw"),
        (lambda: ModelConfig(backbone="agnostic"), "the same"),
        (lambda: ModelConfig(projections="dense_gelu"), "agnostic"),
    ],
)
def test_what_cannot_work_is_refused_by_name(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_the_canvas_is_the_short_side_of_prepared_video_or_the_clip_itself():
    assert Config().canvas == 256
    assert Config(augment=AugmentConfig(resize="host")).canvas == 224
    assert [Config(clip=ClipConfig(size=size)).canvas for size in (64, 112, 320)] == [80, 128, 368]


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().steps = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_experiment_file(tmp_path):
    path = tmp_path / "e.py"
    path.write_text(GOOD)
    assert load_experiment(path) == Config(run="runs/x", steps=7)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def get_config(:\n", "line 1"),
        ("x = 3\n", "no get_config"),
        ("def get_config():\n    return 3\n", "returned int"),
        ("import nothing_of_this_name\n", "nothing_of_this_name"),
        ("def get_config():\n    return {}['key']\n", "KeyError"),
        ("from vatt.config import *\ndef get_config():\n    return Config(stepz=3)\n", "stepz"),
        (
            "from vatt.config import *\ndef get_config():\n    return Config(clip=ClipConfig(frames=3))\n",
            "clip.frames 3",
        ),
    ],
)
def test_a_broken_experiment_file_is_named_with_its_fault(tmp_path, text, says):
    path = tmp_path / "e.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_experiment(path)


def test_a_missing_experiment_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere.py: no such experiment"):
        load_experiment("nowhere.py")


def test_released_switches_everything_that_changes_the_function():
    paper = Config(model=ma_medium())
    code = released(paper)
    assert (code.model.heads.linear_norm, code.model.heads.va_to_vt) == ("none", "relu")
    assert (code.loss.form, code.loss.reduction) == ("joint", "mean")
    assert code.model.text.bias_layers == "all"
    assert code.model.projections == "dense_gelu"
    assert (code.optim.decay, code.optim.warmup_steps) == ("half_cosine", 5_000)
    # A modality-specific backbone has no shared one to surround.
    assert released(Config()).model.projections == "none"
    assert (code.augment.crop, code.augment.audio_noise) == ("jitter", 0.01)
    unchanged = replace(code, model=paper.model, loss=paper.loss, optim=paper.optim, augment=paper.augment)
    assert unchanged == paper
