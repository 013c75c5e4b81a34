"""An approximate index (HNSW, by usearch) beside an exact one, for files of millions of rows.

    emb.parquet.usearch/about.json           which Parquet it is of, what it holds, how often it finds what is nearest
    emb.parquet.usearch/HASH-vt-video.usearch   a graph for every space and modality; mapped into memory, not read

about.json is replaced last and names the rest, so that what it names is complete. Graphs are built by all cores, and so
never twice alike: what holds is that scores are exact, and that recall is what was measured of this very graph.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vatt.errors import ConfigError, DataError
from vatt.evals.rows import Pair, StoredIndex

FORM = 2  # of the files: what was written in another is built again
AIM = 0.95  # recall@10 that the search's breadth is chosen for
BREADTHS = (64, 128, 256, 512)
ASKED = 200  # queries that recall is measured by
NEAREST = 10

Say = Callable[[str], Any]


@dataclass(frozen=True, eq=False)
class Nearest:
    """Graphs by space and modality. recall: the share of the ten nearest rows that are found, by pair."""

    graphs: dict[Pair, Any]
    recall: dict[Pair, float]

    def find(self, query: np.ndarray, pair: Pair, count: int) -> tuple[np.ndarray, np.ndarray]:
        """About `count` of the rows nearest to a unit vector [E]: rows int64 and their exact cosines, unordered."""
        graph = self.graphs[pair]
        rows = np.asarray(graph.search(query, min(count, len(graph))).keys).astype(np.int64)
        return rows, np.einsum("me,e->m", np.asarray(graph.get(rows)), query)


def open_nearest(index: StoredIndex, say: Say) -> Nearest:
    """The approximate index of `index`, built if there is none, or none of its present content.

    Args:
      say: called with each line that the user should see.

    Raises:
      ConfigError: usearch is not installed.
    """
    usearch = _usearch()
    folder = index.path.with_name(index.path.name + ".usearch")
    about = _about(folder)
    if about is not None:
        if not _fits(about, index, folder):
            say(f"{folder}: of another content of {index.path.name}; building it again")
        elif found := _open(usearch, folder, about):
            return found
        else:
            say(f"{folder}: damaged; building it again")
    built = _open(usearch, folder, _build(usearch, index, folder, say))
    if built is None:
        raise DataError(f"{folder}: was damaged as soon as it was written; is the disk full?")
    return built


def _open(usearch: Any, folder: Path, about: dict) -> Nearest | None:
    """None if it is damaged."""
    graphs, recall = {}, {}
    for part in about["parts"]:
        path, pair = folder / part["file"], (part["space"], part["modality"])
        try:
            whole = path.stat().st_size == part["bytes"]
            graph = usearch.Index.restore(str(path), view=True) if whole else None
        except (OSError, ValueError, RuntimeError):  # the last two are usearch's
            graph = None
        if graph is None:
            return None
        graph.expansion_search = part["breadth"]
        graphs[pair], recall[pair] = graph, part["recall"]
    return Nearest(graphs, recall)


def _usearch():
    try:
        import usearch.index as usearch
    except ImportError as error:
        raise ConfigError("approximate search needs usearch: pip install 'vatt[search]'") from error
    return usearch


def _about(folder: Path) -> dict | None:
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) and about.get("form") == FORM else None


def _fits(about: dict, index: StoredIndex, folder: Path) -> bool:
    """Whether it is of the Parquet's content; which is not read again while size and time are those it had."""
    seen = _seen(index.path)
    if about["seen"] == seen:
        return True
    if about["sha256"] != _digest(index.path):
        return False
    with contextlib.suppress(OSError):  # a folder that cannot be written to: it is read again next time
        _write_about(folder, about | {"seen": seen})
    return True


def _write_about(folder: Path, about: dict) -> None:
    (folder / "about.json.partial").write_text(json.dumps(about, indent=1), encoding="utf-8")
    os.replace(folder / "about.json.partial", folder / "about.json")


def _seen(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build(usearch: Any, index: StoredIndex, folder: Path, say: Say) -> dict:
    seen, digest = _seen(index.path), _digest(index.path)
    folder.mkdir(exist_ok=True)
    parts = []
    for space, modality in index.pairs:
        count = len(index.rows([(space, modality)]))
        say(f"{folder}: building {modality} in {space}, {count:,} rows ...")
        graph = None
        for rows, vectors in index.blocks([(space, modality)]):
            if graph is None:
                graph = usearch.Index(ndim=vectors.shape[1], metric="ip", dtype="f32")
            graph.add(rows, vectors)
        assert graph is not None  # a pair has rows
        queries, by = _queries(index, space, modality)
        nearest = exact_nearest(index, (space, modality), queries)
        breadth, recall = choose_breadth(graph, queries, nearest)
        say(f"  recall@{NEAREST} against exact search: {100 * recall:.1f} % ({len(queries)} queries by {by})")
        name = f"{digest[:16]}-{space}-{modality}.usearch"
        graph.save(str(folder / f"{name}.partial"))
        os.replace(folder / f"{name}.partial", folder / name)
        part = {"space": space, "modality": modality, "file": name, "bytes": (folder / name).stat().st_size}
        parts.append(part | {"breadth": breadth, "recall": recall})
    if _seen(index.path) != seen:
        raise DataError(f"{index.path}: changed while its approximate index was built; try again")
    about = {"form": FORM, "sha256": digest, "seen": seen, "model": index.model, "parts": parts}
    _write_about(folder, about)
    for path in folder.iterdir():
        if path.name != "about.json" and path.name not in [part["file"] for part in parts]:
            path.unlink()
    return about


def _queries(index: StoredIndex, space: str, modality: str) -> tuple[np.ndarray, str]:
    """Vectors [Q E] to measure recall by, and what they are: of another modality if the space has one, as users ask,
    and those are harder to find by than a row's own kind."""
    others = [other for where, other in index.pairs if where == space and other != modality]
    kind = others[0] if others else modality
    rows = index.rows([(space, kind)])
    chosen = np.sort(np.random.default_rng(0).choice(rows, min(ASKED, len(rows)), replace=False))
    found = [vectors[np.isin(some, chosen)] for some, vectors in index.blocks([(space, kind)])]
    return np.concatenate(found), kind


def exact_nearest(index: StoredIndex, pair: Pair, queries: np.ndarray) -> np.ndarray:
    """The rows nearest to each query [Q E], by blocked matrix products. [Q 10] int64, fewer if there are fewer"""
    best_rows = np.zeros((len(queries), 0), np.int64)
    best = np.zeros((len(queries), 0), np.float32)
    for rows, vectors in index.blocks([pair]):
        best = np.concatenate([best, queries @ vectors.T], axis=1)
        best_rows = np.concatenate([best_rows, np.broadcast_to(rows, (len(queries), len(rows)))], axis=1)
        top = np.argsort(-best, axis=1, kind="stable")[:, :NEAREST]
        best, best_rows = np.take_along_axis(best, top, 1), np.take_along_axis(best_rows, top, 1)
    return best_rows


def choose_breadth(graph: Any, queries: np.ndarray, nearest: np.ndarray) -> tuple[int, float]:
    """The least breadth of search (HNSW's ef) that finds enough of the nearest rows [Q 10], and what share it finds."""
    breadth, recall = BREADTHS[0], 0.0
    for breadth in BREADTHS:
        graph.expansion_search = breadth
        found = np.asarray(graph.search(queries, nearest.shape[1]).keys).reshape(len(queries), -1)
        recall = float(np.mean([np.isin(near, some).mean() for near, some in zip(nearest, found, strict=True)]))
        if recall >= AIM:
            break
    return breadth, recall
