"""The Transformer encoder of every tower: pre-norm blocks, stored stacked and run by `jax.lax.scan`.

Modules hold parameters and nothing else: no random state, no mesh. Randomness is a key given at call time;
`None` means evaluation. Sizes and details: VATT paper section 3.2 and appendix, and the released code where it
is silent.
"""

import einops
import jax
import jax.numpy as jnp
from flax import nnx

from vatt.config import EncoderConfig, ModelConfig
from vatt.sharding import constrain

NORM_EPS = 1e-6


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes entries at `rate` and scales the rest by 1 / (1 - rate); does nothing without a key."""
    if key is None or rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


class Linear(nnx.Linear):
    """x @ kernel + bias along the last axis, as one product of matrices whatever the leading axes: XLA's CPU
    backend copies the transpose of a [B N D] gradient to find the kernel's, and not that of a matrix."""

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: jax.Array, columns: slice = slice(None)
    ) -> jax.Array:  # [... I] -> [... O]
        """`columns`: the part of the output to compute."""
        kernel = self.kernel[...][:, columns].astype(self.dtype)
        y = jnp.matmul(x.astype(self.dtype).reshape(-1, x.shape[-1]), kernel, precision=self.precision)
        if self.bias is not None:
            y = y + self.bias[...][columns].astype(self.dtype)
        return y.reshape(*x.shape[:-1], -1)


def linear(n_in: int, n_out: int, *, dtype: str, rngs: nnx.Rngs, bias: bool = True, fused: int = 1) -> Linear:
    """A dense layer with the Glorot-uniform weights of the released code. `fused` such layers side by side
    are drawn as if each stood alone."""
    limit_as_if_alone = nnx.initializers.variance_scaling(2 * n_in / (n_in + n_out / fused), "fan_in", "uniform")
    return Linear(n_in, n_out, use_bias=bias, dtype=dtype, kernel_init=limit_as_if_alone, rngs=rngs)


class Attention(nnx.Module):
    def __init__(self, cfg: EncoderConfig, *, dtype: str, rngs: nnx.Rngs):
        self.cfg = cfg
        bias = cfg.style == "vit"
        self.qkv = linear(cfg.width, 3 * cfg.width, dtype=dtype, rngs=rngs, bias=bias, fused=3)
        self.out = linear(cfg.width, cfg.width, dtype=dtype, rngs=rngs, bias=bias)

    def __call__(self, x, batch: int, *, queries, bias, key):
        """x [B*N D]; queries [B D], if they alone ask; bias [B|1 H|1 N N], added to the logits, or None."""
        D = self.cfg.width
        if queries is None:
            q, k, v = jnp.split(self.qkv(x), 3, axis=1)
        else:
            q = self.qkv(queries, slice(D))
            k, v = jnp.split(self.qkv(x, slice(D, None)), 2, axis=1)
        # Heads go in front of tokens and the products are plain einsums: on CPU this is faster than
        # jax.nn.dot_product_attention.
        q, k, v = (einops.rearrange(y, "(b n) (h d) -> b h n d", b=batch, h=self.cfg.heads) for y in (q, k, v))
        if self.cfg.style == "vit":
            q = q * (q.shape[-1] ** -0.5)
        logits = jnp.einsum("bhqd,bhkd->bhqk", q, k, preferred_element_type=jnp.float32)
        if bias is not None:
            logits = logits + bias
        weights = dropout(jax.nn.softmax(logits), self.cfg.dropout, key).astype(x.dtype)
        mixed = jnp.einsum("bhqk,bhkd->bhqd", weights, v)
        return self.out(einops.rearrange(mixed, "b h n d -> (b n) (h d)"))


class Block(nnx.Module):
    """Attention and MLP, each behind a norm and around a residual.

    Tokens come as rows [B*N D], for XLA's CPU backend: over [B N D] it copies transposed activations to find
    the gradients of weights. With the last block's saving this took a third off a step of the demo model.
    """

    def __init__(self, cfg: EncoderConfig, *, dtype: str, rngs: nnx.Rngs):
        self.cfg = cfg
        bias = cfg.style == "vit"
        self.attention_norm = norm(cfg, dtype=dtype, rngs=rngs)
        self.attention = Attention(cfg, dtype=dtype, rngs=rngs)
        # The paper's text tower has RMS norms, except for this ordinary one.
        self.mlp_norm = nnx.LayerNorm(cfg.width, epsilon=NORM_EPS, dtype=dtype, rngs=rngs)
        self.up = linear(cfg.width, cfg.mlp_width, dtype=dtype, rngs=rngs, bias=bias)
        self.down = linear(cfg.mlp_width, cfg.width, dtype=dtype, rngs=rngs, bias=bias)

    def __call__(self, x, batch: int, *, first_only: bool = False, bias, key):  # x: [B*N D]
        """`first_only` returns the first token of each sequence alone, [B D]."""
        keys = [None] * 4 if key is None else jax.random.split(key, 4)
        rate = self.cfg.dropout
        normed, queries = self.attention_norm(x), None
        if first_only:
            x, queries = first_rows(x, batch), first_rows(normed, batch)
            bias = None if bias is None else bias[:, :, :1]
        mixed = self.attention(normed, batch, queries=queries, bias=bias, key=keys[0])
        x = x + dropout(mixed, rate, keys[1])
        hidden = dropout(nnx.gelu(self.up(self.mlp_norm(x))), rate, keys[2])
        return x + dropout(self.down(hidden), rate, keys[3])


def first_rows(x: jax.Array, batch: int) -> jax.Array:  # [B*N D] -> [B D]
    return x.reshape(batch, -1, x.shape[1])[:, 0]


def norm(cfg: EncoderConfig, *, dtype: str, rngs: nnx.Rngs):
    kind = nnx.LayerNorm if cfg.style == "vit" else nnx.RMSNorm
    return kind(cfg.width, epsilon=NORM_EPS, dtype=dtype, rngs=rngs)


class Encoder(nnx.Module):
    """`depth` blocks with leaves stacked to [depth, ...], then a norm; out comes the first token, [AGG]."""

    def __init__(self, cfg: EncoderConfig, model: ModelConfig, *, rngs: nnx.Rngs):
        self.cfg, self.model = cfg, model
        keys = jax.random.split(rngs.params(), cfg.depth)
        self.blocks = nnx.vmap(lambda key: Block(cfg, dtype=model.dtype, rngs=nnx.Rngs(key)))(keys)
        self.norm = norm(cfg, dtype=model.dtype, rngs=rngs)

    def __call__(self, x, *, mask=None, bias=None, bias_layers="all", key=None):
        """Encodes tokens.

        Args:
          x: [B N D] tokens, [AGG] first.
          mask: [B N] bool, False for padding, which no token attends to; None: all are real.
          bias: [H N N] added to the attention logits of the layers named by `bias_layers`; None: none.
          bias_layers: "first" or "all".
          key: for dropout; None: evaluation.

        Returns: the last hidden state of [AGG], [B D]. The last block computes no other token.
        """
        cfg, batch, dtype = self.cfg, x.shape[0], self.model.dtype
        padding = None if mask is None else jnp.where(mask[:, None, None, :], 0.0, -1e9)
        everywhere = padding if bias is None or bias_layers == "first" else add(padding, bias[None])
        first = None if bias is None or bias_layers == "all" else bias[None]
        layer_keys = None if key is None else jax.random.split(key, cfg.depth)

        def run(x, layer, first_only):
            block, index, layer_key = layer
            extra = everywhere
            if first is not None:
                extra = add(everywhere, jnp.where(index == 0, first, 0.0))
            x = constrain(x, "activation")
            # Matrices are cast, then gathered: what crosses the network is the compute dtype.
            block = jax.tree.map(lambda w: constrain(w.astype(dtype) if w.ndim > 1 else w, "weight"), block)
            return block(x, batch, first_only=first_only, bias=extra, key=layer_key)

        if self.model.remat == "full":
            run = jax.checkpoint(run, static_argnums=2)
        layers = (self.blocks, jnp.arange(cfg.depth), layer_keys)
        before, last = jax.tree.map(lambda w: w[:-1], layers), jax.tree.map(lambda w: w[-1], layers)
        rows = x.reshape(-1, cfg.width)
        rows, _ = jax.lax.scan(lambda x, layer: (run(x, layer, False), None), rows, before, unroll=self._unroll())
        # Of 3 layers this saves a quarter of the arithmetic, of 12 a fifteenth.
        x = self.norm(run(rows, last, True))
        return dropout(x, cfg.dropout, None if key is None else jax.random.fold_in(key, cfg.depth))

    def _unroll(self) -> int | bool:
        # XLA's CPU backend runs loop bodies at half speed; accelerators do not, and compile loops faster.
        unrolled = self.model.layers == "unroll" or (self.model.layers == "auto" and jax.default_backend() == "cpu")
        return unrolled or 1


def add(a: jax.Array | None, b: jax.Array) -> jax.Array:
    return b if a is None else a + b
