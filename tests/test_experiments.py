"""Every file in experiments/ builds, and its training step traces; every preset has the parameters on record.

After a wanted change: UPDATE_GOLDEN=1 pytest tests/test_experiments.py, and read the difference.
"""

import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from vatt import sharding
from vatt.config import ClipConfig, Config, FinetuneConfig, MeshConfig, load_experiment, load_pretraining
from vatt.describe import describe
from vatt.presets import PRESETS
from vatt.tasks.classify import Classify
from vatt.tasks.pretrain import Pretrain
from vatt.train.optim import groups, path_of, rules
from vatt.train.step import abstract_state, make_step

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))
GOLDEN = Path(__file__).parent / "golden"


def test_there_are_experiments():
    assert {path.stem for path in EXPERIMENTS} >= {"demo", "vatt_bbs", "vatt_mbs", "vatt_lbs", "vatt_ma_medium"}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_builds_and_its_step_traces(path):
    cfg = load_experiment(path)
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    clip, B = cfg.clip, 4
    batch = {
        "video": jax.ShapeDtypeStruct((B, clip.frames, cfg.canvas * 3 // 2, cfg.canvas), jnp.uint8),
        "video_box": jax.ShapeDtypeStruct((B, 4), jnp.float32),
        "video_colour": jax.ShapeDtypeStruct((B,), jnp.int32),
        "audio": jax.ShapeDtypeStruct((B, clip.samples), jnp.int16),
        "text": jax.ShapeDtypeStruct((B, clip.candidates, clip.words), jnp.int32),
        "video_mask": jax.ShapeDtypeStruct((B,), jnp.bool_),
        "audio_mask": jax.ShapeDtypeStruct((B,), jnp.bool_),
        "text_mask": jax.ShapeDtypeStruct((B, clip.candidates), jnp.bool_),
    }
    if isinstance(cfg, FinetuneConfig):
        task = Classify(cfg, ("dog", "siren", "guitar"))
        kept = [name for name in batch if name.split("_")[0] in cfg.classify.modalities]
        batch = {name: batch[name] for name in kept} | {"label": jax.ShapeDtypeStruct((B, 3), jnp.float32)}
        expected = {"loss"}
    else:
        assert isinstance(cfg, Config)
        task, expected = Pretrain(cfg), {"loss", "loss/video_audio", "loss/video_text"}
    before = abstract_state(cfg, task, mesh)
    with jax.set_mesh(mesh):
        after, metrics = jax.eval_shape(make_step(cfg, task, mesh), before, batch)
    shape = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert shape(after) == shape(before)
    assert expected | {"grad_norm", "learning_rate"} <= set(metrics)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_says_where_it_comes_from(path):
    text = path.read_text()
    command = "finetune" if path.stem.startswith("finetune") else "pretrain"
    for line in ("Source: ", "Cost: ", "Expected: ", f"Command: vatt {command} experiments/{path.name}"):
        assert re.search(f"^{re.escape(line)}", text, re.MULTILINE), f"{path.name} lacks {line!r}"


@pytest.mark.parametrize("name", ["vatt_bbs", "vatt_mbs", "vatt_lbs", "vatt_ma_medium"])
def test_the_papers_recipe(name):
    cfg = load_pretraining(ROOT / "experiments" / f"{name}.py")
    assert (cfg.batch_size, cfg.steps) == (2048, 500_000)
    assert (cfg.clip.frames, cfg.clip.fps, cfg.clip.size) == (32, 10, 224)
    assert (cfg.clip.samples, cfg.clip.sample_rate, cfg.clip.words, cfg.clip.candidates) == (153_600, 48_000, 16, 5)
    assert (cfg.optim.learning_rate, cfg.optim.end_learning_rate, cfg.optim.warmup_steps) == (1e-4, 5e-5, 10_000)
    augment = cfg.augment
    assert (augment.crop, augment.area, augment.aspect, augment.flip) == ("inception", (0.08, 1.0), (0.5, 2.0), 0.5)
    assert (augment.colour, augment.brightness, augment.hue) == (0.8, 32 / 255, 0.2)
    assert (augment.saturation, augment.contrast, augment.audio_noise) == (0.4, 0.4, 0.0)
    assert (cfg.model.video.keep, cfg.model.audio.keep, cfg.loss.temperature) == (0.5, 0.5, 0.07)


# Akbari et al. 2021, appendices A.2.1, A.2.5, A.3 and A.3.1, and where they say nothing the released code: rate and
# warm-up (None: not stated), steps, batch, modality, frames, size, samples, Hz, DropToken's share, dropout, smoothing,
# mixup, balance, views.
FINETUNED = {
    "kinetics": (5e-3, 2_500, 100_000, 64, "video", 32, 320, None, None, 1.0, 0.5, 0.1, 0.0, "none", (4, 3)),
    "audioset": (0.2, 5_000, 50_000, 1024, "audio", None, None, 153_600, 24_000, 0.5, 0.0, 0.0, 5.0, "batch", (4, 1)),
    "imagenet": (0.08, None, 125_000, 512, "video", 4, 384, None, None, 1.0, 0.0, 0.1, 0.0, "none", (1, 1)),
}


@pytest.mark.parametrize("name", FINETUNED)
def test_the_papers_recipe_of_fine_tuning(name):
    cfg = load_experiment(ROOT / "experiments" / f"finetune_{name}.py")
    assert isinstance(cfg, FinetuneConfig)
    how, optim, (modality,) = cfg.classify, cfg.optim, cfg.classify.modalities
    found = (
        *(optim.learning_rate, optim.warmup_steps, cfg.steps, cfg.batch_size, modality),
        *(cfg.clip.frames, cfg.clip.size, cfg.clip.samples, cfg.clip.sample_rate),
        *(getattr(cfg.model, modality).keep, how.dropout, how.label_smoothing, how.mixup, how.balance),
        (cfg.evaluate.windows, cfg.evaluate.crops),
    )
    assert [x for x, y in zip(found, FINETUNED[name], strict=True) if y is not None] == [
        y for y in FINETUNED[name] if y is not None
    ]
    assert (optim.name, optim.momentum, optim.weight_decay, optim.layer_decay) == ("sgd", 0.9, 0.0, 1.0)
    assert (optim.end_learning_rate, optim.decay) == (0.0, "half_cosine")
    assert (optim.clip_norm, optim.clip) == (0.75, "towers")  # released code alone
    assert (how.head, how.average, how.labels) == ("linear", "logits", "multi" if name == "audioset" else "single")
    if modality == "video":
        augment = cfg.augment
        assert (augment.crop, augment.area, augment.aspect, augment.flip) == ("inception", (0.08, 1.0), (0.5, 2.0), 0.5)


def test_kinetics_sees_every_other_frame_of_25_a_second_and_audioset_6_4_seconds():
    kinetics, audioset = (
        load_experiment(ROOT / "experiments" / f"finetune_{name}.py") for name in ("kinetics", "audioset")
    )
    assert (kinetics.clip.fps, kinetics.clip.frames / kinetics.clip.fps) == (12.5, 2.56)
    assert audioset.clip.seconds == 6.4
    assert audioset.clip.short == kinetics.clip.short == "repeat"


def test_a_classifier_is_described_by_its_towers():
    (name, part), *others = describe(load_experiment(ROOT / "experiments" / "finetune_audioset.py")).items()
    assert (name, part.tokens, part.kept, others) == ("audio", 1_200, 600, [])
    assert part.trained > 85e6
    assert part.flops < part.flops_full / 2


def test_the_demo_keeps_what_its_captions_tell():
    augment = load_experiment(ROOT / "experiments" / "demo.py").augment
    assert (augment.crop, augment.flip, augment.colour, augment.resize) == ("centre", 0, 0, "host")


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_of_a_preset_are_those_on_record(name):
    """Path, shape, sharding over fsdp=8, and optimiser group of every parameter."""
    cfg = Config(model=PRESETS[name](), clip=ClipConfig(samples=8_192) if name == "tiny" else ClipConfig())
    params = abstract_state(cfg, Pretrain(cfg), sharding.make_mesh(MeshConfig(fsdp=8)))["params"]
    labels = jax.tree.leaves(groups(params, rules(cfg)))
    lines = []
    for (path, x), label in zip(jax.tree_util.tree_leaves_with_path(params), labels, strict=True):
        spec = ",".join(str(axis or "-") for axis in x.sharding.spec)
        lines.append(f"{path_of(path)}  {list(x.shape)}  ({spec})  {label}\n")
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text("".join(lines))
    assert golden.read_text() == "".join(lines), "see the top of this file if the change is wanted"
