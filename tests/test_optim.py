"""The learning-rate curve against its formula, and which parameters each rule touches."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.test_models import init
from vatt.config import ClipConfig, Config, OptimConfig
from vatt.presets import tiny
from vatt.train.optim import groups, make_optimizer, rules, schedule

CLIP = ClipConfig(frames=4, fps=4, size=32, sample_rate=4_000, samples=1_024, candidates=3, words=6)


def test_quarter_cosine_is_the_papers_curve():
    rate = schedule(OptimConfig(), 500_000)
    assert rate(0) == 0
    assert float(rate(5_000)) == pytest.approx(0.5e-4)
    assert float(rate(10_000)) == pytest.approx(1e-4)
    assert float(rate(255_000)) == pytest.approx(5e-5 * (1 + math.cos(math.pi / 4)), rel=1e-5)
    assert float(rate(500_000)) == pytest.approx(5e-5)
    # Steepest at the end: a half cosine to zero over twice the length, cut half-way.
    for step in (10_000, 100_000, 300_000, 499_999):
        p = (step - 10_000) / 490_000
        assert float(rate(step)) == pytest.approx(1e-4 * (1 + math.cos(math.pi * p / 2)) / 2, rel=1e-5)


def test_half_cosine_is_the_released_curve():
    rate = schedule(OptimConfig(decay="half_cosine", warmup_steps=5_000), 500_000)
    assert float(rate(252_500)) == pytest.approx(7.5e-5, rel=1e-5)
    assert float(rate(500_000)) == pytest.approx(5e-5)


def test_no_warm_up_starts_at_full_rate():
    assert float(schedule(OptimConfig(warmup_steps=0), 10)(0)) == pytest.approx(1e-4)


def test_a_parameter_without_a_rule_is_an_error():
    with pytest.raises(ValueError, match="encoders/video/new_thing"):
        groups({"encoders": {"video": {"new_thing": jnp.zeros(3)}}}, rules(Config()))


def one_step(cfg: Config, grads_of=jnp.ones_like):
    params, _ = init(cfg.model, cfg.clip, jax.random.key(0))
    optimizer = make_optimizer(cfg, params)
    updates, _ = optimizer.update(jax.tree.map(grads_of, params), optimizer.init(params), params)
    return params, updates


def test_only_matrices_decay():
    plain = Config(model=tiny(), clip=CLIP, optim=OptimConfig(warmup_steps=0, name="adamw"))
    decayed = replace(plain, optim=replace(plain.optim, weight_decay=0.1))
    params, without = one_step(plain)
    _, with_decay = one_step(decayed)
    for (path, w), a, b in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(without), jax.tree.leaves(with_decay), strict=True
    ):
        expected = -1e-4 * 0.1 * w if path[-1].key == "kernel" else jnp.zeros_like(w)
        np.testing.assert_allclose(b - a, expected, rtol=1e-3, atol=1e-9)


def test_a_frozen_word_table_neither_moves_nor_has_moments():
    model = tiny()
    frozen = Config(
        model=replace(model, text=replace(model.text, table="frozen")), clip=CLIP, optim=OptimConfig(warmup_steps=0)
    )
    params, updates = one_step(frozen)
    assert not updates["tokenizers"]["text"]["table"].any()
    assert updates["tokenizers"]["text"]["project"]["kernel"].all()
    rows = params["tokenizers"]["text"]["table"].shape
    moments = jax.tree.leaves(make_optimizer(frozen, params).init(params))
    assert all(x.shape != rows for x in moments)
    _, updates = one_step(replace(frozen, model=model))
    assert updates["tokenizers"]["text"]["table"].any()


def test_clipping_bounds_the_gradient_norm():
    cfg = Config(model=tiny(), clip=CLIP, optim=OptimConfig(warmup_steps=0, clip_norm=1.0, eps=1e9))
    # With a huge epsilon Adam's update is proportional to the clipped gradient.
    _, updates = one_step(cfg, lambda x: jnp.full_like(x, 3.0))
    assert float(optax.global_norm(updates)) * 1e9 / 1e-4 == pytest.approx(1.0, rel=1e-3)
