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
    def flops(self) -> int:
        """2 FLOPs a multiply-add."""
        (contracting, rhs_contracting), (_, rhs_batch) = self.dimension_numbers
        free = (n for i, n in enumerate(self.rhs.shape) if i not in rhs_contracting and i not in rhs_batch)
        del contracting
        return 2 * math.prod(self.lhs.shape) * math.prod(free)


def matmuls(fn, *args) -> list[tuple[Matmul, int]]:
    """The matrix products of `fn(*args)` (arrays or their shapes) and how often each runs.

    Functions it calls, the steps of a scan and what a remat recomputes count; of a `cond` the branch that costs
    most. Raises ValueError on a loop whose length is not known before it runs if it holds a matrix product.
    """
    return list(_walk(jax.make_jaxpr(fn)(*args).jaxpr).items())


def flops(fn, *args) -> int:
    """FLOPs of the matrix products of `fn(*args)`. The model holds no convolution; element-wise work is left out."""
    return sum(matmul.flops * count for matmul, count in matmuls(fn, *args))


def _walk(jaxpr: core.Jaxpr) -> Counter[Matmul]:
    found: Counter[Matmul] = Counter()
    for eqn in jaxpr.eqns:
        name, params = eqn.primitive.name, eqn.params
        inner = [_walk(sub) for value in params.values() for sub in _jaxprs(value)]
        if name == "dot_general":
            lhs, rhs = (jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars)
            found[Matmul(lhs, rhs, params["dimension_numbers"], eqn.outvars[0].aval.dtype)] += 1
        elif name == "cond":
            found += max(inner, key=lambda branch: sum(m.flops * count for m, count in branch.items()))
        elif name == "while" and any(inner):
            raise ValueError("a matrix product lies in a loop of unknown length; its cost cannot be counted")
        else:
            times = params["length"] if name == "scan" else 1
            for sub in inner:
                found.update({matmul: times * count for matmul, count in sub.items()})
    return found


def _jaxprs(value) -> Iterator[core.Jaxpr]:
    if isinstance(value, core.ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, core.Jaxpr):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _jaxprs(item)
