"""Zero-shot retrieval between modalities on held-out clips (VATT paper section 4.2.4 and appendix A.3.3).

A clip's embedding is the mean over its views (windows, and crops of them), brought to unit length; similarity is the
cosine. Every query counts once, ties as the expectation over random order (see `vatt.metrics`).
"""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from vatt.errors import DataError
from vatt.evals.embedding import embed_views, unit
from vatt.metrics import chance, retrieval

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


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """What was measured: for every direction, metrics and what chance would give; and the similarities."""

    metrics: dict[str, dict[str, float]]
    chance: dict[str, dict[str, float]]
    similarity: dict[str, np.ndarray]  # [queries items], float32

    def named(self) -> dict[str, float]:
        """One flat dict, such as {"text_to_video/R@1": 24.4}."""
        return {f"{d}/{name}": value for d, values in self.metrics.items() for name, value in values.items()}


def evaluate(embedder: Callable[[dict], dict], batches: Iterable[dict]) -> Retrieval:
    """Embeds the clips of `batches` (as `vatt.data.pipeline.evaluation_batches` yields them) and ranks them.

    Raises:
      NonFiniteError: an embedding is NaN or infinite.
      DataError: no clip has the modalities that some direction needs.
    """
    z, has = embed(embedder, batches)
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


def embed(embedder: Callable[[dict], dict], batches: Iterable[dict]) -> tuple[dict, dict]:
    """Unit embeddings [N E] by name, views averaged, and which of the N clips have each."""
    z: dict[str, list] = {}
    has: dict[str, list] = {}
    for batch in embed_views(embedder, batches):
        for name in MASKS.keys() & batch.keys():
            views = batch[name]
            z.setdefault(name, []).append(unit(views.mean(1) if views.ndim == 3 else views))
            has.setdefault(name, []).append(batch.get(MASKS[name], np.ones(len(views), bool)))
    if not z:
        raise DataError("there is no held-out clip to evaluate; see evaluate.source")
    return {k: np.concatenate(v) for k, v in z.items()}, {k: np.concatenate(v) for k, v in has.items()}
