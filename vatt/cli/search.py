"""`vatt search`: moments of files that are nearest to words, a video or a sound."""

import json
import os
import sys
from dataclasses import asdict

from vatt.cli import before_jax, make_console, make_parser

MODALITIES = ("video", "audio", "text")
# Rows from which an approximate index is worth a word: exact search takes a second or more. Measured on two cores that
# others used as well, by tools/bench_search.py --rows 100000 300000 --widths 256 --queries 12: of 300,000 rows 2.9 s
# from the disk, 0.14 s in memory (as vatt serve asks them, in proportion to the rows), 0.007 s approximately, with a
# recall@10 of 100 %; but 600 s to build, as long as 200 searches from the disk. A million rows were not measured.
LARGE = {"disk": 300_000, "memory": 2_000_000}


def run(args: list[str]) -> int:
    parser = make_parser(
        "search",
        "Finds the windows of indexed files that are nearest to QUERY: words, or the path of a video or a sound. Words "
        "are compared with video and sound in the video-text space, a sound with video and sound in the video-audio "
        "space, and a video with video there.",
        'vatt search emb.parquet "a red circle moves left" -k 5\n'
        "vatt search emb.parquet bell.wav --modalities video\n"
        'vatt search emb.parquet "a bell" --per-file 3 --json',
    )
    parser.add_argument("index", metavar="INDEX", help="what vatt embed wrote")
    parser.add_argument("query", metavar="QUERY", help="words, or a file: told by whether there is such a file")
    parser.add_argument("-k", type=int, default=10, help="how many hits (default 10)")
    kinds = parser.add_mutually_exclusive_group()
    for kind, what in (("text", "words"), ("video", "the pictures of a file"), ("audio", "the sound of a file")):
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=f"QUERY is {what}")
    parser.add_argument(
        "--modalities", nargs="+", choices=MODALITIES, default=(), help="what to look for (text: captions in the index)"
    )
    parser.add_argument("--per-file", type=int, default=1, metavar="N", help="most hits of one file (default 1)")
    add_index_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(args)
    if options.k < 1 or options.per_file < 1:
        parser.error("-k and --per-file must be at least 1")
    from vatt.data.files import place_of
    from vatt.evals.query import embed_query, query_kind, wanted_pairs
    from vatt.evals.rows import open_index

    index = open_index(options.index)
    kind = options.kind or query_kind(options.query)
    pairs = wanted_pairs(index, kind, options.modalities)
    searcher = make_searcher(index, options, keep="disk")
    model = load(index, options)
    query = embed_query(model, options.query, kind)
    hits = searcher.search(query, pairs, k=options.k, per_file=options.per_file)
    for note in query.notes:
        say(note)
    gone = {hit.path for hit in hits if not os.path.exists(place_of(hit.path))}
    if options.json:
        lines = [{"rank": rank} | asdict(hit) | {"missing": hit.path in gone} for rank, hit in enumerate(hits, 1)]
        about = {"query": options.query, "kind": kind, "index": str(index.path), "model": index.model}
        print(json.dumps(about | {"notes": query.notes, "hits": lines}, ensure_ascii=False, indent=1))
    else:
        print_hits(make_console(), hits, gone)
    return 0


def add_index_options(parser) -> None:
    """What search and serve share: how the index is asked, and where its model is."""
    parser.add_argument("--run", default="", help="the run that made the index, if it lies elsewhere now")
    parser.add_argument(
        "--approximate",
        action="store_true",
        help="ask an approximate index, INDEX.usearch, which is built first if it is not there: faster on millions of "
        "rows (pip install 'vatt[search]')",
    )


def make_searcher(index, options, *, keep):
    from vatt.evals.nearest import open_nearest
    from vatt.evals.search import Searcher

    if not options.approximate and len(index) > LARGE[keep]:
        say(f"{index.path}: {len(index):,} rows are searched one by one; --approximate would be faster")
    nearest = open_nearest(index, say) if options.approximate else None
    return Searcher(index, keep=keep, nearest=nearest)


def load(index, options):
    """The index's model, once it has been said that this takes a while."""
    before_jax()
    from vatt.evals.query import load_model

    say(f"loading {options.run or index.run} at step {index.step} ...")
    return load_model(index, options.run)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def print_hits(console, hits, gone) -> None:
    """gone: paths of files that are not there any more."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("rank", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("found in", no_wrap=True)
    table.add_column("path", overflow="fold")
    for rank, hit in enumerate(hits, 1):
        path = Text(hit.path)
        if hit.path in gone:
            path.append(" (gone)", style="red")
        if hit.text:
            path.append(f"\n{hit.text}", style="italic")
        table.add_row(str(rank), f"{hit.score:.3f}", f"{hit.start:.2f}-{hit.end:.2f}", hit.modality, path)
    if not console.is_terminal:  # a path that is broken over lines is none
        console.width = max([console.width, *(len(hit.path) + len(hit.text or "") + 60 for hit in hits)])
    console.print(table)
