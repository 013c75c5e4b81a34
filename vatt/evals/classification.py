"""Classification of held-out clips, seen through several views whose scores are averaged (VATT paper A.2.5, A.3)."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from vatt.errors import DataError
from vatt.evals.embedding import check_finite, over_views
from vatt.metrics import multi_label, single_label


@dataclasses.dataclass(frozen=True)
class Classification:
    """What was measured. scores: [N C] float32; target: [N C], 1 for the classes of a clip."""

    metrics: dict[str, float]
    scores: np.ndarray
    target: np.ndarray
    ids: list[str]

    def named(self) -> dict[str, float]:
        return self.metrics


def classify(
    logits: Callable[[dict], dict],
    batches: Iterable[dict],
    *,
    labels: Literal["single", "multi"],
    average: Literal["logits", "probabilities"],
) -> Classification:
    """Scores every clip of `batches` (as `vatt.data.pipeline.evaluation_batches` yields them, with `label`).

    Args:
      logits: of N views {name: [N ...]}, {"logits": [N C]}.

    Raises:
      NonFiniteError: a logit is NaN or infinite.
      DataError: there are no clips.
    """
    scores, target, ids = [], [], []
    for batch in over_views(logits, batches):
        check_finite({"logits": batch["logits"]}, batch["ids"])
        scores.append(averaged(batch["logits"], labels=labels, average=average))
        target.append(batch["label"])
        ids += batch["ids"]
    if not ids:
        raise DataError("there is no held-out clip to evaluate; see evaluate.source")
    return score(np.concatenate(scores), np.concatenate(target), ids, labels=labels)


def averaged(logits: np.ndarray, *, labels: str, average: str) -> np.ndarray:
    """The scores [N C] of clips seen through W views, of their logits [N W C]."""
    logits = logits.astype(np.float64)
    if average == "logits":
        return logits.mean(1)
    if labels == "multi":
        return (1 / (1 + np.exp(-logits))).mean(1)
    shares = np.exp(logits - logits.max(2, keepdims=True))
    return (shares / shares.sum(2, keepdims=True)).mean(1)


def score(scores: np.ndarray, target: np.ndarray, ids: list[str], *, labels: str) -> Classification:
    metrics = single_label(scores, target.argmax(1)) if labels == "single" else multi_label(scores, target > 0.5)
    return Classification(metrics, scores, target, ids)
