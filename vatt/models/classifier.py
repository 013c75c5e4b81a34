"""A classifier: towers of some modalities, their features joined, and a layer on top."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from vatt.config import ClassifyConfig, ClipConfig, ModelConfig
from vatt.models.heads import Heads, unit
from vatt.models.layers import Linear, dropout
from vatt.models.vatt import Towers


class Classifier(Towers):
    """Features of [AGG] -> logits (VATT paper appendix A.2.5 and A.3).

    head linear: features of all modalities side by side, dropout, a dense layer. Those a clip lacks are zero.
    head text: 1 / temperature times the cosine between video in the video-text space and a vector for each class, which
      starts at the embedding of its name (CLIP's zero-shot head; Radford et al. 2021, Wortsman et al. 2022).
    """

    def __init__(self, model: ModelConfig, clip: ClipConfig, cfg: ClassifyConfig, classes: int, *, rngs: nnx.Rngs):
        super().__init__(model, clip, modalities=cfg.modalities, rngs=rngs)
        self.cfg = cfg
        if cfg.head == "text":
            self.heads = Heads(model, modalities=("video",), rngs=rngs)
            self.classifier = NameLayer(model.heads.vt_width, classes, rngs=rngs)
        else:
            width = sum(getattr(model, modality).encoder.width for modality in cfg.modalities)
            self.classifier = dense_layer(width, classes, cfg, rngs=rngs)

    def __call__(self, batch: dict, *, key: jax.Array | None = None) -> jax.Array:  # -> [B C] float32
        """batch: video [B T H W C], audio [B S], with masks [B]. `key` turns DropToken and dropout on."""
        keys = [None] * 2 if key is None else jax.random.split(key)
        pooled = {name: x.astype(jnp.float32) for name, x in self.pool(batch, key=keys[0]).items()}
        if self.cfg.head == "text":
            # Batch norm keeps to what pretraining counted: batches of few classes would tell of themselves.
            z = self.heads(pooled, train=False)["z_vt"]
            return self.classifier(dropout(z, self.cfg.dropout, keys[1]))
        parts = [jnp.where(batch[f"{m}_mask"][:, None], pooled[m], 0) for m in self.cfg.modalities]
        return self.classifier(dropout(jnp.concatenate(parts, axis=1), self.cfg.dropout, keys[1]))


def dense_layer(width: int, classes: int, cfg: ClassifyConfig, *, rngs: nnx.Rngs) -> Linear:
    """Starts as in the released code. single: Glorot-normal; multi: Glorot-uniform, each class as likely as 1 / C."""
    single = cfg.labels == "single"
    kernel = nnx.initializers.glorot_normal() if single else nnx.initializers.glorot_uniform()
    bias = nnx.initializers.constant(0.0 if single else -math.log(max(classes - 1, 1)))
    return Linear(width, classes, kernel_init=kernel, bias_init=bias, rngs=rngs)


class NameLayer(nnx.Module):
    """Cosines with a vector for each class."""

    def __init__(self, width: int, classes: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.normal(width**-0.5)(rngs.params(), (width, classes)))
        self.log_scale = nnx.Param(jnp.zeros(()))

    def __call__(self, z: jax.Array) -> jax.Array:  # [B E] -> [B C]
        names = unit(self.kernel[...].T).T
        return jnp.exp(self.log_scale[...]) * jnp.matmul(unit(z), names, precision=jax.lax.Precision.HIGHEST)
