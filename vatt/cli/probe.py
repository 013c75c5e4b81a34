"""`vatt evaluate RUN --probe NAME`: a classifier on the frozen features of a run."""

import argparse

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
    group.add_argument("--passes", type=int, help="augmented training passes; 0: one central window")
    group.add_argument("--windows", type=int, help="test windows a clip")
    group.add_argument("--classifier-steps", type=int, metavar="N", help="steps of low_rank (default: 50000)")
    group.add_argument("--seed", type=int, default=0, help="of the training passes, and of low_rank")


def run_probe(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if not options.data:
        parser.error(f"--probe {options.probe} needs --data")
    if (options.probe == "linear") != bool(options.test):
        parser.error("--probe linear needs --test SOURCE, and no other probe has it")
    if options.probe == "linear" and options.folds:
        parser.error("--probe linear has no folds")

    before_jax()
    from vatt.data.sources import open_clips
    from vatt.evals.pretrained import load
    from vatt.evals.probe import PROBES, Fold, fresh, published, recipe, run_folds, split_of, write_report
    from vatt.evals.run import print_faults
    from vatt.progress import bar

    console = make_console()
    probe = PROBES.get(options.probe)
    given = {"C": options.C and tuple(options.C), "passes": options.passes, "windows": options.windows}
    changes = {name: value for name, value in given.items() if value is not None}
    recipes = [
        recipe(
            name,
            probe=probe,
            **{k: v for k, v in changes.items() if k != "C" or name != "low_rank"},
            **({"steps": options.classifier_steps} if name == "low_rank" and options.classifier_steps else {}),
        )
        for name in dict.fromkeys(options.classifier)
    ]
    model = load(options.run, step=options.step)
    model = fresh(model) if options.random else model
    if probe is not None:
        folds = published(probe, options.data, model, folds=options.folds, console=console)
    else:
        splits = []
        for source in (options.data, options.test):
            with bar(console, source) as progress:
                clips = open_clips(source, model.cfg.clip, max_bad=1.0, progress=progress)
            print_faults(console, clips)
            splits.append(split_of(clips))
        folds = [Fold("test", *splits)]
    modalities = tuple(dict.fromkeys(options.modalities or (probe.modalities if probe else ("video",))))
    reports = run_folds(model, folds, recipes=recipes, modalities=modalities, seed=options.seed, console=console)
    for report in reports:
        print_report(console, options, model, report)
        path = write_report(
            options.run, options.probe, model, report, data=options.data, test=options.test, seed=options.seed
        )
        console.print(f"{path}", highlight=False, soft_wrap=True)
    return 0


def print_report(console, options: argparse.Namespace, model, report) -> None:
    from rich import box
    from rich.table import Table

    who = "untrained" if options.random else f"step {model.step}"
    recipe = report.recipe
    training = _count(recipe.passes, "training pass", "es") if recipe.passes else "1 training window"
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
    for note in report.notes:
        console.print(note, highlight=False, soft_wrap=True)


def _count(number: int, what: str, plural: str) -> str:
    return f"{number} {what}{'' if number == 1 else plural}"
