"""Times the input: clips a CPU-second from the originals and from a prepared set, where the time goes, and memory.

    vatt data prepare ~/videos data/mine
    python tools/bench_input.py --originals ~/videos --prepared data/mine

Contestants run in turn, round after round, so that a busy machine slows them alike: read the ratios. Clips are the
paper's unless --experiment says otherwise: 32 frames at 10 a second, 224 pixels square, 153,600 samples at 48 kHz,
Inception crops.
"""

import dataclasses
import functools
import gc
import multiprocessing
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import av
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vatt.config import Config, load_pretraining
from vatt.data.items import Source
from vatt.data.media import clip as media
from vatt.data.media import gather
from vatt.data.pipeline import TrainStream
from vatt.data.sources import open_source
from vatt.data.text import Vocabulary
from vatt.memory import keep_freed_memory
from vatt.progress import bar


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    originals: str = ""  # a source of original media
    prepared: str = ""  # the set prepared from it
    experiment: str = ""  # an experiment file whose clips and crops are cut; empty: the paper's
    clips: int = 60  # clips a contestant cuts each round
    rounds: int = 7  # times that each contestant runs
    workers: tuple[int, ...] = (1, 2)  # numbers of workers whose speeds are compared
    worker_kind: Literal["thread", "process"] = "thread"  # what they are
    memory: int = 5000  # clips over which the reader's memory is watched (0: not)


def main(args: Args) -> None:
    keep_freed_memory()
    console = Console()
    cfg = load_pretraining(args.experiment) if args.experiment else Config()
    names = {"originals": args.originals, "prepared": args.prepared}
    sources = {kind: opened(name, cfg, console) for kind, name in names.items() if name}
    if not sources:
        raise SystemExit("name a source: --originals FOLDER, --prepared SET, or both")
    c = cfg.clip
    console.print(
        f"{c.frames} frames at {c.fps:g} a second, {c.size} pixels, canvas {cfg.canvas}; {c.samples} samples at "
        f"{c.sample_rate} Hz; {cfg.augment.crop} crops; {os.cpu_count()} cores"
    )
    one_core(args, cfg, sources, console)
    several(args, cfg, sources, console)
    for kind, source in sources.items():
        where_it_goes(kind, args, cfg, source, console)
    if args.memory:
        memory(args, cfg, sources.get("prepared") or sources["originals"], console)


def opened(name: str, cfg: Config, console: Console) -> Source:
    with bar(console, name) as progress:
        source = open_source(name, seconds=cfg.clip.seconds, progress=progress)
    size = sum(file.stat().st_size for file in Path(name).rglob("*") if file.is_file())
    items = [source[index] for index in range(min(len(source), 10_000))]
    seconds = sum(item.end - item.start for item in items if not item.still) * len(source) / len(items)
    console.print(
        f"{name}: {len(source)} items, {seconds / 3600:.2f} hours, {size / 1e6:.1f} MB on disk: "
        f"{size / max(seconds, 1e-9) * cfg.clip.seconds / 1e3:.0f} kB a clip of {cfg.clip.seconds:g} s"
    )
    return source


def stream(cfg: Config, source: Source, workers: int = 1, kind: Literal["thread", "process"] = "thread") -> TrainStream:
    return TrainStream(
        [source],
        clip=cfg.clip,
        augment=cfg.augment,
        canvas=cfg.canvas,
        tokenizer=Vocabulary.build([], 2),
        batch_size=1,
        seed=cfg.seed,
        workers=workers,
        worker_kind=kind,
    )


def one_core(args: Args, cfg: Config, sources: dict[str, Source], console: Console) -> None:
    """Clips a CPU-second, in the calling thread."""
    streams = {kind: stream(cfg, source) for kind, source in sources.items()}
    rates = defaultdict(list)
    for turn in range(args.rounds + 1):
        for kind, clips in streams.items():
            began = time.process_time()
            for step in range(args.clips):
                clips.batch(turn * args.clips + step)
            if turn:  # the first warms up
                rates[kind].append(args.clips / (time.process_time() - began))
    table = Table("one core", "clips / CPU-second", "lowest", "highest", box=box.SIMPLE_HEAD)
    for kind, values in rates.items():
        table.add_row(kind, *(f"{f(values):.1f}" for f in (statistics.median, min, max)))
    console.print(table)
    if len(rates) == 2:
        ratios = [a / b for a, b in zip(rates["prepared"], rates["originals"], strict=True)]
        console.print(f"prepared / originals: {statistics.median(ratios):.1f}, median of the ratios by round")


def several(args: Args, cfg: Config, sources: dict[str, Source], console: Console) -> None:
    """Clips a second by the clock, with so many workers; beside as many processes that share nothing, which is what
    the machine can do."""
    table = Table("workers", *(str(n) for n in args.workers), "ratio", box=box.SIMPLE_HEAD)
    for kind, source in sources.items():
        contestants = {
            f"{kind}, {args.worker_kind}": functools.partial(shared, args, cfg, source),
            f"{kind}, processes apart": functools.partial(apart, args, cfg, source),
        }
        rates = {name: defaultdict(list) for name in contestants}
        for turn in range(args.rounds + 1):
            for name, run in contestants.items():
                for n in args.workers:
                    rate = run(n, turn * args.clips)
                    if turn:  # the first warms up
                        rates[name][n].append(rate)
        for name, by_workers in rates.items():
            first, last = (by_workers[n] for n in (args.workers[0], args.workers[-1]))
            ratio = statistics.median(b / a for a, b in zip(first, last, strict=True))
            speeds = (f"{statistics.median(by_workers[n]):.1f}" for n in args.workers)
            table.add_row(f"{name}, clips / second", *speeds, f"{ratio:.2f}")
    console.print(table)


def shared(args: Args, cfg: Config, source: Source, workers: int, first: int) -> float:
    running = stream(cfg, source, workers, args.worker_kind).iterate(first)
    next(running)  # workers are up
    began = time.perf_counter()
    for _ in range(args.clips):
        next(running)
    rate = args.clips / (time.perf_counter() - began)
    running.close()
    return rate


def apart(args: Args, cfg: Config, source: Source, workers: int, first: int) -> float:
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(decode, [cfg] * workers, [source] * workers, [range(1)] * workers))  # they are up
        share = args.clips // workers
        parts = [range(first + n * share, first + (n + 1) * share) for n in range(workers)]
        began = time.perf_counter()
        list(pool.map(decode, [cfg] * workers, [source] * workers, parts))
        return share * workers / (time.perf_counter() - began)


def decode(cfg: Config, source: Source, steps: range) -> None:
    clips = stream(cfg, source)
    for step in steps:
        clips.batch(step)


# Stage -> the function that does it, as (module or class, name). A stage within another is taken off the outer one.
STAGES = {
    "open": (av, "open"),
    "video decode": (gather.Pictures, "feed"),
    "cut pictures": (gather.Pictures, "_draw"),
    "audio decode": (gather.Sound, "feed"),
    "cut sound": (gather.Sound, "result"),
    "demux": (media, "_read"),
}


def where_it_goes(kind: str, args: Args, cfg: Config, source: Source, console: Console) -> None:
    """Milliseconds a clip by stage, in a run of its own: the clocks cost some themselves."""
    spent: dict[str, float] = defaultdict(float)
    inner = [0.0]  # time of the stages that ended within the one running

    def timed(stage: str, function: Callable) -> Callable:
        def call(*values, **named):
            outer, inner[0] = inner[0], 0.0
            began = time.perf_counter()
            try:
                return function(*values, **named)
            finally:
                elapsed = time.perf_counter() - began
                spent[stage] += elapsed - inner[0]
                inner[0] = outer + elapsed

        return call

    clips = stream(cfg, source)
    read = type(source).__getitem__
    with ExitStack() as stack:
        for stage, (owner, name) in STAGES.items():
            stack.enter_context(patch.object(owner, name, timed(stage, getattr(owner, name))))
        stack.enter_context(patch.object(type(source), "__getitem__", timed("read", read)))
        began = time.perf_counter()
        for step in range(args.clips):
            clips.batch(step)
        total = time.perf_counter() - began
    spent["the rest"] = total - sum(spent.values())
    table = Table(kind, "ms a clip", "share", box=box.SIMPLE_HEAD)
    for stage, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        table.add_row(stage, f"{1e3 * seconds / args.clips:.2f}", f"{100 * seconds / total:.0f} %")
    console.print(table)


def memory(args: Args, cfg: Config, source: Source, console: Console) -> None:
    """Resident memory of this process as the stream goes on."""
    batches = stream(cfg, source, os.cpu_count() or 1).iterate(0)
    marks = [round(args.memory * share) for share in (0.1, 0.25, 0.5, 0.75, 1.0)]
    table = Table("clips read", *map(str, marks), box=box.SIMPLE_HEAD)
    sizes = []
    for number in range(1, args.memory + 1):
        next(batches)
        if number in marks:
            gc.collect()
            sizes.append(resident())
    batches.close()
    table.add_row("resident memory, MB", *(f"{size / 1e6:.0f}" for size in sizes))
    console.print(table)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(tyro.cli(Args))
