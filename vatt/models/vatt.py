"""VATT: tokenizers -> encoders -> heads, and its parameters as plain dicts.

`Vatt` is the definition. At run time parameters and batch-norm statistics are nested dicts of arrays that
`init` makes and `apply` takes, so that nothing walks a graph of Python objects in the training loop.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from vatt.config import MODALITIES, ClipConfig, Modality, ModelConfig
from vatt.models import functional
from vatt.models.heads import Heads
from vatt.models.layers import Encoder, linear
from vatt.models.tokenizers import AudioTokenizer, TextTokenizer, VideoTokenizer


class Towers(nnx.Module):
    """Tokenizers and encoders of some modalities, modality-specific or sharing one encoder."""

    def __init__(
        self, model: ModelConfig, clip: ClipConfig, *, modalities: Sequence[Modality] = MODALITIES, rngs: nnx.Rngs
    ):
        self.modalities = tuple(modalities)
        self.agnostic = model.backbone == "agnostic"
        tokenizers = {"video": VideoTokenizer, "audio": AudioTokenizer, "text": TextTokenizer}
        self.tokenizers = nnx.Dict({m: tokenizers[m](model, clip, rngs=rngs) for m in modalities})
        names = ("shared",) if self.agnostic else modalities
        configs = {"shared": model.video, "video": model.video, "audio": model.audio, "text": model.text}
        self.encoders = nnx.Dict({name: Encoder(configs[name].encoder, model, rngs=rngs) for name in names})
        self.bias_layers = model.text.bias_layers
        if model.projections == "dense_gelu":
            width = model.video.encoder.width
            self.post = nnx.Dict({m: linear(width, width, dtype=model.dtype, rngs=rngs) for m in modalities})

    def encode(self, modality: str, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """One tower: video [B T H W C], audio [B S] or text [B L] -> the last hidden state of [AGG], [B D].

        `key` turns DropToken and dropout on.
        """
        keys = [None] * 2 if key is None else jax.random.split(key)
        tokens = self.tokenizers[modality](x, key=keys[0])
        encoder = self.encoders["shared" if self.agnostic else modality]
        pooled = encoder(tokens.x, mask=tokens.mask, bias=tokens.bias, bias_layers=self.bias_layers, key=keys[1])
        return nnx.gelu(self.post[modality](pooled)) if hasattr(self, "post") else pooled

    def pool(self, batch: dict, *, key: jax.Array | None = None) -> dict[str, jax.Array]:
        """What `encode` gives of each modality in the batch: video and audio [B D], text [B K L] -> [B K D]."""
        keys = dict(zip(MODALITIES, [None] * 3 if key is None else jax.random.split(key, 3), strict=True))
        pooled = {}
        for modality in self.modalities:
            if modality == "text" and "text" in batch:
                B, K, L = batch["text"].shape
                flat = self.encode("text", batch["text"].reshape(B * K, L), key=keys["text"])
                pooled["text"] = flat.reshape(B, K, -1)
            elif modality in batch:
                pooled[modality] = self.encode(modality, batch[modality], key=keys[modality])
        return pooled


class Vatt(Towers):
    """All three towers, and the heads above them.

    A batch may lack any modality. Keys: video [B T H W C] uint8, or float in [-1, 1], audio [B S] float32, text [B K L]
    int32 word ids; video_mask [B], audio_mask [B] and text_mask [B K] bool (absent: all valid).
    """

    def __init__(self, model: ModelConfig, clip: ClipConfig, *, rngs: nnx.Rngs):
        super().__init__(model, clip, rngs=rngs)
        self.heads = Heads(model, rngs=rngs)

    def __call__(self, batch: dict, *, key: jax.Array | None = None, train: bool = False) -> dict[str, jax.Array]:
        """Embeddings in the common spaces, named and shaped as `Heads` gives them, for the modalities in the batch."""
        pooled = self.pool(batch, key=key)
        masks = {name: batch[name] for name in ("video_mask", "audio_mask", "text_mask") if name in batch}
        return self.heads(pooled, **masks, train=train)

    def features(self, batch: dict) -> dict[str, jax.Array]:
        """For evaluation: what the towers give of the modalities in the batch, named by them, [B D], and what the heads
        make of it, [B E]. Text is one caption a clip, [B L]."""
        batch = batch | ({"text": batch["text"][:, None]} if "text" in batch else {})
        pooled = self.pool(batch)
        out = pooled | self.heads(pooled, train=False)
        return {name: x.astype(jnp.float32).reshape(x.shape[0], x.shape[-1]) for name, x in out.items()}


def init(model: ModelConfig, clip: ClipConfig, key: jax.Array) -> tuple[dict, dict]:
    """Fresh parameters and batch-norm statistics, as nested dicts of float32 arrays."""
    return functional.init(Vatt, model, clip, key=key)


def apply(
    model: ModelConfig, clip: ClipConfig, params: dict, stats: dict, batch: dict, *, key=None, train: bool = False
) -> tuple[dict[str, jax.Array], dict]:
    """Calls `Vatt` on `batch`. Returns its embeddings, and the batch-norm statistics, new if `train`."""
    module: Vatt = functional.merge(Vatt, model, clip, params=params, stats=stats)
    z = module(batch, key=key, train=train)
    return z, functional.stats_of(module)


def features(model: ModelConfig, clip: ClipConfig, params: dict, stats: dict, batch: dict) -> dict[str, jax.Array]:
    """Calls `Vatt.features` on `batch`."""
    return functional.merge(Vatt, model, clip, params=params, stats=stats).features(batch)
