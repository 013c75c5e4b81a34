"""What a function costs in matrix products, counted exactly from its traced form: nothing is run."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import jax
from jax.extend import core


class Matmul(NamedTuple):
    """One `lax.dot_general`: everything needed to count it, or to run it again by itself."""

    lhs: jax.ShapeDtypeStruct
    rhs: jax.ShapeDtypeStruct
    dimension_numbers: tuple  # ((lhs contracting, rhs contracting), (lhs batch, rhs batch))
    out_dtype: jax.typing.DTypeLike

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """(batch, M, K, N) of the product [batch M K] x [batch K N]."""
        (contracting, _), (lhs_batch, _) = self.dimension_numbers
        batch = math.prod(self.lhs.shape[i] for i in lhs_batch)
        k = math.prod(self.lhs.shape[i] for i in contracting)
        return batch, math.prod(self.lhs.shape) // (batch * k), k, math.prod(self.rhs.shape) // (batch * k)

    @property
    def flops(self) -> int:
        """2 FLOPs a multiply-add."""
        return 2 * math.prod(self.sizes)


def matmuls(fn, *args) -> list[tuple[Matmul, int]]:
    """The matrix products of `fn(*args)` (arrays or their shapes) and how often each runs.

    Functions it calls, the steps of a scan and what a remat recomputes count; of a `cond` the dearest branch.
    Raises ValueError on a matrix product in a loop whose length is not known before it runs.
    """
    return list(_walk(jax.make_jaxpr(fn)(*args).jaxpr).items())


def flops(fn, *args) -> int:
    """FLOPs of the matrix products of `fn(*args)`; element-wise work is left out."""
    return sum(matmul.flops * count for matmul, count in matmuls(fn, *args))


def _walk(jaxpr: core.Jaxpr) -> Counter[Matmul]:
    found: Counter[Matmul] = Counter()
    for eqn in jaxpr.eqns:
        name, params = eqn.primitive.name, eqn.params
        inner = [_walk(sub) for value in params.values() for sub in _jaxprs(value)]
        if name == "dot_general":
            lhs, rhs, out = (_shape(v.aval) for v in (*eqn.invars, *eqn.outvars))
            found[Matmul(lhs, rhs, params["dimension_numbers"], out.dtype)] += 1
        elif name == "cond":
            found += max(inner, key=lambda branch: sum(m.flops * count for m, count in branch.items()))
        elif name == "while" and any(inner):
            raise ValueError("a matrix product lies in a loop of unknown length; its cost cannot be counted")
        else:
            times = params["length"] if name == "scan" else 1
            for sub in inner:
                found.update({matmul: times * count for matmul, count in sub.items()})
    return found


def _shape(aval) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def _jaxprs(value) -> Iterator[core.Jaxpr]:
    if isinstance(value, core.ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, core.Jaxpr):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _jaxprs(item)
