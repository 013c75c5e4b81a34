"""How well scores tell classes: one class an item (top-k), or any number of them (mAP, ROC-AUC, d′)."""

from statistics import NormalDist

import numpy as np

from vatt.errors import NonFiniteError
from vatt.metrics.ranking import retrieval


def single_label(scores, target, *, top: tuple[int, ...] = (1, 5)) -> dict[str, float]:
    """Accuracy where each of N items belongs to one of C classes.

    Classes with equal scores come in random order, and the numbers are expectations over it, as in
    `vatt.metrics.ranking`: a classifier that collapsed scores what chance scores. Scores are compared as float64.

    Args:
      scores: [N C], higher is likelier: logits, probabilities or decision values.
      target: [N] integers, the class of each item.
      top: the k of top_k; a k above C means C.

    Returns:
      top_k for each k (percent of items, 0-100), items (N) and ties (items whose class has the same score as another).

    Raises:
      NonFiniteError: a score is NaN or infinite; names the row.
      ValueError: shapes that do not fit, or a target that is no class.
    """
    scores = _finite(scores)
    N, C = scores.shape
    target = np.asarray(target)
    if target.shape != (N,) or not np.issubdtype(target.dtype, np.integer):
        raise ValueError(f"target is {target.dtype} of shape {target.shape}; {N} rows of scores need {N} integers")
    wrong = np.flatnonzero((target < 0) | (target >= C))
    if len(wrong):
        raise ValueError(f"target of row {wrong[0]} is {target[wrong[0]]}; classes are 0 to {C - 1}")
    found = retrieval(scores, target, recall_at=top)  # an item asks, and the classes are ranked
    return {f"top_{k}": found[f"R@{k}"] for k in top} | {"items": N, "ties": found["ties"]}


def multi_label(scores, target) -> dict[str, float]:
    """Mean over classes of average precision, ROC-AUC and d′, where an item may belong to any number of C classes.

    Average precision is scikit-learn's: the sum of precision times the step in recall, over distinct scores and without
    interpolation. AUC counts equal scores as half. A class counts only if some item belongs to it and, for AUC, some
    item does not: no score can rank what is not there.

    d′ = √2 Φ⁻¹(AUC) is published in two ways, which differ in what is averaged: AUC over classes first
    (`d_prime_of_AUC`; PANNs, PSLA), or d′ over classes (`mean_d_prime`; VATT), which comes out higher. An AUC of 1
    would give infinity: the AUC of a class with P positives and Q negatives is held half a pair, 1 / (2 P Q), away from
    0 and 1 before d′ is taken of it, and the mean AUC by the mean of these.

    Args:
      scores: [N C], higher is likelier.
      target: [N C] bool, or 0 and 1.

    Returns:
      mAP and AUC (percent, 0-100), d_prime_of_AUC, mean_d_prime, classes (counted for mAP), skipped (those without a
      positive), skipped_for_AUC (those without a positive or without a negative), items (N). AUC and d′ are NaN if no
      class counts for them.

    Raises:
      NonFiniteError: a score is NaN or infinite; names the row.
      ValueError: shapes that do not fit, a target that is neither 0 nor 1, or no positive in any class.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores = _finite(scores)
    target = np.asarray(target)
    if target.shape != scores.shape:
        raise ValueError(f"target has shape {target.shape}, scores have {scores.shape}; both must be [N C]")
    if target.dtype != bool:
        if not np.isin(target, (0, 1)).all():
            raise ValueError("target holds something other than 0 and 1")
        target = target.astype(bool)

    N, C = scores.shape
    positives = target.sum(0)
    some, both = positives > 0, (positives > 0) & (positives < N)
    if not some.any():
        raise ValueError(f"none of {N} items belongs to any of {C} classes")
    precision = [average_precision_score(target[:, c], scores[:, c]) for c in np.flatnonzero(some)]
    area = np.array([roc_auc_score(target[:, c], scores[:, c]) for c in np.flatnonzero(both)])
    half_a_pair = 1 / (2 * positives[both] * (N - positives[both]))
    return {
        "mAP": 100 * float(np.mean(precision)),
        "AUC": 100 * float(area.mean()) if len(area) else float("nan"),
        "d_prime_of_AUC": d_prime(area.mean(), half_a_pair.mean()) if len(area) else float("nan"),
        "mean_d_prime": float(np.mean([d_prime(*pair) for pair in zip(area, half_a_pair, strict=True)]))
        if len(area)
        else float("nan"),
        "classes": int(some.sum()),
        "skipped": int((~some).sum()),
        "skipped_for_AUC": int((~both).sum()),
        "items": N,
    }


def d_prime(area: float, margin: float = 0.0) -> float:
    """√2 Φ⁻¹(area under the ROC curve), the area being held at least `margin` from 0 and 1. Raises ValueError if it is
    0 or 1 then still."""
    if not 0 < (held := min(max(float(area), margin), 1 - margin)) < 1:
        raise ValueError(f"d′ of an AUC of {held:g} is infinite; give a margin")
    return 2**0.5 * NormalDist().inv_cdf(held)


def _finite(scores) -> np.ndarray:
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"scores have shape {scores.shape}; they must be [items, classes], not empty")
    bad = ~np.isfinite(scores).all(axis=1)
    if bad.any():
        raise NonFiniteError(
            f"{bad.sum()} of {len(scores)} rows of scores are not finite, the first being row {int(bad.argmax())}"
        )
    return scores
