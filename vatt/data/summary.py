"""What a health check says on the terminal: however many files, as many lines as there are kinds of faults."""

import os

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vatt.data.check import Report
from vatt.data.faults import FAULTS
from vatt.data.report import printable

NAMED = 3  # files that a kind of fault names


def print_report(report: Report, console: Console) -> None:
    """Counts with remedies and the first few names of each kind, then what can be used and where all is written."""
    kinds = report.kinds
    if kinds:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"vatt data check {printable(report.source)}")
        table.add_column("files", justify="right", no_wrap=True)
        table.add_column("what is the matter")
        table.add_column("what to do")
        for reason, found in kinds.items():
            kind = FAULTS[reason]
            says = Text(kind.says, style="bold red" if kind.fatal else "bold yellow")
            for line, detail in found[:NAMED]:
                says.append(
                    f"\n  {printable(line.id)}" + (f": {printable(detail)}" if detail else ""), style="not bold default"
                )
            if len(found) > NAMED:
                says.append(f"\n  and {len(found) - NAMED:,} more", style="not bold dim")
            table.add_row(f"{len(found):,}", says, kind.remedy)
        console.print(table)
    total, usable = len(report.lines), report.usable
    passed = ", ".join(
        f"{count:,} .{kind}" if kind else f"{count:,} without ending" for kind, count in report.ignored.items()
    )
    if passed:
        console.print(Text(f"passed over: {printable(passed)}"), soft_wrap=True)
    sound = (
        "no faults found"
        if not kinds
        else "all can be used"
        if usable == total
        else f"{total - usable:,} cannot be used"
    )
    console.print(f"{total:,} {'file' if total == 1 else 'files'}, {sound}", highlight=False)
    console.print(Text(os.path.relpath(report.folder / "report.html")), soft_wrap=True)
