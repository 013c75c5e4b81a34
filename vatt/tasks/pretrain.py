"""Pretraining: the VATT model under a weighted sum of contrastive losses."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from vatt.config import Config
from vatt.losses import mil_nce, nce, sigmoid
from vatt.models import vatt
from vatt.models.heads import unit
from vatt.transforms import to_model

# Which embeddings a pair compares, and the mask of each.
PAIRS = {
    "video_audio": ("z_va", "z_av", "video_mask", "audio_mask"),
    "video_text": ("z_vt", "z_tv", "video_mask", "text_mask"),
    "audio_text": ("z_at", "z_tv", "audio_mask", "text_mask"),
}
AUGMENTATION = 2  # sets the key of augmentation apart from those of DropToken and dropout
SIGMOID_BIAS = -10.0  # where the bias of the sigmoid loss starts (Zhai et al. 2023)


@dataclasses.dataclass(frozen=True)
class Pretrain:
    """Model, loss and metrics of a pretraining run, as functions of plain dicts of arrays."""

    cfg: Config

    def init(self, key: jax.Array) -> tuple[dict, dict]:
        """Fresh parameters and batch-norm statistics. What the loss learns lies under "loss"."""
        params, stats = vatt.init(self.cfg.model, self.cfg.clip, key)
        loss = self.cfg.loss
        learned = {}
        if loss.temperature_mode == "learned":
            learned["log_scale"] = jnp.float32(-math.log(loss.temperature))
        if loss.form == "sigmoid":
            learned["bias"] = jnp.float32(SIGMOID_BIAS)
        if learned:
            params["loss"] = {pair: dict(learned) for pair in self._pairs()}
        return params, stats

    def loss(self, params: dict, stats: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, tuple[dict, dict]]:
        """Returns the scalar that is minimised, then the new statistics and named metrics."""
        z, stats = self.embed(params, stats, batch, key=key, train=True)
        z = {name: unit(x) for name, x in z.items()}
        metrics, total = {}, jnp.zeros(())
        for pair, weight in self._pairs().items():
            if PAIRS[pair][0] not in z or PAIRS[pair][1] not in z:
                continue  # the batch lacks the modality
            value = self.pair_loss(pair, z, batch, params.get("loss", {}).get(pair, {}))
            metrics[f"loss/{pair}"] = value
            total = total + weight * value
            if self.cfg.loss.temperature_mode == "learned":
                metrics[f"temperature/{pair}"] = jnp.exp(-params["loss"][pair]["log_scale"])
        if self.cfg.loss.reduction == "mean":
            total = total / sum(self._pairs().values())
        return total, (stats, {"loss": total} | metrics)

    def pair_loss(self, pair: str, z: dict, batch: dict, learned: dict) -> jax.Array:
        cfg = self.cfg.loss
        first, second, anchor_name, mask_name = PAIRS[pair]
        # A clip that lacks the pair's first modality is no partner for what others have of the second.
        a, b, anchors, mask = z[first], z[second], batch.get(anchor_name), batch.get(mask_name)
        scale = jnp.exp(learned["log_scale"]) if "log_scale" in learned else 1 / cfg.temperature
        if cfg.form == "sigmoid":
            return sigmoid(a, b, mask=mask, anchor_mask=anchors, scale=scale, bias=learned["bias"])
        if pair == "video_audio":
            return nce(a, b, mask=mask, anchor_mask=anchors, temperature=1 / scale, form=cfg.form)
        return mil_nce(a, b, candidate_mask=mask, anchor_mask=anchors, temperature=1 / scale, form=cfg.form)

    def embed(self, params, stats, batch, *, key=None, train=False) -> tuple[dict, dict]:
        """Embeddings (not yet of unit length) of the modalities in `batch`, and the batch-norm statistics.

        `batch` is what the stream gives (see `vatt.transforms.to_model`); `key` turns augmentation, DropToken and
        dropout on.
        """
        batch = to_model(batch, self.cfg, None if key is None else jax.random.fold_in(key, AUGMENTATION))
        model = {name: value for name, value in params.items() if name != "loss"}
        return vatt.apply(self.cfg.model, self.cfg.clip, model, stats, batch, key=key, train=train)

    def _pairs(self) -> dict[str, float]:
        return {pair: weight for pair, weight in self.cfg.loss.weights.items() if weight > 0}
