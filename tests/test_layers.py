"""The encoder: what must not change its result, and what must."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vatt.config import EncoderConfig, ModelConfig
from vatt.models.cost import flops
from vatt.models.layers import Encoder
from vatt.models.tokenizers import relative_bucket

B, N, D = 3, 5, 16
VIT = EncoderConfig(depth=3, width=D, mlp_width=32, heads=2, dropout=0.0)
T5 = dataclasses.replace(VIT, style="t5")


def make(cfg: EncoderConfig, **model) -> Encoder:
    return Encoder(cfg, ModelConfig(**model), rngs=nnx.Rngs(0))


def inputs():
    r = np.random.default_rng(0)
    x = jnp.asarray(r.normal(size=(B, N, D)), jnp.float32)
    mask = jnp.arange(N)[None] < jnp.array([5, 3, 1])[:, None]
    bias = jnp.asarray(r.normal(size=(2, N, N)), jnp.float32)
    return x, mask, bias


@functools.cache
def value_and_grads(cfg: EncoderConfig, layers: str, remat: str = "none"):
    definition, params = nnx.split(make(cfg, layers=layers, remat=remat), nnx.Param)
    x, mask, bias = inputs()

    def loss(params, x):
        out = nnx.merge(definition, params)(x, mask=mask, bias=bias, bias_layers="first", key=jax.random.key(3))
        return jnp.square(out).sum() + out[:, 0].sum()

    return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x)


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5), a, b)


@pytest.mark.parametrize("cfg", [dataclasses.replace(VIT, dropout=0.3), T5], ids=["vit with dropout", "t5"])
@pytest.mark.parametrize(("layers", "remat"), [("unroll", "none"), ("scan", "full")])
def test_scan_unroll_and_remat_agree(cfg, layers, remat):
    close(value_and_grads(cfg, "scan"), value_and_grads(cfg, layers, remat))


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("style", ["vit", "t5"])
@pytest.mark.parametrize("bias_layers", ["first", "all"])
def test_the_last_block_alone_for_agg_equals_all_tokens(depth, style, bias_layers):
    cfg = dataclasses.replace(VIT, depth=depth, style=style)
    encoder = make(cfg)
    x, mask, bias = inputs()
    got = encoder(x, mask=mask, bias=bias, bias_layers=bias_layers)
    assert got.shape == (B, D)

    padding = jnp.where(mask[:, None, None, :], 0.0, -1e9)
    rows = x.reshape(-1, D)
    definition, params = nnx.split(encoder.blocks)
    for i in range(depth):
        block = nnx.merge(definition, jax.tree.map(lambda w, i=i: w[i], params))
        extra = padding + bias[None] if bias_layers == "all" or i == 0 else padding
        rows = block(rows, B, bias=extra, key=None)
    np.testing.assert_allclose(got, encoder.norm(rows).reshape(B, N, D)[:, 0], rtol=1e-4, atol=1e-5)


def test_the_last_block_costs_less():
    full = 2 * N * (4 * D * D + 2 * D * 32) + 4 * N * N * D  # of one block, one clip
    last = 2 * (2 * D * D + 2 * D * 32) + 2 * N * 2 * D * D + 4 * N * D
    x, _, _ = inputs()
    for depth in (1, 3):
        encoder = make(dataclasses.replace(VIT, depth=depth))
        assert flops(encoder, x) == B * ((depth - 1) * full + last)


def test_padded_tokens_change_nothing():
    x, mask, bias = inputs()
    encoder = make(T5)
    noise = jnp.where(mask[..., None], x, 100.0)
    np.testing.assert_allclose(
        encoder(x, mask=mask, bias=bias), encoder(noise, mask=mask, bias=bias), rtol=1e-5, atol=1e-6
    )


def test_unmasked_tokens_count():
    x, mask, _ = inputs()
    encoder = make(VIT)
    changed = encoder(x, mask=mask) - encoder(x.at[:, 2].multiply(-1.0), mask=mask)
    assert jnp.abs(changed).max(1)[0] > 1e-3  # the clip whose third token is real
    assert jnp.abs(changed).max(1)[2] == 0  # and one whose third token is padding


def test_relative_bias_reaches_the_layers_it_names():
    x, _, bias = inputs()
    encoder = make(T5)
    first, everywhere = (encoder(x, bias=bias, bias_layers=layers) for layers in ("first", "all"))
    assert jnp.abs(first - encoder(x)).max() > 1e-3
    assert jnp.abs(first - everywhere).max() > 1e-3


def test_dropout_needs_a_key():
    x, _, _ = inputs()
    encoder = make(dataclasses.replace(VIT, dropout=0.5))
    np.testing.assert_array_equal(encoder(x), make(VIT)(x))
    one, two = encoder(x, key=jax.random.key(0)), encoder(x, key=jax.random.key(1))
    assert jnp.abs(one - two).max() > 1e-2
    assert (one == 0).any()  # the output is dropped too


def t5_bucket(offset: int, buckets: int, max_distance: int) -> int:
    """Raffel et al. 2020, bidirectional, one offset at a time."""
    bucket, buckets = (buckets // 2 if offset > 0 else 0), buckets // 2
    n, exact = abs(offset), buckets // 2
    if n < exact:
        return bucket + n
    far = exact + int(math.log(n / exact) / math.log(max_distance / exact) * (buckets - exact))
    return bucket + min(far, buckets - 1)


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 64), (32, 128), (8, 20)])
def test_relative_buckets_are_those_of_t5(buckets, max_distance):
    # Where the logarithm is a whole number its rounding decides; those distances are left out.
    def whole(n: int) -> bool:
        exact = buckets // 4
        steps = math.log(max(n, 1) / exact) / math.log(max_distance / exact) * exact
        return n > exact and abs(steps - round(steps)) < 1e-5

    offsets = [n for n in range(-90, 91) if not whole(abs(n))]
    got = relative_bucket(jnp.array(offsets), buckets, max_distance)
    assert got.tolist() == [t5_bucket(n, buckets, max_distance) for n in offsets]
