"""Fine-tuning: a classifier of video, audio or both, with one label a clip or any number (VATT paper A.2.5, A.3)."""

import dataclasses

import jax
import jax.numpy as jnp

from vatt.config import FinetuneConfig
from vatt.models import functional, lora
from vatt.models.classifier import Classifier
from vatt.tasks.pretrain import AUGMENTATION
from vatt.transforms import to_model

MIXUP, LORA = 3, 4  # set the keys of mixup, and of what LoRA draws, apart from the others


@dataclasses.dataclass(frozen=True)
class Classify:
    """Model, loss and metrics of a fine-tuning run, as functions of plain dicts of arrays."""

    cfg: FinetuneConfig
    classes: tuple[str, ...]

    def init(self, key: jax.Array) -> tuple[dict, dict]:
        """Fresh parameters and batch-norm statistics. What LoRA adds lies under "lora"."""
        cfg = self.cfg
        params, stats = functional.init(Classifier, *self._names(), key=key)
        if cfg.classify.lora_rank:
            params["lora"] = lora.init(params, cfg.classify.lora_rank, jax.random.fold_in(key, LORA))
        return params, stats

    def loss(self, params: dict, stats: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, tuple[dict, dict]]:
        """Returns the scalar that is minimised, then the statistics, which stay, and named metrics.

        batch: what the stream gives, with `label` [B C].
        """
        cfg = self.cfg.classify
        batch = to_model(batch, self.cfg, jax.random.fold_in(key, AUGMENTATION))
        labels = batch.pop("label")
        if cfg.mixup:
            batch, labels = mixup(batch, labels, cfg.mixup, jax.random.fold_in(key, MIXUP))
        logits = self._apply(params, stats, batch, key)
        if cfg.labels == "single":
            each = cross_entropy(logits, labels, smoothing=cfg.label_smoothing)
        else:
            each = binary_cross_entropy(logits, labels)
        total = (each * (balance(labels) if cfg.balance == "batch" else 1)).mean()
        metrics = {"loss": total}
        if cfg.labels == "single":
            metrics["train_top_1"] = 100 * (logits.argmax(1) == labels.argmax(1)).mean()
        return total, (stats, metrics)

    def logits(self, params: dict, stats: dict, batch: dict) -> jax.Array:
        """Logits [B C] of what the stream gives, without augmentation."""
        return self._apply(params, stats, to_model(batch, self.cfg, None), None)

    def merged(self, params: dict) -> dict:
        """The parameters of the model alone, what LoRA learned being added to the matrices that it belongs to."""
        model = {name: value for name, value in params.items() if name != "lora"}
        if "lora" not in params:
            return model
        return lora.merge(model, params["lora"], self.cfg.classify.lora_alpha / self.cfg.classify.lora_rank)

    def _apply(self, params: dict, stats: dict, batch: dict, key: jax.Array | None) -> jax.Array:
        model = functional.merge(Classifier, *self._names(), params=self.merged(params), stats=stats)
        return model(batch, key=key)

    def _names(self) -> tuple:
        """The arguments of the Classifier."""
        return self.cfg.model, self.cfg.clip, self.cfg.classify, len(self.classes)


def cross_entropy(logits: jax.Array, labels: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
    """Softmax cross-entropy of each row, [B]; `smoothing` of the target [B C] is spread over all classes."""
    target = (1 - smoothing) * labels + smoothing / labels.shape[1]
    return -(target * jax.nn.log_softmax(logits)).sum(1)


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Sigmoid cross-entropies of each row, [B], summed over classes as in the released code."""
    return -(labels * jax.nn.log_sigmoid(logits) + (1 - labels) * jax.nn.log_sigmoid(-logits)).sum(1)


def balance(labels: jax.Array) -> jax.Array:
    """What each row of labels [B C] counts, [B]: the mean over its labels of 1 / (how often the batch has them). 0
    without labels. [released code]"""
    rare = 1 / jnp.maximum(labels.sum(0), 1e-6)
    return (labels * rare).sum(1) / jnp.maximum(labels.sum(1), 1e-6)


def mixup(batch: dict, labels: jax.Array, alpha: float, key: jax.Array) -> tuple[dict, jax.Array]:
    """Each clip mixed with its neighbour in the batch, and their labels alike, by a share of its own, drawn from
    Beta(alpha, alpha) (Zhang et al. 2018). The order of a batch is random, so a neighbour is as good as any other."""
    share = jax.random.beta(key, alpha, alpha, (len(labels),))

    def mix(x: jax.Array) -> jax.Array:
        mine = share.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)
        return mine * x + (1 - mine) * jnp.roll(x, 1, axis=0)

    mixed = {name: mix(batch[name]) for name in ("video", "audio") if name in batch}
    masks = {f"{name}_mask": batch[f"{name}_mask"] | jnp.roll(batch[f"{name}_mask"], 1) for name in mixed}
    return batch | mixed | masks, mix(labels)
