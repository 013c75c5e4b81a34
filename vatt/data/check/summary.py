"""What a health check says on the terminal: however many files, a few lines for each kind of fault."""

import os

from rich.console import Console
from rich.text import Text

from vatt.data.check.report import passed_over, printable
from vatt.data.check.run import Report
from vatt.data.faults import FAULTS

NAMED = 3  # files that a kind of fault names


def print_report(report: Report, console: Console) -> None:
    """Counts with remedies and the first few names of each kind, then what can be used and where all is written.

    On a terminal a line that is too long ends in an ellipsis; in a pipe it stays whole.
    """

    def say(*parts: tuple[str, str]) -> None:
        line = Text.assemble(*parts)
        console.print(
            line, no_wrap=True, overflow="ellipsis" if console.is_terminal else "ignore", crop=console.is_terminal
        )

    total, usable, kinds = len(report.lines), report.usable, report.kinds
    width = max((len(f"{len(found):,}") for found in kinds.values()), default=0)
    for reason, found in kinds.items():
        kind = FAULTS[reason]
        count = f"{len(found):>{width},}"
        say((f"{count}  ", "bold"), (kind.says, "bold red" if kind.fatal else "bold yellow"), (f" → {kind.remedy}", ""))
        for line, detail in found[:NAMED]:
            more = f": {printable(detail)}" if detail else ""
            say((" " * (width + 4), ""), (printable(line.id), "default"), (more, "dim"))
        if len(found) > NAMED:
            say((f"{'':{width + 4}}and {len(found) - NAMED:,} more", "dim"))
    if kinds:
        say()
    if report.ignored:
        say((f"passed over: {passed_over(report)}", "dim"))
    files = f"{total:,} {'file' if total == 1 else 'files'}"
    verdict = "no faults found" if not kinds else "all can be used"
    say((f"{files}, {verdict if usable == total else f'{total - usable:,} cannot be used'}", "bold"))
    say((os.path.relpath(report.folder / "report.html"), ""))
