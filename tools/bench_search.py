"""From how many rows on an approximate index is worth it: exact and approximate search side by side.

    python tools/bench_search.py [--rows 10000 100000 1000000] [--widths 256 512] [--queries 20]

Vectors of unit length in clusters (the mean of a cluster and a part's own have equal weight), as an index holds them.
Shown are seconds to build; then, for one query, exact search from the disk, exact search in memory, and approximate
search, by `vatt.evals.search.Searcher` (median of several, interleaved); the ratio of exact in memory to approximate;
and what share of the ten nearest rows is found, for queries from the same clusters.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from vatt.evals.index import About, batch, write_index
from vatt.evals.nearest import open_nearest
from vatt.evals.query import Query
from vatt.evals.rows import open_index
from vatt.evals.search import Searcher

PAIR = ("vt", "video")
PER_FILE = 100  # rows
MADE = 100_000  # rows made at a time


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def draw(rng: np.random.Generator, centres: np.ndarray, count: int) -> np.ndarray:
    own = unit(rng.standard_normal((count, centres.shape[1]), np.float32))
    return unit(centres[rng.integers(len(centres), size=count)] + own)


def write(path: Path, centres: np.ndarray, rows: int) -> None:
    about = About(run="none", step=0, model="0" * 16, seconds=1.0, hop=1.0)
    rng = np.random.default_rng(1)

    def batches():
        for first in range(0, rows, MADE):
            vectors = draw(rng, centres, min(MADE, rows - first))
            for begin in range(0, len(vectors), PER_FILE):
                some = vectors[begin : begin + PER_FILE]
                start = np.arange(len(some), dtype=np.float64)
                yield batch(about, f"/{first + begin:09d}", "video", "vt", start=start, end=start + 1, vectors=some)

    write_index(path, about, batches())


def timed(call) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--folder", help="where the indexes go (default: a temporary folder)")
    options = parser.parse_args()
    titles = ("rows", "width", "build s", "disk ms", "exact ms", "approx. ms", "ratio", "recall@10")
    print("".join(f"{title:>12}" for title in titles))
    for width in options.widths:
        for rows in options.rows:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                print(
                    "".join(f"{figure:>12}" for figure in measure(Path(folder), rows, width, options.queries)),
                    flush=True,
                )


def measure(folder: Path, rows: int, width: int, count: int) -> list[str]:
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((max(rows // 500, 20), width), np.float32))
    write(folder / "emb.parquet", centres, rows)
    index = open_index(folder / "emb.parquet")
    build = timed(lambda: open_nearest(index, lambda line: None))
    nearest = open_nearest(index, lambda line: None)
    ways = {
        "disk": Searcher(index),
        "exact": Searcher(index, keep="memory"),
        "approximate": Searcher(index, nearest=nearest),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    found = []
    for number, vector in enumerate(draw(rng, centres, count)):
        query = Query("text", {"vt": vector})
        hits = {}
        for name, searcher in ways.items():
            if name == "disk" and number >= 3:
                continue
            begun = time.perf_counter()
            hits[name] = {hit.row for hit in searcher.search(query, [PAIR], k=10, per_file=10)}
            took[name].append(time.perf_counter() - begun)
        found.append(len(hits["exact"] & hits["approximate"]) / 10)
    best = {name: 1000 * float(np.median(times[1:])) for name, times in took.items()}
    figures = [f"{rows:,}", f"{width}", f"{build:.1f}"]
    figures += [f"{best[name]:.2f}" for name in ways]
    return [*figures, f"{best['exact'] / best['approximate']:.1f}", f"{100 * np.mean(found):.1f} %"]


if __name__ == "__main__":
    main()
