"""`vatt evaluate`: a run's own metric, a probe on its features, or a published retrieval protocol."""

import argparse

from vatt.cli import before_jax, make_console, make_parser, protocols
from vatt.cli.probe import add_probe_options, run_probe
from vatt.evals.protocols import NAMES

PROBE_OPTIONS = {
    "test",
    "classifier",
    "modalities",
    "random",
    "folds",
    "C",
    "passes",
    "windows",
    "classifier_steps",
    "seed",
}


def run(args: list[str]) -> int:
    parser = make_parser(
        "evaluate",
        "Measures a run's checkpoint: zero-shot retrieval on its held-out clips; or, of a fine-tuned run, its "
        "classification; or, with --probe, a classifier on its features; or, with --retrieval, a published protocol on "
        "your own copy of its data set.",
        "vatt evaluate runs/demo\nvatt evaluate runs/demo --step best\nvatt evaluate runs/demo --source ~/clips\n"
        "vatt evaluate runs/demo --probe esc50 --data ~/ESC-50\n"
        "vatt evaluate runs/mbs --retrieval msrvtt-1ka --data ~/msrvtt",
    )
    parser.add_argument("run", metavar="RUN", help="the folder that vatt pretrain or vatt finetune wrote")
    parser.add_argument("--step", default="latest", help="latest (default), best, or a number of steps")
    parser.add_argument("--source", default="", help="folder of clips (default: evaluate.source of the run)")
    parser.add_argument("--retrieval", choices=NAMES, help="a published retrieval protocol")
    parser.add_argument(
        "--post", choices=("none", "dual-softmax"), default="none", help="of --retrieval, reported apart"
    )
    parser.add_argument("--data", default="", help="folder of the data set, in its official layout")
    add_probe_options(parser)
    options = parser.parse_args(args)
    check_options(parser, options)
    if options.probe:
        return run_probe(parser, options)
    if options.retrieval:
        return protocols.run(options.run, options.step, options.retrieval, options.data, options.post)
    before_jax()
    from vatt.cli.finetune import print_classification
    from vatt.evals.retrieval import Retrieval
    from vatt.evals.run import evaluate_run
    from vatt.train.checkpoint import step_of

    console = make_console()
    result = evaluate_run(options.run, options.step, options.source, console)
    step = step_of(options.run, options.step)
    if isinstance(result, Retrieval):
        print_retrieval(console, result, f"{options.run} at step {step}")
    else:
        print_classification(console, {f"step {step}": result}, options.run)
    return 0


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends with a word on options that do not fit together: what is passed over in silence looks as if it were done."""
    given = {name for name, value in vars(options).items() if value != parser.get_default(name)} - {"run", "step"}
    if options.probe and options.retrieval:
        parser.error("--probe and --retrieval are two measurements; ask for one of them")
    if options.probe:
        mode, fits = "--probe", PROBE_OPTIONS | {"probe", "data"}
    elif options.retrieval:
        mode, fits = "--retrieval", {"retrieval", "data", "post"}
    else:
        mode, fits = "", {"source"}
    for name in sorted(given - fits):
        flag = "--" + name.replace("_", "-")
        needs = "--probe" if name in PROBE_OPTIONS else "--probe or --retrieval" if name == "data" else "--retrieval"
        parser.error(f"{flag} does not go with {mode}" if mode else f"{flag} needs {needs}")
    if options.retrieval and not options.data:
        parser.error("--retrieval needs --data DIR, your copy of the data set")


def print_retrieval(console, result, run: str) -> None:
    from rich import box
    from rich.table import Table

    from vatt.evals.knn import NEIGHBOURS

    title = f"zero-shot retrieval of {run} (%, ranks from 1; chance in brackets)"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", "R@1", "R@5", "R@10", "median", "mean", "clips"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for direction, values in result.metrics.items():
        chance = result.chance[direction]
        recalls = [f"{values[m]:.1f} ({chance[m]:.1f})" for m in ("R@1", "R@5", "R@10")]
        ranks = [f"{values[m]:.0f} ({chance[m]:.0f})" for m in ("median_rank", "mean_rank")]
        table.add_row(direction.replace("_to_", " → "), *recalls, *ranks, f"{values['items']:.0f}")
    if result.metrics:
        console.print(table)
    for tower, found in result.knn.items():
        console.print(
            f"labels by the {NEIGHBOURS} nearest neighbours of {tower} features: {found['top_1']:.1f} "
            f"({found['chance']:.1f}) of {found['clips']} clips in {found['classes']} classes",
            highlight=False,
        )
