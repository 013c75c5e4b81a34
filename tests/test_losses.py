"""The losses against float64 loops written straight from their definitions, and what else they promise."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vatt.losses import mil_nce, nce, sigmoid

FORMS = ("joint_once", "joint", "separate")
B, K, E = 8, 3, 6
log_sum_exp = np.logaddexp.reduce
few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)


def naive_mil_nce(z_v, z_t, mask, temperature, form):
    s = np.einsum("ie,jle->ijl", z_v, z_t) / temperature
    every, clips = range(len(s)), [i for i in range(len(s)) if mask[i].any()]
    total = 0.0
    for i in clips:
        num = log_sum_exp(s[i, i][mask[i]])
        row = [x for j in clips for x in s[i, j][mask[j]]]
        col = [x for j in every for x in s[j, i][mask[i]]]
        if form == "joint":
            total += log_sum_exp(row + col) - num
        elif form == "joint_once":  # the positives are in row already
            total += log_sum_exp(row + [x for j in every if j != i for x in s[j, i][mask[i]]]) - num
        else:
            total += (log_sum_exp(row) - num) / 2 + (log_sum_exp(col) - num) / 2
    return total / max(len(clips), 1)


def naive_sigmoid(z_v, z_t, mask, scale, bias):
    total, clips = 0.0, sum(m.any() for m in mask)
    for i in range(len(z_v)):
        for j, k in np.argwhere(mask):
            logit = scale * (z_v[i] @ z_t[j, k]) + bias
            total += np.log1p(np.exp(-logit if i == j else logit))
    return total / max(clips, 1)


def numeric_gradient(f, x, step=1e-5):
    """Central differences in float64 of f at the array x."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[index] += sign * step
            ends.append(f(moved))
        gradient[index] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embeddings(seed, batch=B, candidates=K, width=E):
    """Float64 embeddings that float32 holds exactly, so that both sides see the same numbers."""
    rng = np.random.default_rng(seed)
    z_v, z_t = unit(rng.normal(size=(batch, width))), unit(rng.normal(size=(batch, candidates, width)))
    return z_v.astype(np.float32).astype(np.float64), z_t.astype(np.float32).astype(np.float64)


def random_mask(seed, batch=B, candidates=K):
    """Some candidates and, as a rule, some whole clips missing; at least one candidate present."""
    rng = np.random.default_rng([seed, 1])
    mask = (rng.random((batch, candidates)) < 0.5) & (rng.random((batch, 1)) < 0.8)
    mask[rng.integers(batch), rng.integers(candidates)] = True
    return mask


def one_valid():
    mask = np.zeros((B, K), bool)
    mask[2, 1] = True
    return mask


MASKS = {
    "all": np.ones((B, K), bool),
    "random": random_mask(0),
    "random2": random_mask(1),
    "one": one_valid(),
    "one_clip": np.arange(B)[:, None].repeat(K, 1) == 5,
}


def close(got, want, rtol=1e-5):
    """Relative to the largest entry: entries near 0 are differences of larger ones."""
    got, want = np.asarray(got, np.float64), np.asarray(want)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * np.abs(want).max(initial=0))


@functools.partial(jax.jit, static_argnames="form")
def value_and_gradients(z_v, z_t, mask, temperature, form):
    return jax.value_and_grad(
        lambda v, t, tau: mil_nce(v, t, candidate_mask=mask, temperature=tau, form=form), argnums=(0, 1, 2)
    )(z_v, z_t, temperature)


@jax.jit
def sigmoid_and_gradients(z_v, z_t, mask, scale, bias):
    return jax.value_and_grad(lambda v, t, a, b: sigmoid(v, t, mask=mask, scale=a, bias=b), argnums=(0, 1, 2, 3))(
        z_v, z_t, scale, bias
    )


def f32(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MASKS)
def test_mil_nce_and_its_gradient_equal_float64_loops(form, name):
    mask, tau = MASKS[name], float(np.float32(0.07))
    z_v, z_t = embeddings(3)
    value, (g_v, g_t, g_tau) = value_and_gradients(*f32(z_v, z_t), mask, jnp.float32(tau), form)
    assert (value.dtype, value.shape) == (jnp.float32, ())
    close(value, naive_mil_nce(z_v, z_t, mask, tau, form))
    close(g_v, numeric_gradient(lambda x: naive_mil_nce(x, z_t, mask, tau, form), z_v))
    close(g_t, numeric_gradient(lambda x: naive_mil_nce(z_v, x, mask, tau, form), z_t))
    close(g_tau, numeric_gradient(lambda x: naive_mil_nce(z_v, z_t, mask, x, form), np.array(tau)))
    assert (np.asarray(g_t)[~mask] == 0).all()


@pytest.mark.parametrize("name", MASKS)
def test_sigmoid_and_its_gradient_equal_float64_loops(name):
    mask, scale, bias = MASKS[name], 10.0, -3.0
    z_v, z_t = embeddings(4)
    value, (g_v, g_t, g_scale, g_bias) = sigmoid_and_gradients(*f32(z_v, z_t), mask, *f32(scale, bias))
    assert (value.dtype, value.shape) == (jnp.float32, ())
    close(value, naive_sigmoid(z_v, z_t, mask, scale, bias))
    close(g_v, numeric_gradient(lambda x: naive_sigmoid(x, z_t, mask, scale, bias), z_v))
    close(g_t, numeric_gradient(lambda x: naive_sigmoid(z_v, x, mask, scale, bias), z_t))
    close(g_scale, numeric_gradient(lambda x: naive_sigmoid(z_v, z_t, mask, x, bias), np.array(scale)))
    close(g_bias, numeric_gradient(lambda x: naive_sigmoid(z_v, z_t, mask, scale, x), np.array(bias)))
    assert (np.asarray(g_t)[~mask] == 0).all()


@few
@given(seeds, st.sampled_from(FORMS), st.floats(0.03, 2))
def test_values_equal_float64_loops_on_random_masks(seed, form, tau):
    mask, tau = random_mask(seed), float(np.float32(tau))
    z_v, z_t = embeddings(seed)
    value, _ = value_and_gradients(*f32(z_v, z_t), mask, jnp.float32(tau), form)
    close(value, naive_mil_nce(z_v, z_t, mask, tau, form))
    value, _ = sigmoid_and_gradients(*f32(z_v, z_t), mask, *f32(1 / tau, -1))
    close(value, naive_sigmoid(z_v, z_t, mask, float(np.float32(1 / tau)), -1))


@pytest.mark.parametrize("form", FORMS)
def test_no_valid_candidate_gives_zero_loss_and_zero_gradient(form):
    z_v, z_t = f32(*embeddings(5))
    mask = jnp.zeros((B, K), bool)
    for z in (z_t, jnp.full_like(z_t, jnp.nan)):
        results = [
            value_and_gradients(z_v, z, mask, jnp.float32(0.07), form),
            sigmoid_and_gradients(z_v, z, mask, *f32(10, -10)),
        ]
        for leaf in jax.tree.leaves(results):
            assert (np.asarray(leaf) == 0).all()


@few
@given(seeds, st.sampled_from(FORMS), st.sampled_from([0.0, 1e30, math.inf, math.nan]))
def test_the_content_of_masked_candidates_has_no_effect(seed, form, content):
    z_v, z_t = f32(*embeddings(seed))
    mask = random_mask(seed)
    other = jnp.where(mask[..., None], z_t, content)
    for f, args in (
        (value_and_gradients, (mask, jnp.float32(0.07), form)),
        (sigmoid_and_gradients, (mask, *f32(10, -10))),
    ):
        jax.tree.map(np.testing.assert_array_equal, f(z_v, z_t, *args), f(z_v, other, *args))


def test_the_order_of_clips_and_candidates_has_no_effect():
    z_v, z_t = f32(*embeddings(7))
    mask = random_mask(7)
    rng = np.random.default_rng(7)
    clips, candidates = rng.permutation(B), rng.permutation(K)

    def moved(x):
        return x[clips][:, candidates]

    for f, args in (
        (value_and_gradients, (jnp.float32(0.07), "joint_once")),
        (value_and_gradients, (jnp.float32(0.07), "separate")),
        (sigmoid_and_gradients, f32(10, -10)),
    ):
        value, (g_v, g_t, *_) = f(z_v, z_t, mask, *args)
        value2, (g_v2, g_t2, *_) = f(z_v[clips], moved(z_t), moved(mask), *args)
        close(value2, value)
        close(g_v2, np.asarray(g_v)[clips])
        close(g_t2, moved(np.asarray(g_t)))


@few
@given(seeds)
def test_joint_once_lies_between_0_and_joint_and_joint_above_ln_2(seed):
    z_v, z_t = f32(*embeddings(seed))
    value = {
        form: float(value_and_gradients(z_v, z_t, random_mask(seed), jnp.float32(0.07), form)[0]) for form in FORMS
    }
    assert 0 <= value["joint_once"] <= value["joint"]
    assert value["joint"] >= math.log(2)
    assert 0 <= value["separate"] <= value["joint_once"]  # each direction has a part of the negatives


def test_perfect_alignment_reaches_the_floor():
    z = jnp.eye(B)
    floor = {form: float(nce(z, z, temperature=0.01, form=form)) for form in FORMS}
    assert floor == pytest.approx({"joint": math.log(2), "joint_once": 0, "separate": 0}, abs=1e-6)
    assert float(sigmoid(z, z, scale=40, bias=-20)) == pytest.approx(0, abs=1e-6)


def test_a_batch_of_one_clip_has_no_negatives():
    z_v, z_t = f32(*embeddings(8, batch=1))
    mask = jnp.ones((1, K), bool)
    for form, floor in (("joint", math.log(2)), ("joint_once", 0), ("separate", 0)):
        value, gradients = value_and_gradients(z_v, z_t, mask, jnp.float32(0.07), form)
        assert float(value) == pytest.approx(floor)
        assert all((np.asarray(g) == 0).all() for g in gradients)


def test_a_clip_without_text_still_serves_as_a_negative_video():
    z_v, z_t = f32(*embeddings(9))
    mask = jnp.ones((B, K), bool).at[0].set(False)
    for f, args in ((value_and_gradients, (jnp.float32(0.07), "joint")), (sigmoid_and_gradients, f32(10, -10))):
        value, (g_v, g_t, *_) = f(z_v, z_t, mask, *args)
        assert np.abs(g_v[0]).max() > 0
        assert (np.asarray(g_t[0]) == 0).all()
        assert float(value) != float(f(z_v.at[0].multiply(-1), z_t, mask, *args)[0])


@pytest.mark.parametrize("form", FORMS)
def test_nce_is_mil_nce_with_one_candidate(form):
    z_v, z_t = f32(*embeddings(10, candidates=1))
    mask = random_mask(10, candidates=1)
    for m in (mask, None):
        expected = mil_nce(z_v, z_t, candidate_mask=m, temperature=0.07, form=form)
        assert float(nce(z_v, z_t[:, 0], mask=None if m is None else m[:, 0], temperature=0.07, form=form)) == float(
            expected
        )
    close(
        nce(z_v, z_t[:, 0], temperature=0.07, form=form),
        naive_mil_nce(*embeddings(10, candidates=1), np.ones((B, 1), bool), 0.07, form),
    )


def test_sigmoid_takes_one_candidate_with_or_without_its_axis():
    z_v, z_t = f32(*embeddings(11, candidates=1))
    mask = random_mask(11, candidates=1)
    for m in (mask, None):
        assert float(sigmoid(z_v, z_t[:, 0], mask=None if m is None else m[:, 0], scale=10, bias=-10)) == float(
            sigmoid(z_v, z_t, mask=m, scale=10, bias=-10)
        )
    labels = 2 * jnp.eye(B) - 1  # SigLIP, algorithm 1
    close(
        sigmoid(z_v, z_t[:, 0], scale=10, bias=-10),
        -jax.nn.log_sigmoid(labels * (10 * z_v @ z_t[:, 0].T - 10)).sum() / B,
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_of_numbers_is_a_mask(form):
    z_v, z_t = f32(*embeddings(12))
    mask = random_mask(12)
    for kind in (np.int32, np.float32):
        assert float(mil_nce(z_v, z_t, candidate_mask=mask.astype(kind), temperature=0.07, form=form)) == float(
            mil_nce(z_v, z_t, candidate_mask=mask, temperature=0.07, form=form)
        )


@pytest.mark.parametrize("form", FORMS)
def test_logits_of_1000_do_not_overflow(form):
    z_v, z_t = embeddings(13)
    mask, tau = random_mask(13), float(np.float32(0.001))
    for sign in (1, -1):  # -1: the positives are the least similar
        z = sign * np.broadcast_to(z_v[:, None], z_t.shape) + 0 * z_t
        value, gradients = value_and_gradients(*f32(z_v, z), mask, jnp.float32(tau), form)
        close(value, naive_mil_nce(z_v, z, mask, tau, form))
        assert all(np.isfinite(g).all() for g in gradients)
    value, gradients = sigmoid_and_gradients(*f32(z_v, z_t), mask, *f32(1000, -10))
    assert all(np.isfinite(g).all() for g in (value, *gradients))


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_embeddings_accumulate_in_float32(form):
    z_v, z_t = (jnp.asarray(x, jnp.bfloat16) for x in embeddings(14, width=256))
    exact = [np.asarray(x, np.float64) for x in (z_v, z_t)]
    mask, tau = random_mask(14), float(np.float32(0.07))
    value, (g_v, g_t, _) = value_and_gradients(z_v, z_t, mask, jnp.float32(tau), form)
    assert (value.dtype, g_v.dtype, g_t.dtype) == (jnp.float32, jnp.bfloat16, jnp.bfloat16)
    close(value, naive_mil_nce(*exact, mask, tau, form))
    with jax.disable_jit():  # under jit, XLA may keep more precision than it is asked for
        close(mil_nce(z_v, z_t, candidate_mask=mask, temperature=tau, form=form), value)
    wide = value_and_gradients(*f32(z_v, z_t), mask, jnp.float32(tau), form)[1]
    close(g_v, wide[0], rtol=2**-8)  # rounded once, at the end
    close(g_t, wide[1], rtol=2**-8)
    with jax.disable_jit():
        value = sigmoid(z_v, z_t, mask=mask, scale=10, bias=-3)
    assert value.dtype == jnp.float32
    close(value, naive_sigmoid(*exact, mask, 10, -3))


def test_eight_devices_equal_one():
    z_v, z_t = f32(*embeddings(15, batch=32))
    mask = random_mask(15, batch=32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:8])
    split = NamedSharding(mesh, PartitionSpec("data"))
    for f, args in (
        *((value_and_gradients, (jnp.float32(0.07), form)) for form in FORMS),
        (sigmoid_and_gradients, f32(10, -10)),
    ):
        one = f(z_v, z_t, mask, *args)
        eight = f(*(jax.device_put(x, split) for x in (z_v, z_t, mask)), *args)
        assert len(eight[1][0].sharding.device_set) == 8
        jax.tree.map(functools.partial(close, rtol=2e-6), eight, jax.tree.map(np.asarray, one))


def test_what_cannot_work_is_refused():
    z_v, z_t = f32(*embeddings(16))
    with pytest.raises(ValueError, match="unknown form 'both'; use one of joint_once, joint, separate"):
        mil_nce(z_v, z_t, temperature=0.07, form="both")
    with pytest.raises(ValueError, match="unknown form"):
        nce(z_v, z_t[:, 0], temperature=0.07, form="sigmoid")
    with pytest.raises(ValueError, match="mil_nce takes"):
        nce(z_v, z_t, temperature=0.07, form="joint")
    for wrong in (z_t[:4], z_t[..., :4], z_t[:, 0]):
        with pytest.raises(ValueError, match="have shapes"):
            mil_nce(z_v, wrong, temperature=0.07, form="joint")
    for mask in (jnp.ones((B, 1), bool), jnp.ones(K, bool)):  # shapes that would broadcast
        with pytest.raises(ValueError, match="the mask is"):
            mil_nce(z_v, z_t, candidate_mask=mask, temperature=0.07, form="joint")
    with pytest.raises(ValueError, match="the mask is"):
        sigmoid(z_v, z_t, mask=jnp.ones(B, bool), scale=10, bias=-10)


@pytest.mark.parametrize("form", ["joint", "joint_once", "separate", "sigmoid"])
def test_a_masked_anchor_takes_no_part_and_leaves_the_loss_of_the_rest(form):
    rng = np.random.default_rng(0)
    v, t = rng.normal(size=(6, 4)), rng.normal(size=(6, 3, 4))
    v, t = v / np.linalg.norm(v, axis=-1, keepdims=True), t / np.linalg.norm(t, axis=-1, keepdims=True)
    mask, anchors = rng.random((6, 3)) < 0.7, np.array([True, False, True, True, False, True])

    def loss(v, t, mask, anchors=None):
        v, t, mask = jnp.asarray(v, jnp.float32), jnp.asarray(t, jnp.float32), jnp.asarray(mask)
        if form == "sigmoid":
            return sigmoid(v, t, mask=mask, anchor_mask=anchors, scale=10.0, bias=-3.0)
        return mil_nce(v, t, candidate_mask=mask, anchor_mask=anchors, temperature=0.1, form=form)

    rest = loss(v[anchors], t[anchors], mask[anchors])
    v[~anchors] = np.nan
    assert float(loss(v, t, mask, jnp.asarray(anchors))) == pytest.approx(float(rest), rel=1e-6)
