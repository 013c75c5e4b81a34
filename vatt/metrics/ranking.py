"""How well a ranking finds what belongs to its queries."""

import numpy as np

from vatt.errors import NonFiniteError

RECALL_AT = (1, 5, 10)

# Similarities looked at together: what bounds memory beyond the matrix itself (some 60 MB).
_BLOCK = 1 << 22


def retrieval(similarity, target=None, *, recall_at: tuple[int, ...] = RECALL_AT) -> dict[str, float]:
    """Scores the ranking of N items for each of Q queries, every query counted exactly once.

    Items rank by falling similarity. Those with equal similarities come in random order, and the numbers are
    expectations over it: a target with g items above it and e equal to it, itself included, has rank
    g + (e + 1) / 2 and is among the first k with probability clip((k − g) / e, 0, 1). So a collapsed model
    scores what chance scores, where other rules give it anything from 0 to 100.

    Similarities are compared as float64, which holds every narrower float exactly: no ties arise here that
    were not in the matrix. Compute it in float32 or wider, for bfloat16 makes ties of its own.

    Args:
      similarity: [Q N], higher is more alike.
      target: [Q] integers, the one right item of each query. None: query i belongs to item i, and Q = N.
      recall_at: the k of R@k.

    Returns:
      R@k for each k (percent of queries, 0-100), median_rank and mean_rank (from 1), queries (Q), items (N)
      and ties (queries whose target has the same similarity as another item).

    Raises:
      NonFiniteError: a similarity is NaN or infinite.
      ValueError: shapes that do not fit, or a target that is no item.
    """
    similarity = np.asarray(similarity)
    if similarity.ndim != 2 or similarity.size == 0:
        raise ValueError(f"similarity has shape {similarity.shape}; it must be [queries, items], not empty")
    queries, items = similarity.shape
    target = _targets(target, queries, items)

    greater, equal = np.empty(queries, np.int64), np.empty(queries, np.int64)
    bad, first = 0, ""
    rows = max(1, _BLOCK // items)
    for start in range(0, queries, rows):
        block = similarity[start : start + rows].astype(np.float64)  # [rows N]
        finite = np.isfinite(block)
        if not finite.all():
            if not bad:
                query, item = np.argwhere(~finite)[0]
                first = f"{block[query, item]} of query {start + query} and item {item}"
            bad += int(finite.size - np.count_nonzero(finite))
            continue
        of_target = np.take_along_axis(block, target[start : start + rows, None], axis=1)  # [rows 1]
        greater[start : start + rows] = np.count_nonzero(block > of_target, axis=1)
        equal[start : start + rows] = np.count_nonzero(block == of_target, axis=1)
    if bad:
        raise NonFiniteError(
            f"{bad} of {similarity.size} similarities are not finite, the first being the "
            f"{first}; look for NaN or infinity in their embeddings"
        )

    rank = greater + (equal + 1) / 2
    scores: dict[str, float] = {f"R@{k}": float(100 * np.clip((k - greater) / equal, 0, 1).mean()) for k in recall_at}
    return scores | {
        "median_rank": float(np.median(rank)),
        "mean_rank": float(rank.mean()),
        "queries": queries,
        "items": items,
        "ties": int(np.count_nonzero(equal > 1)),
    }


def chance(items: int, *, recall_at: tuple[int, ...] = RECALL_AT) -> dict[str, float]:
    """Expected scores of a random order of N = `items` items: R@k (percent), median_rank and mean_rank."""
    if items < 1:
        raise ValueError(f"items is {items}; there must be at least 1")
    scores = {f"R@{k}": 100 * min(k / items, 1.0) for k in recall_at}
    return scores | {"median_rank": (items + 1) / 2, "mean_rank": (items + 1) / 2}


def _targets(target, queries: int, items: int) -> np.ndarray:
    if target is None:
        if queries != items:
            raise ValueError(
                f"similarity is {queries} x {items}: without targets it must be square, query i "
                "belonging to item i; pass target"
            )
        return np.arange(queries)
    target = np.asarray(target)
    if target.shape != (queries,) or not np.issubdtype(target.dtype, np.integer):
        raise ValueError(f"target is {target.dtype} of shape {target.shape}; {queries} queries need {queries} integers")
    wrong = np.flatnonzero((target < 0) | (target >= items))
    if len(wrong):
        raise ValueError(f"target of query {wrong[0]} is {target[wrong[0]]}; items are 0 to {items - 1}")
    return target
