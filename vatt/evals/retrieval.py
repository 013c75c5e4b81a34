"""Zero-shot retrieval between modalities on held-out clips (VATT paper section 4.2.4 and appendix A.3.3).

A clip's embedding is the mean over its views (windows, and crops of them), brought to unit length; similarity is the
cosine. Every query counts once, ties as the expectation over random order (see `vatt.metrics`).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.sharding import Mesh

from vatt import sharding
from vatt.errors import DataError, NonFiniteError
from vatt.metrics import chance, retrieval
from vatt.tasks.pretrain import Pretrain

# direction -> embeddings of the query and of the item
DIRECTIONS = {
    "text_to_video": ("z_tv", "z_vt"),
    "video_to_text": ("z_vt", "z_tv"),
    "audio_to_video": ("z_av", "z_va"),
    "video_to_audio": ("z_va", "z_av"),
}
# embedding -> the mask that tells which clips have it
MASKS = {
    "z_va": "video_mask",
    "z_vt": "video_mask",
    "z_av": "audio_mask",
    "z_at": "audio_mask",
    "z_tv": "text_mask",
}
VIEWS = ("video", "video_box", "video_colour", "audio")  # one a view, [B W ...]


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """What was measured: for every direction, metrics and what chance would give; and the similarities."""

    metrics: dict[str, dict[str, float]]
    chance: dict[str, dict[str, float]]
    similarity: dict[str, np.ndarray]  # [queries items], float32

    def named(self) -> dict[str, float]:
        """One flat dict, such as {"text_to_video/R@1": 24.4}."""
        return {f"{d}/{name}": value for d, values in self.metrics.items() for name, value in values.items()}


def evaluate(task: Pretrain, mesh: Mesh, params: dict, stats: dict, batches: Iterable[dict]) -> Retrieval:
    """Embeds the clips of `batches` (as `vatt.data.pipeline.evaluation_batches` yields them) and ranks them.

    Raises:
      NonFiniteError: an embedding is NaN or infinite.
      DataError: no clip has the modalities that some direction needs.
    """
    z, has = embed(functools.partial(_jitted(task, mesh), params, stats), mesh, batches)
    metrics, by_chance, similarities = {}, {}, {}
    for direction, (query, item) in DIRECTIONS.items():
        both = has[query] & has[item]
        if not both.any():
            continue
        similarity = z[query][both] @ z[item][both].T
        metrics[direction] = retrieval(similarity)
        by_chance[direction] = chance(int(both.sum()))
        similarities[direction] = similarity
    if not metrics:
        raise DataError("no held-out clip has two modalities; evaluate.source needs clips with sound or captions")
    return Retrieval(metrics, by_chance, similarities)


def embed(embed_batch: Callable, mesh: Mesh, batches: Iterable[dict]) -> tuple[dict, dict]:
    """Unit embeddings [N E] by name, views averaged, and which of the N clips have each."""
    z: dict[str, list] = {}
    has: dict[str, list] = {}
    for batch in batches:
        valid = batch["valid"]
        ids = np.asarray(batch["ids"])[valid[: len(batch["ids"])]]
        arrays = {name: batch[name] for name in (*VIEWS, "text") if name in batch}
        with jax.set_mesh(mesh):
            embedded = jax.device_get(embed_batch(sharding.put_batch(arrays, mesh)))
        for name, value in embedded.items():
            value = value[valid]
            bad = ~np.isfinite(value).all(axis=1)
            if bad.any():
                raise NonFiniteError(f"{name} of {bad.sum()} clips is NaN or infinite, first {ids[bad][0]}")
            z.setdefault(name, []).append(value / np.linalg.norm(value, axis=1, keepdims=True).clip(1e-12))
            has.setdefault(name, []).append(batch.get(MASKS[name], valid)[valid])
    if not z:
        raise DataError("there is no held-out clip to evaluate; see evaluate.source")
    return {k: np.concatenate(v) for k, v in z.items()}, {k: np.concatenate(v) for k, v in has.items()}


@functools.cache
def _jitted(task: Pretrain, mesh: Mesh) -> Callable:
    """(params, stats, arrays) -> raw embeddings [B E], the mean over the W views of a clip."""

    def run(params, stats, arrays):
        B, W = arrays["video"].shape[:2]
        flat = {name: arrays[name].reshape(B * W, *arrays[name].shape[2:]) for name in VIEWS if name in arrays}
        z, _ = task.embed(params, stats, flat)
        words, _ = task.embed(params, stats, {"text": arrays["text"][:, None]})
        return {name: x.reshape(B, W, -1).mean(1) for name, x in z.items()} | {"z_tv": words["z_tv"][:, 0]}

    return jax.jit(run, out_shardings=sharding.replicated(mesh))
