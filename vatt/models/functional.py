"""NNX modules as functions of plain nested dicts: `init` makes parameters and statistics, `merge` puts them back.

A module is named by its class and arguments, which must be hashable, so that its definition is traced once.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


def init(cls: Callable[..., Any], *args, key: jax.Array) -> tuple[dict, dict]:
    """Fresh parameters and batch-norm statistics of `cls(*args, rngs=...)`, as nested dicts of float32 arrays."""
    _, params, stats = _split(cls(*args, rngs=nnx.Rngs(key)))
    return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def merge(cls: Callable[..., Any], *args, params: dict, stats: dict) -> Any:
    """The module with these parameters and statistics."""
    return nnx.merge(
        _definition(cls, *args),
        nnx.State(jax.tree.map(nnx.Param, params)),
        nnx.State(jax.tree.map(nnx.BatchStat, stats)),
    )


def stats_of(module: nnx.Module) -> dict:
    """The batch-norm statistics, as they are after a call."""
    return nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))


def _split(module: nnx.Module):
    definition, params, stats, rest = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
    assert not jax.tree.leaves(rest), "modules hold parameters and batch-norm statistics only"
    return definition, params, stats


@functools.cache
def _definition(cls: Callable[..., Any], *args) -> nnx.GraphDef:
    definitions = []

    def trace(key):
        definitions.append(_split(cls(*args, rngs=nnx.Rngs(key)))[0])
        return jnp.zeros(())

    jax.eval_shape(trace, jax.random.key(0))
    return definitions[0]
