"""Batch norm over a batch with holes, against float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vatt.models.heads import EPS, MOMENTUM, BatchNorm, unit


def test_batch_norm_equals_numpy_on_the_valid_rows():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 5, (16, 7))
    mask = rng.random(16) < 0.6
    module = BatchNorm(7, rngs=nnx.Rngs(0))
    module.scale[...], module.bias[...] = jnp.full(7, 1.5), jnp.full(7, -0.5)
    got = module(jnp.asarray(x, jnp.float32), mask=jnp.asarray(mask), train=True)
    mean, var = x[mask].mean(0), x[mask].var(0)
    np.testing.assert_allclose(got, (x - mean) / np.sqrt(var + EPS) * 1.5 - 0.5, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(module.mean[...], (1 - MOMENTUM) * mean, rtol=1e-5)
    np.testing.assert_allclose(module.var[...], MOMENTUM + (1 - MOMENTUM) * var, rtol=1e-5)


def test_a_batch_without_a_valid_row_leaves_the_statistics_alone():
    def loss(x):
        module = BatchNorm(3, rngs=nnx.Rngs(0))
        module.mean[...], module.var[...] = jnp.full(3, 2.0), jnp.full(3, 4.0)
        y = module(x, mask=jnp.zeros(4, bool), train=True)
        return y.sum(), (module.mean[...], module.var[...])

    (value, (mean, var)), grad = jax.value_and_grad(loss, has_aux=True)(jnp.full((4, 3), 2.0))
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    np.testing.assert_array_equal(mean, np.full(3, 2.0))
    np.testing.assert_array_equal(var, np.full(3, 4.0))


def test_evaluation_uses_the_running_statistics_and_changes_nothing():
    module = BatchNorm(3, rngs=nnx.Rngs(0))
    module.mean[...] = jnp.full(3, 1.0)
    x = jnp.arange(12.0).reshape(4, 3)
    np.testing.assert_allclose(module(x, mask=None, train=False), (x - 1) / np.sqrt(1 + EPS), rtol=1e-6)
    np.testing.assert_array_equal(module.mean[...], np.full(3, 1.0))


def test_unit_has_length_one_and_a_gradient_at_zero():
    x = np.random.default_rng(1).normal(size=(5, 9)).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(unit(jnp.asarray(x)), axis=-1), 1, rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(jnp.zeros((2, 3)))).all()
