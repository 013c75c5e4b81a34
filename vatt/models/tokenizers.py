"""From raw modalities to tokens: tubelets of video, patches of audio, words of text (VATT paper section 3.1).

Every tokenizer returns `Tokens`: [AGG] first, then what DropToken kept. Tokens are dropped as raw patches, before
the projection, so that its cost falls with them.
"""

import math
from typing import NamedTuple

import einops
import jax
import jax.numpy as jnp
from flax import nnx

from vatt.config import ClipConfig, EncoderConfig, ModelConfig, kept_tokens
from vatt.models.layers import NORM_EPS, dropout, linear
from vatt.models.spectrogram import log_mel, mel_steps


class Tokens(NamedTuple):
    x: jax.Array  # [B N D], [AGG] first
    mask: jax.Array | None  # [B N] bool, False for padding; None: all real
    bias: jax.Array | None  # [H N N] added to attention logits, or None


def drop_tokens(patches: jax.Array, keep: float, key: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
    """DropToken: keeps the same number of patches in every clip, drawn without replacement for each clip alone.

    Args: patches [B N P]; keep, the share kept; key, or None to keep all.
    Returns: the patches kept [B K P], and their indices [B K] (None when all are kept).
    """
    B, N, _ = patches.shape
    kept = kept_tokens(N, keep)
    if key is None or kept == N:
        return patches, None
    index = jnp.argsort(jax.random.uniform(key, (B, N)), axis=1)[:, :kept]
    return jnp.take_along_axis(patches, index[..., None], axis=1), index


class Positions(nnx.Module):
    """One learned table an axis of the token grid; their sum goes through a LayerNorm of its own.

    A grid of another size than the tables (a longer or larger clip at evaluation) resamples each table bicubically.
    """

    def __init__(self, grid: dict[str, int], width: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.truncated_normal(width**-0.5)
        self.axes = tuple(grid)  # the order of the axes, which nnx.Dict does not keep
        self.tables = nnx.Dict({axis: nnx.Param(init(rngs.params(), (n, width))) for axis, n in grid.items()})
        self.norm = nnx.LayerNorm(width, epsilon=NORM_EPS, rngs=rngs)

    def __call__(self, grid: tuple[int, ...]) -> jax.Array:  # -> [N D], N the product of the grid
        total = jnp.zeros(())
        for axis, (name, size) in enumerate(zip(self.axes, grid, strict=True)):
            table = self.tables[name][...]
            if table.shape[0] != size:
                table = jax.image.resize(table, (size, table.shape[1]), "cubic")
            total = total + jnp.expand_dims(table, [i for i in range(len(grid)) if i != axis])
        return self.norm(total.reshape(math.prod(grid), -1))


class PatchTokenizer(nnx.Module):
    """What video and audio share: patches -> DropToken -> linear projection + positions, behind [AGG]."""

    def __init__(self, *, patch_size, grid, keep, encoder: EncoderConfig, model: ModelConfig, rngs: nnx.Rngs):
        width = encoder.width
        self.keep, self.dropout, self.dtype = keep, encoder.dropout, model.dtype
        self.project = linear(patch_size, width, dtype=model.dtype, rngs=rngs)
        if model.projections == "dense_gelu":
            self.pre = linear(width, width, dtype=model.dtype, rngs=rngs)
        self.positions = Positions(grid, width, rngs=rngs)
        self.agg = nnx.Param(nnx.initializers.glorot_normal()(rngs.params(), (1, width)))

    def tokens(self, patches: jax.Array, grid: tuple[int, ...], key: jax.Array | None) -> Tokens:
        """patches [B N P] in any type `scale` takes -> Tokens [B 1+K D]."""
        keys = [None] * 2 if key is None else jax.random.split(key)
        patches, index = drop_tokens(patches, self.keep, keys[0])
        x = self.project(self.scale(patches))
        if hasattr(self, "pre"):
            x = nnx.gelu(self.pre(x))
        positions = self.positions(grid).astype(x.dtype)
        x = dropout(x + (positions if index is None else positions[index]), self.dropout, keys[1])
        return Tokens(prepend(self.agg[...], x), None, None)

    def scale(self, patches: jax.Array) -> jax.Array:
        return patches.astype(self.dtype)


def prepend(agg: jax.Array, x: jax.Array) -> jax.Array:  # [1 D], [B N D] -> [B 1+N D]
    first = jnp.broadcast_to(agg.astype(x.dtype), (x.shape[0], 1, x.shape[2]))
    return jnp.concatenate([first, x], axis=1)


class VideoTokenizer(PatchTokenizer):
    """Tubelets of t x h x w pixels."""

    def __init__(self, model: ModelConfig, clip: ClipConfig, *, rngs: nnx.Rngs):
        self.patch = t, h, w = model.video.patch
        super().__init__(
            patch_size=t * h * w * 3,
            grid=video_grid(model, clip),
            keep=model.video.keep,
            encoder=model.video.encoder,
            model=model,
            rngs=rngs,
        )

    def __call__(self, video: jax.Array, *, key: jax.Array | None = None) -> Tokens:
        """video [B T H W C], uint8 or float already in [-1, 1]."""
        t, h, w = self.patch
        _, T, H, W, _ = video.shape
        patches = einops.rearrange(video, "b (t pt) (h ph) (w pw) c -> b (t h w) (pt ph pw c)", pt=t, ph=h, pw=w)
        return self.tokens(patches, (T // t, H // h, W // w), key)

    def scale(self, patches: jax.Array) -> jax.Array:
        if patches.dtype == jnp.uint8:  # after DropToken, so that whole clips stay a byte a pixel
            return patches.astype(self.dtype) / 127.5 - 1
        return patches.astype(self.dtype)


def video_grid(model: ModelConfig, clip: ClipConfig) -> dict[str, int]:
    t, h, w = model.video.patch
    return {"time": clip.frames // t, "height": clip.size // h, "width": clip.size // w}


class AudioTokenizer(PatchTokenizer):
    """Patches of the raw waveform, or of its log-mel spectrogram."""

    def __init__(self, model: ModelConfig, clip: ClipConfig, *, rngs: nnx.Rngs):
        self.cfg, self.sample_rate = model.audio, clip.sample_rate
        super().__init__(
            patch_size=self.cfg.patch if self.cfg.input == "waveform" else math.prod(self.cfg.mel_patch),
            grid=audio_grid(model, clip),
            keep=self.cfg.keep,
            encoder=self.cfg.encoder,
            model=model,
            rngs=rngs,
        )

    def __call__(self, audio: jax.Array, *, key: jax.Array | None = None) -> Tokens:
        """audio [B S] in [-1, 1]."""
        if self.cfg.input == "waveform":
            patches = einops.rearrange(audio, "b (n p) -> b n p", p=self.cfg.patch)
            return self.tokens(patches, (patches.shape[1],), key)
        t, m = self.cfg.mel_patch
        mel = log_mel(audio, self.cfg, self.sample_rate)  # [B T M]
        mel = mel[:, : mel.shape[1] // t * t]
        patches = einops.rearrange(mel, "b (t pt) (m pm) -> b (t m) (pt pm)", pt=t, pm=m)
        return self.tokens(patches, (mel.shape[1] // t, mel.shape[2] // m), key)


def audio_grid(model: ModelConfig, clip: ClipConfig) -> dict[str, int]:
    cfg = model.audio
    if cfg.input == "waveform":
        return {"time": clip.samples // cfg.patch}
    steps = mel_steps(clip.samples, cfg, clip.sample_rate)
    return {"time": steps // cfg.mel_patch[0], "mel": cfg.mel_bins // cfg.mel_patch[1]}


class TextTokenizer(nnx.Module):
    """Words: a table of word vectors, then a projection to the tower's width.

    The modality-specific tower has [AGG] among the word vectors, a bias-free GELU projection and a T5-style relative
    bias; the shared tower has a linear projection, absolute positions and [AGG] at full width.
    """

    def __init__(self, model: ModelConfig, clip: ClipConfig, *, rngs: nnx.Rngs):
        cfg = self.cfg = model.text
        width, agnostic = cfg.encoder.width, model.backbone == "agnostic"
        self.agnostic, self.projections, self.dtype = agnostic, model.projections, model.dtype
        self.table = nnx.Param(
            nnx.initializers.normal(cfg.embed_width**-0.5)(rngs.params(), (cfg.vocab_size, cfg.embed_width))
        )
        self.project = linear(cfg.embed_width, width, dtype=model.dtype, rngs=rngs, bias=agnostic)
        self.agg = nnx.Param(
            nnx.initializers.glorot_normal()(rngs.params(), (1, width if agnostic else cfg.embed_width))
        )
        if cfg.positions == "absolute":
            self.positions = Positions({"word": clip.words}, width, rngs=rngs)
        else:
            self.relative_bias = nnx.Param(
                nnx.initializers.normal(width**-0.5)(rngs.params(), (cfg.buckets, cfg.encoder.heads))
            )

    def __call__(self, text: jax.Array, *, key: jax.Array | None = None) -> Tokens:
        """text [B L] word ids, 0 for padding."""
        table = self.table[...]
        if self.cfg.table == "frozen":
            table = jax.lax.stop_gradient(table)
        x = table[text].astype(self.dtype)
        if not self.agnostic:
            x = nnx.gelu(self.project(prepend(self.agg[...], x)))
        else:
            x = self.project(x)
            x = nnx.gelu(x) if self.projections == "dense_gelu" else x
        if self.cfg.positions == "absolute":
            words = x if self.agnostic else x[:, 1:]
            words = words + self.positions((text.shape[1],)).astype(x.dtype)
            x = words if self.agnostic else jnp.concatenate([x[:, :1], words], axis=1)
        if self.agnostic:
            x = prepend(self.agg[...], x)
        mask = jnp.pad(text != 0, ((0, 0), (1, 0)), constant_values=True)
        bias = self._bias(x.shape[1]) if self.cfg.positions == "relative" else None
        return Tokens(dropout(x, self.cfg.encoder.dropout, key), mask, bias)

    def _bias(self, n: int) -> jax.Array:  # -> [H N N]
        offset = jnp.arange(n)[None, :] - jnp.arange(n)[:, None]  # key - query
        bucket = relative_bucket(offset, self.cfg.buckets, self.cfg.max_distance)
        one_hot = jax.nn.one_hot(bucket, self.cfg.buckets)
        return jnp.einsum("qkb,bh->hqk", one_hot, self.relative_bias[...])


def relative_bucket(offset: jax.Array, buckets: int, max_distance: int) -> jax.Array:
    """T5's bidirectional buckets (Raffel et al. 2020): half for each sign; of those the first half exact, the rest
    logarithmic up to `max_distance`, beyond which all share the last."""
    half, exact = buckets // 2, buckets // 4
    distance = jnp.abs(offset)
    far = exact + jnp.floor(
        jnp.log(jnp.maximum(distance, 1) / exact) / math.log(max_distance / exact) * (half - exact)
    ).astype(jnp.int32)
    return jnp.where(offset > 0, half, 0) + jnp.where(distance < exact, distance, jnp.minimum(far, half - 1))
