"""`vatt data COMMAND`: from a user's media to a stream. Parses, calls, prints; no logic, and no jax."""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Sequence

SOURCE = """\
a SOURCE is one of
  FOLDER                    media files, however nested, with captions beside them; or a prepared set
  FILE.csv .jsonl .parquet  a manifest: path, and any of id, start, end, captions, label, split
  FILE.tar, or a folder of  WebDataset shards
  NAME:FOLDER               a published data set in its official layout; see vatt data list
  tfds:NAME?video=FEATURE&audio=FEATURE&text=FEATURE
                            a prepared TFDS data set, its features mapped to modalities
and may end in @SPLIT."""


def run(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="vatt data",
        description="From media files to a stream that feeds training.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=SOURCE,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (add_check, add_prepare, add_show, add_replay, add_vocab, add_list, add_demo):
        add(commands)
    options, unknown = parser.parse_known_args(args)
    if unknown and "beam" not in options:  # where Beam may run, what is not ours is Beam's
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.beam = unknown
    return options.run(options)


def _command(commands, name: str, summary: str, description: str, examples: Sequence[str]) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_check(commands) -> None:
    parser = _command(
        commands,
        "check",
        "what is there, what is wrong with it, what to do",
        "Decodes every file of a source and says which cannot be used and which are odd: damaged, cut short, silent, "
        "without video or sound, of variable frame rate, rotated, starting late, too short for a clip, with captions "
        "that do not fit or say nothing, the same as another file or much like it. Prints counts with remedies, and "
        "writes DIR/report.jsonl (a line a file) and DIR/report.html (one page, for a browser). Reads the source "
        "only.\n\n"
        "exit status: 0 every file can be used (warnings or not); 1 some cannot; 2 usage; 130 interrupted",
        [
            "vatt data check ~/videos",
            "vatt data check ~/videos --experiment experiments/demo.py",
            "vatt data check howto100m:~/howto100m@train -o reports/howto100m --quick",
        ],
    )
    parser.add_argument("source", metavar="SOURCE", help="what to check; see vatt data --help")
    parser.add_argument(
        "-o", dest="out", metavar="DIR", help="where the report goes (default: check-NAME here, or beside the source)"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=3.2, help="how long a clip is (default 3.2)")
    length.add_argument("--experiment", metavar="FILE", help="take the length of a clip from an experiment file")
    parser.add_argument(
        "--quick", action="store_true", help="probe only: no damage, silence or files that look alike are found"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that read files (default: one a core)")

    def check(options) -> int:
        if options.seconds <= 0 or options.workers < 0:
            parser.error("--seconds must be above 0 and --workers at least 0")
        from vatt.cli import make_console
        from vatt.data.check.run import check as run
        from vatt.data.check.summary import print_report
        from vatt.progress import bar

        seconds = options.seconds
        if options.experiment:
            from vatt.config import load_experiment

            seconds = load_experiment(options.experiment).clip.seconds
        console = make_console()
        with bar(console, "checking") as progress:
            report = run(
                options.source,
                options.out,
                seconds=seconds,
                workers=options.workers,
                quick=options.quick,
                progress=progress,
            )
        print_report(report, console)
        return 0 if report.usable == len(report.lines) else 1

    parser.set_defaults(run=check)


def add_prepare(commands) -> None:
    parser = _command(
        commands,
        "prepare",
        "cut, transcode, index: a TFDS data set that streams fast",
        "Cuts media into records and stores them as small MP4 that decode fast, in ArrayRecord files under a TFDS "
        "description.\nCtrl-C or a crash loses nothing that is done: the same command goes on. A file that cannot be "
        "used becomes a line\nof OUT/errors.jsonl and stops nothing.",
        [
            "vatt data prepare ~/videos data/mine",
            "vatt data prepare clips.csv data/mine --cut captions --workers 8",
            "vatt data prepare ~/videos data/mine --seconds 30 --size 128",
            "vatt data prepare /shared/videos /shared/mine --runner FlinkRunner --flink_master host:8081",
        ],
    )
    from vatt.data.prepare.plan import PrepareConfig

    default = PrepareConfig()
    parser.add_argument("source", metavar="SOURCE", help="see vatt data --help")
    parser.add_argument("out", metavar="OUT", help="folder to prepare into: new, empty, or of this same preparation")
    parser.add_argument("--size", type=int, default=default.size, help="short side, pixels (default %(default)s)")
    parser.add_argument("--fps", type=float, default=default.fps, help="frames a second (default %(default)g)")
    parser.add_argument("--sample-rate", type=int, default=default.sample_rate, help="Hz, mono (default %(default)s)")
    parser.add_argument(
        "--cut", choices=("windows", "captions"), default=default.cut, help="at regular windows, or around each caption"
    )
    parser.add_argument(
        "--seconds", type=float, default=default.seconds, help="length of a window, most of a record (default 10)"
    )
    parser.add_argument(
        "--min-seconds", type=float, default=None, help="captions are widened to this (default 5, or --seconds if less)"
    )
    parser.add_argument(
        "--candidates", type=int, default=default.candidates, help="nearest captions kept for any clip (default 5)"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    parser.add_argument(
        "--runner",
        default="",
        help="run on Apache Beam (pip install 'vatt[beam]'): DirectRunner, FlinkRunner, "
        "SparkRunner, DataflowRunner, ...; options that are not known here are Beam's",
    )

    def prepare(options) -> int:
        from vatt.cli import make_console
        from vatt.data.prepare.run import prepare as run
        from vatt.progress import bar

        if options.workers < 0:
            parser.error("--workers must be at least 0")
        if options.beam and not options.runner:
            parser.error(f"unrecognized arguments: {' '.join(options.beam)} (Beam's own need --runner)")
        fields = ("size", "fps", "sample_rate", "cut", "seconds", "candidates")
        shortest = min(default.min_seconds, options.seconds) if options.min_seconds is None else options.min_seconds
        config = PrepareConfig(**{name: getattr(options, name) for name in fields}, min_seconds=shortest)
        work = None
        if options.runner:
            from vatt.data.prepare.beam import work_on

            work = work_on(options.runner, options.beam)
        console = make_console()
        try:
            with bar(console, options.out) as progress:
                result = run(
                    options.source, options.out, config=config, workers=options.workers, progress=progress, work=work
                )
        except KeyboardInterrupt:
            print("vatt: interrupted; what is done is kept, and the same command goes on from here", file=sys.stderr)
            return 130
        _print_prepared(result, options)
        return 0

    parser.set_defaults(run=prepare, beam=[])


def _print_prepared(result, options) -> None:
    from vatt.data.faults import FAULTS

    length = f"{result.seconds / 3600:.1f} hours" if result.seconds >= 3600 else f"{result.seconds / 60:.1f} minutes"
    rate = result.media_bytes / result.seconds / 1000 if result.seconds else 0.0
    splits = ", ".join(f"{name} {count}" for name, count in result.splits.items())
    print(f"{result.folder}: {result.records} records ({splits}), {length}, {rate:.1f} kB a second of media")
    for reason, count in result.faults.items():
        kind = FAULTS.get(reason)
        print(f"  {count} x {reason}" + (f": {kind.says}; {kind.remedy}" if kind else ""))
    if result.faults:
        print(f"  {sum(result.faults.values())} lines in {result.errors} name them")
    run = shlex.quote(f"runs/{result.folder.resolve().name}")
    print(f"next: vatt pretrain experiments/vatt_bbs.py --data.sources {shlex.quote(options.out)} --run {run}")


def add_show(commands) -> None:
    parser = _command(
        commands,
        "show",
        "a contact sheet of clips: frames, sound, captions",
        "Draws clips of a source one below the other: frames evenly over the clip, the waveform below them, and the "
        "captions beside them, nearest in time first, as training takes them. What a clip lacks is said.",
        [
            "vatt data show ~/videos",
            "vatt data show data/mine -n 24 --seed 1 -o sheet.png",
            "vatt data show ~/videos --ids talks/one.mp4 talks/two.mp4",
        ],
    )
    parser.add_argument("source", metavar="SOURCE", help="what to show; see vatt data --help")
    parser.add_argument("-n", type=int, default=12, help="how many clips, at most 200 (default 12)")
    parser.add_argument("-o", dest="out", metavar="FILE", default="sheet.png", help="the picture (default sheet.png)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the clips and where they begin (default 0)")
    parser.add_argument("--ids", metavar="ID", nargs="+", default=[], help="show these instead of random ones")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=3.2, help="how long a clip is (default 3.2)")
    length.add_argument("--experiment", metavar="FILE", help="take the clip from an experiment file")
    parser.add_argument("--workers", type=int, default=0, help="files probed at once (default: one a core)")

    def show(options) -> int:
        if not 1 <= options.n <= 200 or options.seed < 0 or options.seconds <= 0 or options.workers < 0:
            parser.error("-n must be 1 to 200, --seconds above 0, --seed and --workers at least 0")
        from vatt.cli import make_console
        from vatt.config import ClipConfig, load_experiment
        from vatt.data.show import contact_sheet
        from vatt.progress import bar

        if options.experiment:
            clip = load_experiment(options.experiment).clip
        else:
            clip = ClipConfig(frames=1, fps=1 / options.seconds, samples=1)
        with bar(make_console(), "opening") as progress:
            shown = contact_sheet(
                options.source,
                options.out,
                n=options.n,
                seed=options.seed,
                ids=options.ids,
                clip=clip,
                workers=options.workers,
                progress=progress,
            )
        print(f"{options.out}: {len(shown)} {'clip' if len(shown) == 1 else 'clips'}")
        return 0

    parser.set_defaults(run=show)


def add_replay(commands) -> None:
    parser = _command(
        commands,
        "replay",
        "rebuild the batch that a step of a run saw",
        "Rebuilds the very batch that a step of RUN trained on, and writes its clips as media to look at, varied as "
        "the model saw them, with a contact sheet (sheet.png) and a list (clips.jsonl).",
        ["vatt data replay runs/demo --step 120", "vatt data replay runs/demo --step 120 --rows 8 -o batch120"],
    )
    parser.add_argument("folder", metavar="RUN", help="the folder that vatt pretrain wrote")
    parser.add_argument("--step", type=int, required=True, help="the step, numbered as in metrics.jsonl")
    parser.add_argument("--rows", type=int, default=64, help="how many clips, from the first on (default 64)")
    parser.add_argument("-o", "--out", default="", help="where to (default RUN/replay/STEP)")

    def replay(options) -> int:
        if options.rows < 1:
            parser.error("--rows must be at least 1")
        from vatt.cli import before_jax, make_console

        before_jax()
        from vatt.train.replay import replay

        replay(options.folder, options.step, make_console(), rows=options.rows, out=options.out)
        return 0

    parser.set_defaults(run=replay)


def add_vocab(commands) -> None:
    parser = _command(
        commands,
        "vocab",
        "make a vocabulary of words",
        "Counts the words of all captions, and writes the most frequent ones, one a line. No media is read. A\n"
        "tokenizer.json of Hugging Face's tokenizers serves wherever a vocabulary does.",
        [
            "vatt data vocab ~/videos -o vocabulary.txt",
            "vatt data vocab ~/videos data/mine -o vocabulary.txt --size 20000",
        ],
    )
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="see vatt data --help")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where to, such as vocabulary.txt")
    parser.add_argument("--size", type=int, default=65536, help="rows, with padding and unknown (default 65536)")

    def vocab(options) -> int:
        if options.size < 3:
            parser.error("--size must be at least 3: padding, unknown and one word")
        from vatt.cli import make_console
        from vatt.data.sources import word_counts
        from vatt.data.text import Vocabulary
        from vatt.errors import DataError
        from vatt.progress import bar

        counts = Counter()
        for source in options.sources:
            with bar(make_console(), source) as progress:
                counts.update(word_counts(source, progress=progress))
        if not counts:
            raise DataError(f"{', '.join(options.sources)}: no captions with words in them")
        vocabulary = Vocabulary.from_counts(counts, options.size)
        vocabulary.save(options.output)
        share = sum(counts[word] for word in vocabulary.words) / counts.total()
        print(
            f"{options.output}: {len(vocabulary) - 2:,} of {len(counts):,} different words, which are {share:.2%} of "
            f"{counts.total():,} in the captions"
        )
        return 0

    parser.set_defaults(run=vocab)


def add_list(commands) -> None:
    parser = _command(
        commands,
        "list",
        "the published data sets, and how they are laid out",
        "Lists the published data sets that are read as NAME:FOLDER@SPLIT from your own copy; with NAME, says all that "
        "is known of one: source, licence, size, splits, layout, and how to get it.",
        ["vatt data list", "vatt data list kinetics400", "vatt data check kinetics400:~/k400@val"],
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="a data set")

    def show(options) -> int:
        import inspect
        import re

        from rich import box
        from rich.markup import escape
        from rich.table import Table

        from vatt.cli import make_console
        from vatt.data import builders

        if options.name:
            print(inspect.getdoc(builders.load(options.name)))
            return 0
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in ("name", "what", "size", "splits", "licence"):
            table.add_column(column, no_wrap=column == "name")
        for names, module in builders.modules():
            facts = builders.facts(module)
            splits = ", ".join(module.SPLITS).replace(module.DEFAULT_SPLIT, f"[bold]{module.DEFAULT_SPLIT}[/]", 1)
            what, size, licence = (escape(facts[field]) for field in ("what", "size", "licence"))
            brief = what.partition(": ")[2], size.partition(". ")[0], re.split(r"[;(]", licence)[0]
            table.add_row("\n".join(names), *brief[:2], splits, brief[2])
        make_console().print(table)
        print("A source is NAME:FOLDER@SPLIT (in bold: the split if none is named). More: vatt data list NAME")
        return 0

    parser.set_defaults(run=show)


def add_demo(commands) -> None:
    parser = _command(
        commands,
        "demo",
        "make the demo media",
        "Makes short MP4 clips with captions beside them: DIR/train, and DIR/heldout from another seed.",
        ["vatt data demo data/demo"],
    )
    parser.add_argument(
        "folder", metavar="DIR", help="where to; an unfinished making is continued, a finished one kept"
    )
    parser.add_argument("--clips", type=int, default=1536, help="training clips (default 1536)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything in them (default 0)")

    def demo(options) -> int:
        if options.clips < 1 or options.seed < 0:
            parser.error("--clips must be at least 1 and --seed at least 0")
        from vatt.cli import make_console
        from vatt.data.demo import make_demo
        from vatt.progress import bar

        with bar(make_console(), options.folder) as progress:
            make_demo(options.folder, seed=options.seed, clips=options.clips, progress=progress)
        print(f"{options.folder}/train and {options.folder}/heldout are ready")
        return 0

    parser.set_defaults(run=demo)
