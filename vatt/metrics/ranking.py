"""How well a ranking finds what belongs to its queries.

A query may have several right items: then the best placed of them counts, as when a video is asked for any of its
captions. `retrieval` takes the matrix of similarities, `retrieval_blocks` the embeddings, of any number, and gives the
same numbers without the matrix.

Items rank by falling similarity. Those with equal similarities come in random order, and the numbers are expectations
over it. Say that g items lie above the best right one, and that p right ones and n wrong ones are as similar as it: its
rank is g + (p + n + 1) / (p + 1), the mean least of p places out of p + n, and one is among the first k with
probability 1 - C(n, k - g) / C(p + n, k - g). With one right item that is g + (e + 1) / 2 and clip((k - g) / e, 0, 1),
where e = n + 1. So a collapsed model scores what chance scores, where other rules give it anything from 0 to 100.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from vatt.errors import NonFiniteError

RECALL_AT = (1, 5, 10)
BLOCK = 1 << 22  # similarities looked at together (32 MB as float64)
TEMPERATURE = 0.01  # of the dual softmax

Target = np.ndarray | Sequence[int] | Sequence[Sequence[int]] | Sequence[np.ndarray]


def retrieval(
    similarity, target: Target | None = None, *, recall_at: tuple[int, ...] = RECALL_AT, block: int = BLOCK
) -> dict[str, float]:
    """Scores the ranking of N items for each of Q queries, every query counted exactly once.

    Similarities are compared as float64, which holds every narrower float exactly: no ties arise here that
    were not in the matrix. Compute it in float32 or wider, for bfloat16 makes ties of its own.

    Args:
      similarity: [Q N], higher is more alike.
      target: the right item of each query, [Q] integers; or the right items of each, Q sequences of integers, none
        empty. None: query i belongs to item i, and Q = N.
      recall_at: the k of R@k.
      block: how many similarities are compared at once; it bounds memory and changes no number.

    Returns:
      R@k for each k (percent of queries, 0-100), median_rank and mean_rank (from 1), queries (Q), items (N)
      and ties (queries whose best right item is as similar as some wrong one).

    Raises:
      NonFiniteError: a similarity is NaN or infinite.
      ValueError: shapes that do not fit, or a target that is no item.
    """
    similarity = np.asarray(similarity)
    if similarity.ndim != 2 or similarity.size == 0:
        raise ValueError(f"similarity has shape {similarity.shape}; it must be [queries, items], not empty")
    queries, items = similarity.shape
    targets = _targets(target, queries, items)
    counts = _Counts.zeros(queries)
    bad, first = 0, ""
    step = max(1, block // items)
    for start in range(0, queries, step):
        rows = slice(start, min(start + step, queries))
        part = similarity[rows].astype(np.float64)  # [rows N]
        finite = np.isfinite(part)
        if not finite.all():
            if not bad:
                query, item = np.argwhere(~finite)[0]
                first = f"{part[query, item]} of query {start + query} and item {item}"
            bad += int(finite.size - np.count_nonzero(finite))
            continue
        right = targets.of(rows)
        of_right = part[right.query, right.item]
        best = right.best(of_right)
        counts.add(rows, part, best)
        counts.right[rows] = right.count(of_right == best[right.query])
    if bad:
        raise NonFiniteError(
            f"{bad} of {similarity.size} similarities are not finite, the first being the "
            f"{first}; look for NaN or infinity in their embeddings"
        )
    return _scores(counts, items, recall_at)


def retrieval_blocks(
    query,
    item,
    target: Target | None = None,
    *,
    post: Literal["none", "dual_softmax"] = "none",
    recall_at: tuple[int, ...] = RECALL_AT,
    block: int = BLOCK,
) -> dict[str, float]:
    """What `retrieval` gives of the dot products of embeddings, in memory of the order of Q + N and one block.

    A rank is a comparison of products, so each must come out the same wherever in a matrix it is computed, or else
    equal pairs would differ in their last bits, and false ranks arise. Matrix products promise no such thing; so
    embeddings are first rounded to a grid (see `on_grid`) on which every product and partial sum is exact in float64,
    in any order. 20,000 x 20,000 in 512 dimensions take 45 MB beside the embeddings, where the matrix takes 3.2 GB.
    The numbers are those of `retrieval(on_grid(query) @ on_grid(item).T, target)`, whatever the block.

    Args:
      query: [Q E] embeddings; of unit length for cosines.
      item: [N E].
      target, recall_at, block: as in `retrieval`.
      post: what is done to similarities s before ranking. dual_softmax: s[q, i] times the softmax over all queries q of
        s[q, i] / 0.01 (Cheng et al. 2021, arXiv 2109.04290, as it is used at test time; the temperature is from memory,
        unconfirmed, and publications vary it). A query's rank then depends on all other queries: report it apart.

    Raises:
      NonFiniteError: an embedding is NaN or infinite.
      ValueError: as `retrieval`.
    """
    query, item = np.asarray(query), np.asarray(item)
    if query.ndim != 2 or item.ndim != 2 or query.shape[1] != item.shape[1] or not query.size or not item.size:
        raise ValueError(f"embeddings have shapes {query.shape} and {item.shape}; they must be [Q E] and [N E]")
    queries, items = len(query), len(item)
    targets = _targets(target, queries, items)
    few = max(1, block // query.shape[1])  # embeddings whose copies take no more room than a block
    query_scale, item_scale = _scale(query, "query", few), _scale(item, "item", few)
    wide = min(items, max(int(block**0.5), block // queries))
    tall = max(1, block // wide)
    row_blocks = [slice(start, min(start + tall, queries)) for start in range(0, queries, tall)]
    column_blocks = [slice(start, min(start + wide, items)) for start in range(0, items, wide)]

    def product(rows: slice, columns: slice) -> np.ndarray:
        return _on_grid(query[rows], query_scale) @ _on_grid(item[columns], item_scale).T

    logsum = np.zeros(0)
    if post == "dual_softmax":
        logsum = np.full(items, -np.inf)  # over queries, of each item
        for columns in column_blocks:
            for rows in row_blocks:
                _log_add(logsum[columns], product(rows, columns) / TEMPERATURE)
        logsum = logsum.astype(np.float32).astype(np.float64)  # equal items, equal sums, however they were added up

    counts = _Counts.zeros(queries)
    for rows in row_blocks:
        right = targets.of(rows)
        of_right = np.empty(len(right.item))
        for start in range(0, len(right.item), few):
            part = slice(start, start + few)
            of_query = _on_grid(query[rows][right.query[part]], query_scale)
            of_right[part] = np.einsum("pe,pe->p", of_query, _on_grid(item[right.item[part]], item_scale))
        if post == "dual_softmax":
            of_right = _dual(of_right, logsum[right.item])
        best = right.best(of_right)
        counts.right[rows] = right.count(of_right == best[right.query])
        for columns in column_blocks:
            part = product(rows, columns)
            counts.add(rows, _dual(part, logsum[columns]) if post == "dual_softmax" else part, best)
    return _scores(counts, items, recall_at)


def on_grid(x) -> np.ndarray:
    """Embeddings [N E] as float64, rounded so that the dot products of any two such sets are exact.

    The longest vector is scaled by a power of two to a length below sqrt(2), and components are rounded to multiples of
    2^-26: products are multiples of 2^-52, and a partial sum of them is below 2 (Cauchy-Schwarz), so that 53 bits hold
    it. On cosines of unit vectors in 512 dimensions the rounding is some 1e-8, less than float32 products err. The
    scale is taken off again by a power of two, which rounds nothing.
    """
    return _on_grid(np.asarray(x), _scale(np.asarray(x), "item", len(x)))


def _scale(x: np.ndarray, what: str, few: int) -> float:
    """The power of two that brings every vector below the length of sqrt(2); `few` are looked at at a time."""
    longest = 0.0
    for start in range(0, len(x), few):
        part = x[start : start + few].astype(np.float64)
        finite = np.isfinite(part).all(axis=1)
        if not finite.all():
            first = start + int(np.argmin(finite))
            raise NonFiniteError(f"the embedding of {what} {first} is NaN or infinite")
        longest = max(longest, float(np.sqrt(np.einsum("ne,ne->n", part, part).max())))
    return float(2.0 ** np.ceil(np.log2(longest / 1.4))) if longest > 0 else 1.0


def _on_grid(x: np.ndarray, scale: float) -> np.ndarray:
    grid = np.multiply(x, 2.0**26 / scale, dtype=np.float64)
    np.rint(grid, out=grid)
    grid *= scale * 2.0**-26
    return grid


def chance(
    items: int, *, positives: Sequence[int] | np.ndarray = (1,), recall_at: tuple[int, ...] = RECALL_AT
) -> dict[str, float]:
    """Expected scores of a random order of N = `items` items: R@k (percent), median_rank and mean_rank. `positives`:
    how many right items each query has; one by default."""
    right = np.asarray(positives)
    if items < 1:
        raise ValueError(f"items is {items}; there must be at least 1")
    if right.size == 0 or right.min() < 1 or right.max() > items:
        raise ValueError(f"positives must lie in 1 to {items}")
    counts = _Counts(np.zeros(len(right), np.int64), np.full(len(right), items), right)
    scores = _scores(counts, items, recall_at)
    return {name: value for name, value in scores.items() if name not in ("queries", "items", "ties")}


class _Counts(NamedTuple):
    """Of each query [Q]: items above its best right one, items equal to that, and how many of these are right."""

    greater: np.ndarray
    equal: np.ndarray
    right: np.ndarray

    @classmethod
    def zeros(cls, queries: int) -> "_Counts":
        return cls(*(np.zeros(queries, np.int64) for _ in range(3)))

    def add(self, rows: slice, similarity: np.ndarray, best: np.ndarray) -> None:
        """Counts some items of the queries `rows`: similarity [rows items], best [rows]."""
        self.greater[rows] += np.count_nonzero(similarity > best[:, None], axis=1)
        self.equal[rows] += np.count_nonzero(similarity == best[:, None], axis=1)


def _scores(counts: _Counts, items: int, recall_at: tuple[int, ...]) -> dict[str, float]:
    greater, equal, right = counts
    wrong = equal - right
    rank = greater + (equal + 1) / (right + 1)
    scores: dict[str, float] = {}
    for k in recall_at:
        places = np.clip(k - greater, 0, equal)  # that those of equal similarity have among the first k
        missed = np.ones(len(rank))  # probability that wrong ones take them all
        for taken in range(places.max(initial=0)):
            left = np.maximum(wrong - taken, 0) / np.maximum(equal - taken, 1)
            missed *= np.where(taken < places, left, 1.0)
        scores[f"R@{k}"] = float(100 * (1 - missed).mean())
    return scores | {
        "median_rank": float(np.median(rank)),
        "mean_rank": float(rank.mean()),
        "queries": len(rank),
        "items": items,
        "ties": int(np.count_nonzero(wrong)),
    }


def _log_add(total: np.ndarray, logits: np.ndarray) -> None:
    """total [N], in place, becomes log(exp(total) + sum over rows of exp(logits [rows N]))."""
    top = np.maximum(total, logits.max(axis=0))
    total[:] = top + np.log(np.exp(total - top) + np.exp(logits - top).sum(axis=0))


def _dual(similarity: np.ndarray, logsum: np.ndarray) -> np.ndarray:
    return similarity * np.exp(similarity / TEMPERATURE - logsum)


class _Right(NamedTuple):
    """The right items of some queries: pairs of a query's number [P] and an item [P], by query; `first` [Q] of each."""

    query: np.ndarray
    item: np.ndarray
    first: np.ndarray

    def best(self, similarity: np.ndarray) -> np.ndarray:
        return np.maximum.reduceat(similarity, self.first)

    def count(self, chosen: np.ndarray) -> np.ndarray:
        return np.add.reduceat(chosen.astype(np.int64), self.first)


class _Targets(NamedTuple):
    """The right items of query q are item[offset[q] : offset[q + 1]], each once."""

    item: np.ndarray
    offset: np.ndarray

    def of(self, rows: slice) -> _Right:
        offset = self.offset[rows.start : rows.stop + 1]
        query = np.repeat(np.arange(len(offset) - 1), np.diff(offset))
        return _Right(query, self.item[offset[0] : offset[-1]], offset[:-1] - offset[0])


def _targets(target: Target | None, queries: int, items: int) -> _Targets:
    if target is None:
        if queries != items:
            raise ValueError(
                f"similarity is {queries} x {items}: without targets it must be square, query i "
                "belonging to item i; pass target"
            )
        return _Targets(np.arange(queries), np.arange(queries + 1))
    if len(target) != queries:
        raise ValueError(f"there are {len(target)} targets; {queries} queries need as many")
    if np.ndim(target[0]) == 0:
        flat, lengths = np.asarray(target), np.ones(queries, np.int64)
    else:
        each = [np.unique(np.asarray(some)) for some in target]
        flat, lengths = np.concatenate(each), np.array([len(some) for some in each])
        if not lengths.all():
            raise ValueError(f"query {int(np.argmin(lengths))} has no target")
    if flat.ndim != 1 or not np.issubdtype(flat.dtype, np.integer):
        raise ValueError(f"targets are {flat.dtype} of shape {flat.shape}; {queries} queries need integers")
    offset = np.concatenate([[0], np.cumsum(lengths)])
    wrong = np.flatnonzero((flat < 0) | (flat >= items))
    if len(wrong):
        query = int(np.searchsorted(offset, wrong[0], side="right")) - 1
        raise ValueError(f"target of query {query} is {flat[wrong[0]]}; items are 0 to {items - 1}")
    return _Targets(flat, offset)
