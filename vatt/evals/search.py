"""Finds the windows of an index that are nearest to a query: exactly by default.

Scores are cosines. They are summed row by row in one order, so that equal vectors have equal scores wherever they stand
in the file, and ties go to the earlier row: the same question always has the same answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vatt.errors import DataError
from vatt.evals.nearest import Nearest
from vatt.evals.query import Query
from vatt.evals.rows import Block, Pair, StoredIndex

OVERLAP = 0.5  # of the shorter window: hits of one file that share more are one hit


@dataclass(frozen=True)
class Hit:
    """A window of a file. score: cosine to the query. start, end: seconds. text: the caption, of a row of text."""

    row: int
    score: float
    path: str
    start: float
    end: float
    modality: str
    space: str
    text: str | None


@dataclass(eq=False)
class Searcher:
    """Searches one index, again and again.

    keep: "memory" holds the vectors that were asked for once; "disk" reads them for every query.
    nearest: an approximate index of the same rows, which is then asked instead, but for a few rows or for all of them.
    """

    index: StoredIndex
    keep: Literal["memory", "disk"] = "disk"
    nearest: Nearest | None = None
    _kept: dict[Pair, list[Block]] = field(default_factory=dict)

    def search(self, query: Query, pairs: Sequence[Pair], *, k: int, per_file: int = 1) -> list[Hit]:
        """The k best hits, best first.

        Args:
          pairs: what is searched, as `wanted_pairs` gives it.
          per_file: most hits of one file. Windows that overlap by more than half count as one, the best of them.

        Raises:
          DataError: the query has no vector in a space, or one of another width than the index's.
        """
        for space, modality in pairs:
            if space not in query.vectors:
                raise DataError(
                    f"this model has no head that brings {query.kind} into {space}, where it would meet {modality}"
                )
        if self.nearest is not None:  # asked for more until enough files are among what comes back
            count, total = max(10 * k, 100), len(self.index.rows(pairs))
            while count < total:
                found = [self.nearest.find(query.vectors[pair[0]], pair, count) for pair in pairs]
                rows, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
                hits = self._hits(rows, scores, k, per_file)
                if len(hits) >= k:
                    return hits
                count *= 4
        return self._hits(*self._exact(query, pairs), k, per_file)  # which is also the best way to ask for all rows

    def _exact(self, query: Query, pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
        rows, scores = [], []
        for space in sorted({space for space, _ in pairs}):
            for some, vectors in self._blocks([pair for pair in pairs if pair[0] == space]):
                rows.append(some)
                scores.append(cosines(vectors, query.vectors[space], self.index))
        return np.concatenate(rows), np.concatenate(scores)

    def _blocks(self, pairs: Sequence[Pair]) -> Iterable[Block]:
        if self.keep == "disk":
            return self.index.blocks(pairs)
        for pair in pairs:
            if pair not in self._kept:
                self._kept[pair] = list(self.index.blocks([pair]))
        return [block for pair in pairs for block in self._kept[pair]]

    def _hits(self, rows: np.ndarray, scores: np.ndarray, k: int, per_file: int) -> list[Hit]:
        index, hits, taken = self.index, [], {}
        for i in np.lexsort((rows, -scores)):
            row = int(rows[i])
            before = taken.setdefault(int(index.file[row]), [])
            if len(before) < per_file and not any(self._overlap(row, other) for other in before):
                before.append(row)
                hits.append(self._hit(row, float(scores[i])))
                if len(hits) == k:
                    break
        return hits

    def _overlap(self, a: int, b: int) -> bool:
        start, end = self.index.start, self.index.end
        shared = min(end[a], end[b]) - max(start[a], start[b])
        return shared > OVERLAP * min(end[a] - start[a], end[b] - start[b])

    def _hit(self, row: int, score: float) -> Hit:
        index = self.index
        return Hit(
            row=row,
            score=score,
            path=index.files[index.file[row]],
            start=float(index.start[row]),
            end=float(index.end[row]),
            modality=index.modalities[index.modality[row]],
            space=index.spaces[index.space[row]],
            text=index.text[row].as_py(),
        )


def cosines(vectors: np.ndarray, query: np.ndarray, index: StoredIndex) -> np.ndarray:
    """Dot products of unit vectors [M E] with one [E]. [M] float32

    einsum sums every row alike, as a matrix product does not, and is as fast: both wait for memory.
    """
    if vectors.shape[1] != len(query):
        raise DataError(f"{index.path}: its vectors are {vectors.shape[1]} wide, and the query's {len(query)}")
    scores = np.einsum("me,e->m", vectors, query)
    if not np.isfinite(scores).all():
        raise DataError(f"{index.path}: holds vectors that are NaN or infinite; make it anew with vatt embed")
    return scores
