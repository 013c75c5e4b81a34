"""`vatt evaluate RUN --probe NAME`: a classifier on the frozen features of a run."""

import argparse
from dataclasses import replace

from vatt.cli import before_jax, make_console

NAMES = ("ucf101", "hmdb51", "esc50", "linear")
CLASSIFIERS = ("svm", "logistic", "low_rank")  # of vatt.evals.probe.recipes, which is not imported for --help


def add_probe_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "probes",
        "A classifier on frozen features: the pooled [AGG] of a tower, before the heads. ucf101, hmdb51 and esc50 take "
        "a copy in its official layout and all official folds; linear takes any two labelled sources.",
    )
    group.add_argument("--probe", choices=NAMES, help="which, on --data: its copy; of linear, the source to train on")
    group.add_argument("--test", default="", metavar="SOURCE", help="the source to test on (linear)")
    group.add_argument(
        "--classifier",
        nargs="+",
        choices=CLASSIFIERS,
        default=["svm"],
        help="svm (default): MMV's, ten training passes and test windows; logistic: so, too; low_rank: VATT's",
    )
    group.add_argument(
        "--modalities", nargs="+", choices=("video", "audio"), help="whose features (default: the set's)"
    )
    group.add_argument("--random", action="store_true", help="measure the model as it was before training")
    group.add_argument("--folds", nargs="+", type=int, default=[], metavar="N", help="these folds (default: all)")
    group.add_argument("--C", nargs="+", type=float, metavar="C", help="one C, or a grid (default: the protocol's)")
    group.add_argument(
        "--passes",
        type=int,
        help="training passes, varied as MMV does (start, flip, place of the square); for linear as the run's "
        "pretraining does. 0: one central window",
    )
    group.add_argument("--windows", type=int, help="test windows a clip")
    group.add_argument("--classifier-steps", type=int, metavar="N", help="steps of low_rank (default: 50000)")
    group.add_argument(
        "--seed", type=int, help="of the training passes and of low_rank (default: 0), and of --random (the run's)"
    )


def run_probe(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if not options.data:
        parser.error(f"--probe {options.probe} needs --data")
    if (options.probe == "linear") != bool(options.test):
        parser.error("--probe linear needs --test SOURCE, and no other probe has it")
    if options.probe == "linear" and options.folds:
        parser.error("--probe linear has no folds")
    if options.C is not None and set(options.classifier) == {"low_rank"}:
        parser.error("low_rank has no C")
    if options.classifier_steps is not None and "low_rank" not in options.classifier:
        parser.error("--classifier-steps are those of --classifier low_rank")

    before_jax()
    from vatt.evals.pretrained import load
    from vatt.evals.probe import PROBES, fresh, published, recipe, run_folds, write_report
    from vatt.evals.protocols.stated import Stated
    from vatt.train.checkpoint import read_pretrain_config

    console = make_console()
    probe = PROBES.get(options.probe)
    given = {
        "C": options.C and tuple(options.C),
        "passes": options.passes,
        "windows": options.windows,
        "steps": options.classifier_steps,
    }
    recipes = []
    for name in dict.fromkeys(options.classifier):
        others = "C" if name == "low_rank" else "steps"
        changes = {key: value for key, value in given.items() if value is not None and key != others}
        recipes.append(recipe(name, probe=probe, **changes))
    modalities = tuple(dict.fromkeys(options.modalities or (probe.modalities if probe else ("video",))))
    stated = probe or Stated()
    clip = replace(stated.followed(read_pretrain_config(options.run).clip, modalities), short="repeat")
    if probe is not None:  # what is wrong with the data is said before weights are read
        folds = published(probe, options.data, clip, modalities=modalities, folds=options.folds, console=console)
    else:
        folds = [_any_two(options, clip, modalities, console)]
    model = load(options.run, step=options.step)
    model = fresh(model, options.seed) if options.random else model
    seed = options.seed or 0
    reports = run_folds(model, folds, recipes=recipes, modalities=modalities, clip=clip, seed=seed, console=console)
    for report in reports:
        report.differs = stated.differs(clip, modalities)
        print_report(console, options, model, report)
        path = write_report(options.run, options.probe, model, report, data=options.data, test=options.test, seed=seed)
        console.print(f"{path}", highlight=False, soft_wrap=True)
    return 0


def _any_two(options: argparse.Namespace, clip, modalities, console):
    from vatt.data.sources import open_clips
    from vatt.evals.probe import Fold, split_of
    from vatt.evals.run import print_faults
    from vatt.progress import bar

    splits = []
    for source in (options.data, options.test):
        with bar(console, source) as progress:
            clips = open_clips(source, clip, max_bad=1.0, modalities=modalities, progress=progress)
        print_faults(console, clips)
        splits.append(split_of(clips))
    return Fold("test", *splits)


def print_report(console, options: argparse.Namespace, model, report) -> None:
    from rich import box
    from rich.table import Table

    who = "untrained" if options.random else f"step {model.step}"
    recipe = report.recipe
    varied = "varied as in pretraining" if recipe.augment is None else "varied as MMV does"
    training = f"{_count(recipe.passes, 'training pass', 'es')} {varied}" if recipe.passes else "1 training window"
    title = (
        f"{options.probe}: {recipe.classifier} on {'+'.join(report.modalities)} of {options.run}, {who} "
        f"({training}, {_count(recipe.windows, 'test window', 's')})"
    )
    console.print(title, highlight=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", "top-1 %", "top-5 %", "C", "test clips", "training clips", "classes"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, fold in report.folds.items():
        found = [f"{fold[a]} of {fold[b]}" for a, b in (("items", "expected"), ("train", "expected_train"))]
        C = f"{fold['C']:g}" if "C" in fold else ""
        table.add_row(name, f"{fold['top_1']:.1f}", f"{fold['top_5']:.1f}", C, *found, f"{fold['classes']}")
    if len(report.folds) > 1:
        mean = report.mean()
        table.add_row("mean", f"{mean['top_1']:.1f}", f"{mean['top_5']:.1f}")
    console.print(table)
    lines = [f"hash {report.hash}", f"the figures are of {100 * report.share:.1f} % of the test clips"]
    lines += [f"differs from the publication: {line}" for line in report.differs]
    console.print("\n".join([*lines, *report.notes]), highlight=False, markup=False, soft_wrap=True)


def _count(number: int, what: str, plural: str) -> str:
    return f"{number} {what}{'' if number == 1 else plural}"
