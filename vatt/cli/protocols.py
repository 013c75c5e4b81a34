"""`vatt evaluate RUN --retrieval PROTOCOL --data DIR`: a published retrieval protocol."""

from collections import Counter
from typing import TYPE_CHECKING

from vatt.cli import before_jax, make_console
from vatt.data.faults import FAULTS
from vatt.errors import listed

if TYPE_CHECKING:
    from vatt.evals.protocols.report import Report


def run(run: str, step: str, protocol: str, data: str, post: str) -> int:
    before_jax()
    from vatt.evals.protocols.measure import measure_run

    console = make_console()
    done = "dual_softmax" if post == "dual-softmax" else "none"
    report = measure_run(run, protocol, data, step=step, post=done, console=console)
    print_report(console, report)
    console.print(f"written to {report.write()}", highlight=False, soft_wrap=True)
    return 0


def print_report(console, report: "Report") -> None:
    from rich import box
    from rich.table import Table

    rules = report.protocol
    title = f"{rules.name} version {rules.version}, {report.run} at step {report.step} (%; ranks from 1)"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for name in ("", "R@1", "R@5", "R@10", "median", "mean", "queries", "items"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for direction, values in report.scores.items():
        name = direction.replace("_to_", " → ").replace("/", ", ").replace("_", " ")
        table.add_row(name, *_row(values), f"{values['queries']:.0f}", f"{values['items']:.0f}")
        table.add_row("  chance", *_row(report.chance[direction]), style="dim")
    console.print(table)
    console.print()
    console.print("\n".join(_notes(report)), highlight=False, markup=False, soft_wrap=True)


def _row(values: dict[str, float]) -> list[str]:
    return [f"{values[name]:.1f}" for name in ("R@1", "R@5", "R@10", "median_rank", "mean_rank")]


def _notes(report: "Report"):
    rules, missing = report.protocol, report.missing
    yield f"hash {report.hash} (protocol {rules.hash}, items {report.official.hash} of {report.official.file})"
    yield f"after {rules.source}; similarity {rules.similarity}, {rules.windows} windows"
    yield (
        f"{report.found} of {report.listed} items found, {len(missing)} missing: "
        f"the scores are of {100 * report.share:.1f} % of the protocol"
        + (", and fewer items are easier to rank" if missing else "")
    )
    if rules.items and report.listed != rules.items:
        yield f"{report.official.file.name} lists {report.listed} items, the publication {rules.items}"
    if missing:
        kinds = Counter(fault.reason for fault in missing).most_common()
        yield "missing: " + "; ".join(f"{count} x {FAULTS[kind].says}" for kind, count in kinds)
        yield listed([f"{fault.id}: {fault.detail}" for fault in missing])
    if report.duplicates:
        yield (
            f"{report.duplicates} of {report.queries} captions repeat others; multi positive counts every item right "
            "that has the caption, and is not what is published"
        )
    if report.wordless:
        yield f"{len(report.wordless)} captions hold no words and were not asked:\n" + listed(report.wordless)
    ties = {name: values["ties"] for name, values in report.scores.items() if values["ties"]}
    if ties:
        yield "ties, counted as the mean over random orders: " + ", ".join(f"{n} in {name}" for name, n in ties.items())
    for line in report.differs:
        yield f"differs from the publication: {line}"
