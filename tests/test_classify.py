"""Classification: losses against their formulas, what is trained and how fast, and how views are averaged."""

import dataclasses
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vatt import sharding
from vatt.config import ClassifyConfig, ClipConfig, FinetuneConfig, MeshConfig, OptimConfig
from vatt.errors import ConfigError
from vatt.evals.classification import averaged, score
from vatt.models import lora
from vatt.presets import tiny
from vatt.tasks.classify import Classify, balance, binary_cross_entropy, cross_entropy, mixup
from vatt.train.initial import start_from
from vatt.train.optim import groups, layer_scales, make_optimizer, path_of, rules
from vatt.train.step import make_state, make_step
from vatt.train.weights import Weights

CLIP = ClipConfig(frames=2, fps=4, size=32, sample_rate=4_000, samples=1_024, words=6)
CLASSES = ("red", "green", "blue")
MESH = sharding.make_mesh(MeshConfig(), jax.devices()[:1])


def config(**more) -> FinetuneConfig:
    small = replace(tiny().video.encoder, depth=more.pop("depth", 1))
    model = replace(tiny(), video=replace(tiny().video, encoder=small), audio=replace(tiny().audio, encoder=small))
    classify = ClassifyConfig(**{k: more.pop(k) for k in list(more) if k in ClassifyConfig.__dataclass_fields__})
    optim = OptimConfig(**{"name": "sgd", "learning_rate": 0.1, "warmup_steps": 0, **more.pop("optim", {})})
    init = more.pop("init", "runs/x" if classify.head == "text" else "")
    return FinetuneConfig(
        steps=8, batch_size=6, clip=CLIP, model=model, classify=classify, optim=optim, init=init, **more
    )


def batch(cfg: FinetuneConfig, seed: int = 0, B: int = 6) -> dict:
    rng, P = np.random.default_rng(seed), cfg.canvas
    out = {
        "video": rng.integers(0, 256, (B, 2, P * 3 // 2, P), dtype=np.uint8),
        "video_box": np.tile(np.array([0, 0, P, P], np.float32), (B, 1)),
        "video_colour": np.zeros(B, np.int32),
        "video_mask": np.ones(B, bool),
        "audio": rng.integers(-9_000, 9_000, (B, 1_024)).astype(np.int16),
        "audio_mask": np.ones(B, bool),
        "label": np.eye(3, dtype=np.float32)[rng.integers(0, 3, B)],
    }
    return {k: v for k, v in out.items() if k == "label" or k.split("_")[0] in cfg.classify.modalities}


def trained(cfg: FinetuneConfig, steps: int = 1) -> tuple[dict, dict, dict]:
    """Parameters before and after some steps, and the last metrics."""
    task = Classify(cfg, CLASSES)
    state = make_state(cfg, task, MESH)
    before, step, metrics = jax.device_get(state["params"]), make_step(cfg, task, MESH), {}
    for i in range(steps):
        with jax.set_mesh(MESH):
            state, metrics = step(state, sharding.put_batch(batch(cfg, i), MESH))
    return before, jax.device_get(state["params"]), jax.device_get(metrics)


def flat(tree) -> dict:
    return {path_of(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def test_cross_entropies_are_their_formulas():
    rng = np.random.default_rng(0)
    logits, hot = rng.normal(size=(5, 4)) * 3, np.eye(4)[[0, 3, 1, 1, 2]]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = 0.9 * hot + 0.1 / 4
    np.testing.assert_allclose(cross_entropy(jnp.array(logits), jnp.array(hot)), -np.log((p * hot).sum(1)), rtol=1e-5)
    np.testing.assert_allclose(
        cross_entropy(jnp.array(logits), jnp.array(hot), smoothing=0.1), -(target * np.log(p)).sum(1), rtol=1e-5
    )
    many = rng.random((5, 4)) < 0.5
    s = 1 / (1 + np.exp(-logits))
    expected = -np.where(many, np.log(s), np.log(1 - s)).sum(1)
    np.testing.assert_allclose(
        binary_cross_entropy(jnp.array(logits), jnp.array(many, jnp.float32)), expected, rtol=1e-5
    )


def test_a_clip_counts_by_how_rare_its_labels_are():
    labels = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], np.float32)  # three, one and none
    np.testing.assert_allclose(balance(jnp.array(labels)), [1 / 3, (1 / 3 + 1) / 2, 1 / 3, 0], rtol=1e-6)


def test_mixup_mixes_clip_and_label_by_the_same_share():
    B = 64
    values = np.arange(B, dtype=np.float32)
    given = {"audio": jnp.array(np.tile(values[:, None], (1, 3))), "audio_mask": jnp.arange(B) != 1}
    mixed, labels = mixup(given, jnp.eye(B), 5.0, jax.random.key(0))
    own = np.diag(labels)
    np.testing.assert_allclose(np.asarray(labels).sum(1), 1, rtol=1e-6)
    expected = own * values + (1 - own) * np.roll(values, 1)
    np.testing.assert_allclose(mixed["audio"], np.tile(expected[:, None], (1, 3)), rtol=1e-4)
    assert np.asarray(mixed["audio_mask"]).all()  # what clip 1 lacks, its neighbours have
    assert len(set(own.round(6))) > 50
    assert 0.4 < own.mean() < 0.6  # Beta(5, 5)
    assert 0.1 < own.std() < 0.2  # 0.151


@pytest.mark.parametrize(
    ("modalities", "how"),
    [
        (("video",), {"label_smoothing": 0.1}),
        (("audio",), {"labels": "multi", "mixup": 5.0, "balance": "batch"}),
        (("video", "audio"), {"mixup": 0.4, "dropout": 0.5}),
    ],
)
def test_every_kind_of_classifier_trains(modalities, how):
    before, after, metrics = trained(config(modalities=modalities, **how))
    assert np.isfinite(metrics["loss"])
    moved = {path for path, x in flat(after).items() if not np.array_equal(x, flat(before)[path])}
    assert {path.split("/")[1] for path in moved if path.startswith("encoders")} == set(modalities)
    assert {"classifier/kernel", "classifier/bias"} <= moved
    assert not any("text" in path for path in flat(after))


def test_a_multi_label_classifier_starts_with_every_class_as_likely_as_one_in_so_many():
    params, _ = Classify(config(labels="multi"), CLASSES).init(jax.random.key(0))
    np.testing.assert_allclose(1 / (1 + np.exp(-np.asarray(params["classifier"]["bias"]))), 1 / 3, rtol=1e-5)


def test_what_a_clip_lacks_says_nothing():
    cfg = config(modalities=("video", "audio"))
    task = Classify(cfg, CLASSES)
    params, stats = task.init(jax.random.key(0))
    given = batch(cfg) | {"audio_mask": np.arange(6) != 2}
    other = given | {"audio": np.where((np.arange(6) == 2)[:, None], 77, given["audio"]).astype(np.int16)}
    logits = jax.jit(task.logits)
    np.testing.assert_array_equal(logits(params, stats, given), logits(params, stats, other))
    silent = logits(params, stats, given | {"audio_mask": np.zeros(6, bool)})
    kernel, bias = params["classifier"]["kernel"], params["classifier"]["bias"]
    alone = config(modalities=("video",))
    towers = {name: {"video": params[name]["video"]} for name in ("tokenizers", "encoders")}
    only = {name: given[name] for name in batch(alone)}
    params = towers | {"classifier": {"kernel": kernel[:96], "bias": bias}}
    video = jax.jit(Classify(alone, CLASSES).logits)(params, {}, only)
    np.testing.assert_allclose(silent, video, atol=1e-5)


def test_lora_adds_a_product_to_the_towers_matrices_and_trains_nothing_else():
    cfg = config(lora_rank=4, lora_alpha=8.0)
    params, stats = Classify(cfg, CLASSES).init(jax.random.key(0))
    plain = {name: value for name, value in params.items() if name != "lora"}
    given = batch(cfg)
    same = jax.jit(Classify(config(), CLASSES).logits)(plain, stats, given)
    np.testing.assert_array_equal(jax.jit(Classify(cfg, CLASSES).logits)(params, stats, given), same)
    before, after, metrics = trained(cfg, steps=2)
    moved = {path for path, x in flat(after).items() if not np.array_equal(x, flat(before)[path])}
    assert {path.split("/")[0] for path in moved} == {"lora", "classifier"}
    up = after["lora"]["encoders"]["video"]["blocks"]["up"]["kernel"]
    merged = lora.merge({k: v for k, v in after.items() if k != "lora"}, after["lora"], 2.0)
    expected = after["encoders"]["video"]["blocks"]["up"]["kernel"] + 2.0 * np.einsum("lir,lro->lio", up["a"], up["b"])
    np.testing.assert_allclose(merged["encoders"]["video"]["blocks"]["up"]["kernel"], expected, rtol=1e-5, atol=1e-7)
    labels = groups(before, rules(cfg))
    assert labels["encoders"]["video"]["blocks"]["up"]["kernel"] == "frozen"
    assert metrics["grad_norm"] > 0


def test_what_lora_learned_goes_into_a_run_without_it_and_stays_as_it_is_in_one_alike():
    source = config(lora_rank=4, lora_alpha=8.0, init="runs/x")
    task = Classify(source, CLASSES)
    params, stats = task.init(jax.random.key(1))
    params["lora"] = jax.tree.map(lambda x: x + 0.1, params["lora"])  # it has learned something
    found, kernel = Weights(task, 2, params, stats), lambda at: at["encoders"]["video"]["blocks"]["up"]["kernel"]
    for rank, alpha in ((0, 8.0), (2, 8.0), (4, 16.0), (4, 8.0)):
        cfg = config(lora_rank=rank, lora_alpha=alpha, init="runs/x")
        new = Classify(cfg, CLASSES)
        fresh = dict(zip(("params", "stats"), new.init(jax.random.key(0)), strict=True))
        state, origins = start_from(fresh, found, cfg, CLASSES)
        np.testing.assert_allclose(kernel(new.merged(state["params"])), kernel(task.merged(params)), rtol=1e-6)
        assert np.array_equal(kernel(state["params"]), kernel(params)) == ((rank, alpha) == (4, 8.0))
        assert not any(origin.how == "unused" for origin in origins)


def test_a_layer_learns_slower_the_deeper_it_lies():
    _, plain, _ = trained(config(depth=2))
    before, slow, _ = trained(config(depth=2, optim={"layer_decay": 0.5}))
    full = {path: flat(plain)[path] - x for path, x in flat(before).items()}
    decayed = {path: flat(slow)[path] - x for path, x in flat(before).items()}
    for path, change in full.items():
        if path.startswith("tokenizers/"):
            scale = 0.5**3
        elif "/blocks/" in path:
            scale = np.array([0.5**2, 0.5]).reshape(-1, *[1] * (change.ndim - 1))
        else:
            scale = 1
        np.testing.assert_allclose(decayed[path], scale * change, rtol=1e-3, atol=1e-7, err_msg=path)
    scales = layer_scales(config(depth=2, optim={"layer_decay": 0.5}), before)
    assert scales["classifier"]["kernel"] == 1


def test_sgd_is_momentum_without_nesterov():
    cfg = config(optim={"momentum": 0.5, "learning_rate": 0.1, "end_learning_rate": 0.1})
    task = Classify(cfg, CLASSES)
    state, step = make_state(cfg, task, MESH), make_step(cfg, task, MESH)
    bias = [np.asarray(state["params"]["classifier"]["bias"])]
    given = batch(cfg)
    for _ in range(2):
        with jax.set_mesh(MESH):
            state, _ = step(state, sharding.put_batch(given, MESH))
        bias.append(np.asarray(state["params"]["classifier"]["bias"]))
    velocity = np.asarray(jax.tree.leaves(state["opt"].inner_states["trained"].inner_state[1].trace["classifier"])[0])
    np.testing.assert_allclose(bias[2] - bias[1], -0.1 * velocity, rtol=1e-4)
    first = (bias[0] - bias[1]) / 0.1
    assert not np.allclose(velocity, first)  # it remembers half of the first gradient


def test_the_gradient_of_all_or_of_the_towers_alone_is_clipped():
    params = {"classifier": {"kernel": jnp.zeros(2)}, "encoders": {"video": {"norm": {"bias": jnp.zeros(2)}}}}
    tower = {"video": {"norm": {"bias": jnp.array([3.0, 4.0])}}}
    grads = {"classifier": {"kernel": jnp.array([0.0, 12.0])}, "encoders": tower}
    for clip, of_head, of_tower in (("towers", 12.0, 0.5), ("all", 12 / 26, 5 / 26)):
        cfg = config(optim={"clip_norm": 0.5, "clip": clip, "learning_rate": 1.0})
        optimizer = make_optimizer(cfg, params)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        updates = jax.device_get(updates)
        assert np.linalg.norm(updates["classifier"]["kernel"]) == pytest.approx(of_head, rel=1e-5)
        assert np.linalg.norm(updates["encoders"]["video"]["norm"]["bias"]) == pytest.approx(of_tower, rel=1e-5)


def test_what_is_frozen_stays_and_a_pattern_that_matches_nothing_is_an_error():
    before, after, _ = trained(config(optim={"freeze": (r"tokenizers/.*", r"encoders/video/.*")}))
    moved = {path for path, x in flat(after).items() if not np.array_equal(x, flat(before)[path])}
    assert moved == {"classifier/kernel", "classifier/bias"}
    with pytest.raises(ConfigError, match=r"freeze 'encoder/video/\.\*' matches no parameter.*encoders/video"):
        trained(config(optim={"freeze": (r"encoder/video/.*",)}))


def test_views_are_averaged_as_logits_or_as_probabilities():
    logits = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32) * 4
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(2, keepdims=True)
    np.testing.assert_allclose(averaged(logits, labels="single", average="logits"), logits.mean(1), rtol=1e-5)
    np.testing.assert_allclose(averaged(logits, labels="single", average="probabilities"), p.mean(1), rtol=1e-6)
    s = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(averaged(logits, labels="multi", average="probabilities"), s.mean(1), rtol=1e-6)


def test_one_sure_view_outweighs_two_others_as_logits_but_not_as_probabilities():
    views = [[9.0, 0.0], [-2.0, 0.0], [-2.0, 0.0]]
    logits, target = np.array([views, [[2.0, 0.0]] * 3], np.float32), np.eye(2)[[1, 0]]
    found = {}
    for how in ("logits", "probabilities"):
        scores = averaged(logits, labels="single", average=how)
        found[how] = score(scores, target, list("ab"), labels="single").named()["top_1"]
    assert found == {"logits": 50, "probabilities": 100}


def test_bad_combinations_are_refused():
    for wrong, says in (
        ({"modalities": ()}, "empty"),
        ({"modalities": ("text",)}, "no classifier"),
        ({"labels": "multi", "label_smoothing": 0.1}, "label_smoothing"),
        ({"template": "a photo"}, "no {}"),
        ({"wise": (0.5,)}, "head text"),
        ({"head": "text", "modalities": ("audio",)}, "video alone"),
        ({"head": "text", "init": ""}, "set init"),
    ):
        with pytest.raises(ConfigError, match=says):
            config(**wrong)
    with pytest.raises(ConfigError, match="not a regular expression"):
        config(optim={"freeze": ("(",)})
    with pytest.raises(ConfigError, match=r"checkpoint.best 'mAP' is not measured"):
        dataclasses.replace(config(), checkpoint=replace(config().checkpoint, best="mAP"))
