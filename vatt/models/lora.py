"""LoRA: what fine-tuning adds to a matrix is a product of two thin ones (Hu et al. 2021, arXiv 2106.09685)."""

import jax
import jax.numpy as jnp

TOWERS = ("encoders",)  # whose matrices get one: attention and MLP of every layer


def init(params: dict, rank: int, key: jax.Array) -> dict:
    """For every kernel [... I O] of the encoders `a` [... I R], drawn as He et al. draw weights, and `b` [... R O],
    zero: at first nothing is added. Nested like `params`, with {a, b} in the place of a kernel."""
    count = 0

    def grow(tree: dict) -> dict:
        nonlocal count
        out = {}
        for name, value in sorted(tree.items()):
            if isinstance(value, dict):
                if grown := grow(value):
                    out[name] = grown
            elif name == "kernel":
                *layers, n_in, n_out = value.shape
                count += 1
                a = jax.random.normal(jax.random.fold_in(key, count), (*layers, n_in, rank)) * (2 / n_in) ** 0.5
                out[name] = {"a": a.astype(value.dtype), "b": jnp.zeros((*layers, rank, n_out), value.dtype)}
        return out

    return grow({name: params[name] for name in TOWERS})


def merge(params: dict, lora: dict, scale: float) -> dict:
    """`params` with scale * a @ b added to the kernels that `lora` has something for."""
    out = dict(params)
    for name, value in lora.items():
        if "a" in value and not isinstance(value["a"], dict):
            out[name] = params[name] + scale * jnp.einsum("...ir,...ro->...io", value["a"], value["b"])
        else:
            out[name] = merge(params[name], value, scale)
    return out
