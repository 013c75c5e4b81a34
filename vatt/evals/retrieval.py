"""Zero-shot retrieval between modalities on held-out clips (VATT paper section 4.2.4 and appendix A.3.3).

A clip's embedding is the mean over its views (windows, and crops of them), brought to unit length; similarity is the
cosine. Every query counts once, ties as the expectation over random order (see `vatt.metrics`).
"""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from vatt.errors import DataError
from vatt.evals.embedding import embed_views, unit
from vatt.evals.knn import knn_of_source
from vatt.metrics import chance, retrieval_blocks

# direction -> embeddings of the query and of the item
DIRECTIONS = {
    "text_to_video": ("z_tv", "z_vt"),
    "video_to_text": ("z_vt", "z_tv"),
    "audio_to_video": ("z_av", "z_va"),
    "video_to_audio": ("z_va", "z_av"),
    "text_to_audio": ("z_tv", "z_at"),
    "audio_to_text": ("z_at", "z_tv"),
}
# embedding, or features of a tower -> the mask that tells which clips have it
MASKS = {
    "video": "video_mask",
    "audio": "audio_mask",
    "z_va": "video_mask",
    "z_vt": "video_mask",
    "z_av": "audio_mask",
    "z_at": "audio_mask",
    "z_tv": "text_mask",
}
TOWERS = ("video", "audio")
LISTS = ("labels", "ids", "media")  # what is kept of batches' lists


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """What was measured.

    metrics, chance: by direction, and what a random order would give.
    embeddings: by direction, of the queries and the items, [N E] of unit length; query i belongs to item i.
    knn: by tower, classification of its features by their nearest neighbours, where clips have labels.
    """

    metrics: dict[str, dict[str, float]]
    chance: dict[str, dict[str, float]]
    embeddings: dict[str, tuple[np.ndarray, np.ndarray]]
    knn: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def named(self) -> dict[str, float]:
        """One flat dict, such as {"text_to_video/R@1": 24.4}."""
        found = {f"{d}/{name}": value for d, values in self.metrics.items() for name, value in values.items()}
        return found | {f"{tower}/knn_top_1": values["top_1"] for tower, values in self.knn.items()}


def evaluate(
    embedder: Callable[[dict], dict],
    batches: Iterable[dict],
    *,
    group: Callable[[str, str], str] = lambda id, media: media,
) -> Retrieval:
    """Embeds the clips of `batches` (as `vatt.data.pipeline.evaluation_batches` yields them) and ranks them; those that
    have labels are classified by their nearest neighbours as well.

    Args:
      group: what a clip was cut from, by its id and its file.

    Raises:
      NonFiniteError: an embedding is NaN or infinite.
      DataError: no clip has the modalities that some direction needs, nor labels.
    """
    z, has, lists = embed(embedder, batches)
    metrics, by_chance, embeddings = {}, {}, {}
    for direction, (query, item) in DIRECTIONS.items():
        if query not in z or item not in z or not (both := has[query] & has[item]).any():
            continue
        embeddings[direction] = z[query][both], z[item][both]
        metrics[direction] = retrieval_blocks(*embeddings[direction])
        by_chance[direction] = chance(int(both.sum()))
    knn = {}
    for tower in TOWERS:
        if "labels" not in lists or tower not in z or not has[tower].any():
            continue
        labels, ids, media = ([lists[name][row] for row in np.flatnonzero(has[tower])] for name in LISTS)
        if found := knn_of_source(z[tower][has[tower]], labels, list(map(group, ids, media))):
            knn[tower] = found
    if not metrics and not knn:
        raise DataError(
            "no held-out clip has two modalities, and they have no labels: there is nothing to measure. "
            "evaluate.source needs clips with sound, captions or labels"
        )
    return Retrieval(metrics, by_chance, embeddings, knn)


def embed(embedder: Callable[[dict], dict], batches: Iterable[dict]) -> tuple[dict, dict, dict[str, list]]:
    """By name, unit embeddings [N E] and unit features of the towers [N D], views averaged; which of the N clips have
    each; and what is listed of the clips, such as their ids."""
    z: dict[str, list] = {}
    has: dict[str, list] = {}
    lists: dict[str, list] = {}
    for batch in embed_views(embedder, batches):
        for name in [name for name in LISTS if name in batch]:
            lists.setdefault(name, []).extend(batch[name])
        for name in MASKS.keys() & batch.keys():
            views = batch[name]
            z.setdefault(name, []).append(unit(views.mean(1) if views.ndim == 3 else views))
            has.setdefault(name, []).append(batch.get(MASKS[name], np.ones(len(views), bool)))
    if not z:
        raise DataError("there is no held-out clip to evaluate; see evaluate.source")
    return {k: np.concatenate(v) for k, v in z.items()}, {k: np.concatenate(v) for k, v in has.items()}, lists
