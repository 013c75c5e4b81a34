"""Weighted k-nearest-neighbour classification: a probe with nothing to train, cheap enough to watch during training.

As DINO evaluates (Caron et al. 2021, arXiv 2104.14294, section 4.1 and released code, after Wu et al. 2018): each of
the k nearest clips votes for its class with weight exp(cosine / 0.07).
"""

from collections.abc import Sequence

import numpy as np

from vatt.errors import NonFiniteError
from vatt.evals.embedding import unit
from vatt.metrics import single_label

NEIGHBOURS = 20
TEMPERATURE = 0.07
_BLOCK = 1 << 22  # similarities looked at together: some 100 MB with what is made of them


def knn_of_source(
    features, labels: Sequence[tuple[str, ...]], groups: Sequence[str], *, k: int = NEIGHBOURS
) -> dict[str, float]:
    """Accuracy of k-nearest-neighbour classification of clips among themselves, each by those of other groups.

    Clips count that have one label, which a clip of another group has, too.

    Args:
      features: [N D], of any length.
      labels: of N clips, as items have them.
      groups: of N clips, what each was cut from: two clips of one film know each other without knowing their class.
      k: neighbours; more than there are means all.

    Returns: top_1 and chance, what guessing by class frequency gives (both in percent), clips and classes; {} where
      fewer than two classes are left.

    Raises:
      ValueError: shapes that do not fit, or no clips.
      NonFiniteError: a feature is NaN or infinite.
    """
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or len(features) != len(labels) or not len(features):
        raise ValueError(
            f"features have shape {features.shape}, with {len(labels)} labels; they must be [clips, width]"
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise NonFiniteError(f"{(~finite).sum()} of the features are not finite, first row {int(finite.argmin())}")
    groups_of: dict[str, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        if len(label) == 1:
            groups_of.setdefault(label[0], set()).add(group)
    kept = [i for i, label in enumerate(labels) if len(label) == 1 and len(groups_of[label[0]]) > 1]
    classes, y, sizes = np.unique([labels[i][0] for i in kept], return_inverse=True, return_counts=True)
    if len(classes) < 2:
        return {}
    scores = votes(unit(features[kept]), y, np.unique([groups[i] for i in kept], return_inverse=True)[1], k=k)
    return {
        "top_1": single_label(scores, y, top=(1,))["top_1"],
        "chance": float(100 * np.square(sizes / len(y)).sum()),
        "clips": len(y),
        "classes": len(classes),
    }


def votes(z: np.ndarray, y: np.ndarray, group: np.ndarray, *, k: int) -> np.ndarray:
    """What the k clips nearest to each say of it, [N C], those of its group left out.

    Clips as near as the k-th share the votes that are left, so that collapsed features score what guessing by class
    frequency scores.

    Args:
      z: [N D], of unit length.
      y: [N] classes, from 0 to C - 1.
      group: [N] integers.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    of_class = np.eye(int(y.max()) + 1)[y]  # [N C]
    out, block = np.empty((len(z), of_class.shape[1])), max(1, _BLOCK // len(z))
    for start in range(0, len(z), block):
        # Rounded so that equal clips stay equal: what comes of a product depends on its place in the matrix.
        similarity = (z[start : start + block] @ z.T).astype(np.float64).round(6)  # [b N]
        similarity[group[start : start + block, None] == group] = -np.inf
        last = np.partition(similarity, -min(k, len(z)), axis=1)[:, [-min(k, len(z))]]  # the k-th highest
        last = np.where(np.isinf(last), -2.0, last)  # there are fewer: all of them
        nearer, equal = similarity > last, similarity == last
        share = (k - nearer.sum(1, keepdims=True)) / np.maximum(equal.sum(1, keepdims=True), 1)
        weight = np.exp((similarity - similarity.max(1, keepdims=True)) / TEMPERATURE) * (nearer + share * equal)
        out[start : start + block] = weight @ of_class
    return out
