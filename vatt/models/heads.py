"""Projections into the common spaces (VATT paper section 3.3): video and audio meet in va, video and text in vt,
which video reaches through va."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from vatt.config import MODALITIES, HeadsConfig, Modality, ModelConfig
from vatt.models.layers import linear

MOMENTUM, EPS = 0.9, 1e-5  # of batch norm [released code]


class BatchNorm(nnx.Module):
    """Batch norm over a global batch whose padding rows count for nothing.

    With global arrays the mean is over every device's rows. A batch without a single valid row normalises by the
    running statistics and leaves them alone.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        del rngs  # nothing is drawn
        self.scale = nnx.Param(jnp.ones((width,)))
        self.bias = nnx.Param(jnp.zeros((width,)))
        self.mean = nnx.BatchStat(jnp.zeros((width,)))
        self.var = nnx.BatchStat(jnp.ones((width,)))

    def __call__(self, x: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
        """x [N E] float32, mask [N] bool or None -> [N E]."""
        mean, var = self.mean[...], self.var[...]
        if train:
            weight = jnp.ones((x.shape[0], 1)) if mask is None else mask[:, None].astype(jnp.float32)
            count = weight.sum()
            total = jnp.maximum(count, 1)
            batch_mean = (x * weight).sum(0) / total
            batch_var = (jnp.square(x - batch_mean) * weight).sum(0) / total
            momentum = jnp.where(count > 0, MOMENTUM, 1.0)
            self.mean[...] = jax.lax.stop_gradient(momentum * mean + (1 - momentum) * batch_mean)
            self.var[...] = jax.lax.stop_gradient(momentum * var + (1 - momentum) * batch_var)
            mean, var = jnp.where(count > 0, batch_mean, mean), jnp.where(count > 0, batch_var, var)
        return (x - mean) * jax.lax.rsqrt(var + EPS) * self.scale[...] + self.bias[...]


class Projection(nnx.Module):
    """A dense layer, then batch norm if asked for; a bias only where no batch norm would cancel it."""

    def __init__(self, n_in: int, n_out: int, *, batch_norm: bool = True, rngs: nnx.Rngs):
        self.dense = linear(n_in, n_out, dtype="float32", rngs=rngs, bias=not batch_norm)
        self.dense.precision = jax.lax.Precision.HIGHEST  # accelerators would round float32 products
        self.norm = BatchNorm(n_out, rngs=rngs) if batch_norm else None

    def __call__(self, x: jax.Array, *, mask: jax.Array | None, train: bool) -> jax.Array:
        x = self.dense(x)
        return x if self.norm is None else self.norm(x, mask=mask, train=train)


class Heads(nnx.Module):
    """Pooled features to the common spaces, in float32 whatever the towers compute in."""

    def __init__(self, model: ModelConfig, *, modalities: Sequence[Modality] = MODALITIES, rngs: nnx.Rngs):
        cfg: HeadsConfig = model.heads
        self.cfg = cfg
        video, audio, text = (getattr(model, m).encoder.width for m in ("video", "audio", "text"))
        norm = cfg.linear_norm == "batch"
        if "video" in modalities:
            self.video_hidden = Projection(video, cfg.va_width, rngs=rngs)
            self.video_va = Projection(cfg.va_width, cfg.va_width, rngs=rngs)
            self.video_vt = Projection(cfg.va_width, cfg.vt_width, rngs=rngs)
        if "audio" in modalities:
            self.audio_va = Projection(audio, cfg.va_width, batch_norm=norm, rngs=rngs)
        if "text" in modalities:
            self.text_vt = Projection(text, cfg.vt_width, batch_norm=norm, rngs=rngs)
        if "audio" in modalities and cfg.audio_text:
            self.audio_vt = Projection(cfg.va_width, cfg.vt_width, rngs=rngs)

    def __call__(
        self, pooled: dict, *, video_mask=None, audio_mask=None, text_mask=None, train: bool = False
    ) -> dict[str, jax.Array]:
        """pooled: any of video [B D], audio [B D], text [B K D]; masks [B], [B] and [B K] bool, None: all valid.

        Returns what those modalities give, not yet of unit length: z_va, z_vt (video in va, vt), z_av, z_at (audio in
        va, vt), each [B E], and z_tv (text in vt) [B K E].
        """
        pooled = {modality: x.astype(jnp.float32) for modality, x in pooled.items()}
        z = {}
        if "video" in pooled:
            hidden = nnx.relu(self.video_hidden(pooled["video"], mask=video_mask, train=train))
            z["z_va"] = self.video_va(hidden, mask=video_mask, train=train)
            z["z_vt"] = self.video_vt(self._toward_vt(z["z_va"]), mask=video_mask, train=train)
        if "audio" in pooled:
            z["z_av"] = self.audio_va(pooled["audio"], mask=audio_mask, train=train)
            if self.cfg.audio_text:
                z["z_at"] = self.audio_vt(self._toward_vt(z["z_av"]), mask=audio_mask, train=train)
        if "text" in pooled:
            B, K, D = pooled["text"].shape
            mask = None if text_mask is None else text_mask.reshape(B * K)
            flat = self.text_vt(pooled["text"].reshape(B * K, D), mask=mask, train=train)
            z["z_tv"] = flat.reshape(B, K, -1)
        return z

    def _toward_vt(self, va: jax.Array) -> jax.Array:
        return nnx.relu(va) if self.cfg.va_to_vt == "relu" else va


def unit(x: jax.Array) -> jax.Array:
    """x / |x| along the last axis, with a gradient at 0."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))
