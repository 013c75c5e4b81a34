"""Weighted k-nearest-neighbour classification: a probe with nothing to train, cheap enough to watch during training.

As DINO evaluates (Caron et al. 2021, arXiv 2104.14294, section 4.1 and released code, after Wu et al. 2018): each of
the k nearest training clips votes for its class with weight exp(cosine / 0.07).
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from vatt.errors import NonFiniteError
from vatt.evals.embedding import unit
from vatt.metrics import single_label

TEMPERATURE = 0.07
_BLOCK = 1 << 22  # similarities looked at together: some 100 MB with what is made of them


def knn(
    train,
    train_labels: Sequence[str] | np.ndarray,
    test,
    test_labels: Sequence[str] | np.ndarray,
    *,
    k: int = 20,
) -> dict[str, float]:
    """Accuracy of k-nearest-neighbour classification by cosine similarity.

    Training clips as near as the k-th share the votes that are left, so that collapsed features score what guessing by
    class frequency scores.

    Args:
      train, test: [N D] and [M D] features, of any length.
      train_labels, test_labels: N and M; a test label that no training clip has counts as wrong.
      k: neighbours; more than N means N.

    Returns: knn_top_1 (percent) and knn_clips (M).

    Raises:
      ValueError: shapes that do not fit, or no clips.
      NonFiniteError: a feature is NaN or infinite.
    """
    train, test = _rows(train, train_labels, "train"), _rows(test, test_labels, "test")
    return _knn(train, np.asarray(train_labels), test, np.asarray(test_labels), k, leave_one_out=False)


def knn_of_source(features, labels: Sequence[tuple[str, ...]], *, k: int = 20) -> dict[str, float]:
    """The same of clips among themselves: each is classified by the others.

    Clips count that have one label, which another clip has, too.

    Args:
      features: [N D].
      labels: of N clips, as items have them.

    Returns: as `knn`; {} where fewer than two classes are left.
    """
    features = _rows(features, labels, "features")
    counts = Counter(label[0] for label in labels if len(label) == 1)
    kept = [i for i, label in enumerate(labels) if len(label) == 1 and counts[label[0]] > 1]
    y = np.array([labels[i][0] for i in kept])
    if len(set(y.tolist())) < 2:
        return {}
    return _knn(features[kept], y, features[kept], y, k, leave_one_out=True)


def _knn(train, train_labels, test, test_labels, k: int, *, leave_one_out: bool) -> dict[str, float]:
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    classes, y = np.unique(train_labels, return_inverse=True)
    votes_of = np.eye(len(classes))[y]  # [N C]
    k = min(k, len(train) - leave_one_out)
    correct, block = 0.0, max(1, _BLOCK // len(train))
    for start in range(0, len(test), block):
        # Rounded so that equal clips stay equal: what comes of a product depends on its place in the matrix.
        similarity = (test[start : start + block] @ train.T).astype(np.float64).round(6)  # [b N]
        if leave_one_out:
            rows = np.arange(len(similarity))
            similarity[rows, start + rows] = -np.inf
        last = np.partition(similarity, -k, axis=1)[:, [-k]]  # the k-th highest
        nearer, equal = similarity > last, similarity == last
        share = (k - nearer.sum(1, keepdims=True)) / equal.sum(1, keepdims=True)
        weight = np.exp((similarity - similarity.max(1, keepdims=True)) / TEMPERATURE) * (nearer + share * equal)
        known = np.isin(test_labels[start : start + block], classes)
        if known.any():
            target = np.searchsorted(classes, test_labels[start : start + block][known])
            correct += single_label((weight @ votes_of)[known], target, top=(1,))["top_1"] * known.sum()
    return {"knn_top_1": float(correct / len(test)), "knn_clips": len(test)}


def _rows(features, labels: Sequence | np.ndarray, name: str) -> np.ndarray:
    """Unit features [N D]."""
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or len(features) != len(labels) or not len(features):
        raise ValueError(f"{name} has shape {features.shape}, with {len(labels)} labels; it must be [clips, width]")
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise NonFiniteError(f"{(~finite).sum()} rows of {name} are not finite, first row {int(finite.argmin())}")
    return unit(features)
