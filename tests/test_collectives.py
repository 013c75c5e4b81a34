"""What the losses communicate. A change that makes XLA gather a logits matrix shows here, not on the bill."""

import math
import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vatt.losses import mil_nce, sigmoid

B, K, E = 64, 5, 32
COLLECTIVE = re.compile(
    r"= (\S.*?) (all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute|collective-broadcast)"
    r"(?:-start)?\("
)


def collectives(loss):
    """[(kind, numbers in its result)] of value and gradient, the batch split over 8 devices."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:8])
    split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    z_v = jax.ShapeDtypeStruct((B, E), jnp.float32, sharding=split)
    z_t = jax.ShapeDtypeStruct((B, K, E), jnp.float32, sharding=split)
    mask = jax.ShapeDtypeStruct((B, K), bool, sharding=split)
    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)), out_shardings=(whole, (split, split)))
    found = []
    for shapes, kind in COLLECTIVE.findall(step.lower(z_v, z_t, mask).compile().as_text()):
        dims = re.findall(r"\[([\d,]*)\]", shapes)  # more than one where XLA has joined several
        found.append((kind, sum(math.prod(int(n) for n in d.split(",") if n) for d in dims)))
    return found


# Seen on 8 devices (jax 0.10.2), in every form: 3 all-gathers, 4 all-reduces. The videos are gathered [B E],
# K times less than the candidates, and their gradient is summed [B E]; all else is at most one number a clip:
# the maximum and the sum of each row's log-sum-exp, their way back, the count of clips with text, the loss.
@pytest.mark.parametrize("form", ["joint_once", "joint", "separate"])
def test_mil_nce_communicates_embeddings_not_logits(form):
    found = collectives(lambda v, t, m: mil_nce(v, t, candidate_mask=m, temperature=0.07, form=form))
    count = Counter(kind for kind, _ in found)
    assert set(count) <= {"all-gather", "all-reduce"}, found
    assert 1 <= count["all-gather"] <= 3, found
    assert 1 <= count["all-reduce"] <= 4, found
    assert max(size for _, size in found) <= B * E + 1, found
    assert sum(size > B for _, size in found) <= 2, found


# Seen: 1 all-gather and 2 all-reduces.
def test_sigmoid_communicates_embeddings_not_logits():
    found = collectives(lambda v, t, m: sigmoid(v, t, mask=m, scale=10.0, bias=-10.0))
    count = Counter(kind for kind, _ in found)
    assert set(count) <= {"all-gather", "all-reduce"}, found
    assert 1 <= count["all-gather"] <= 1, found
    assert 1 <= count["all-reduce"] <= 2, found
    assert max(size for _, size in found) <= B * E + 1, found
