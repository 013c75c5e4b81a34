"""`vatt finetune`: trains a classifier."""

from vatt.cli import before_jax, config_from, make_console
from vatt.config import FinetuneConfig


def run(args: list[str]) -> int:
    cfg = config_from(
        "finetune",
        FinetuneConfig,
        args,
        "Trains the classifier that EXPERIMENT describes, from the checkpoint of another run (--init RUN) or from "
        "scratch, and measures it on held-out clips. Ctrl-C saves and stops; the same command goes on from there.",
        "vatt finetune experiments/finetune_demo.py --init runs/demo",
    )
    before_jax()
    from vatt import plots
    from vatt.train.finetune import finetune
    from vatt.train.log import read_metrics

    console = make_console()
    measured = finetune(cfg, console)
    if read_metrics(cfg.run):  # not if it was stopped before the first line
        plots.curves(cfg.run)
    if measured:
        print_classification(console, measured, cfg.run)
    return 0


def print_classification(console, measured: dict, title: str) -> None:
    """A row for everything that was measured, a column for every metric."""
    from rich import box
    from rich.table import Table

    names = dict.fromkeys(name for result in measured.values() for name in result.metrics)
    table = Table(title=f"classification of held-out clips by {title}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", *names):
        table.add_column(name.replace("_", " "), justify="right" if name else "left", no_wrap=True)
    for row, result in measured.items():
        values = [result.metrics.get(name) for name in names]
        table.add_row(row, *("" if v is None else f"{v:.1f}" if isinstance(v, float) else str(v) for v in values))
    console.print(table)
