"""A progress bar for work that reports `(done, total)`."""

import contextlib

from rich.console import Console
from rich.progress import Progress


@contextlib.contextmanager
def bar(console: Console, label: str):
    """Shows a bar while its block runs; yields the callback that moves it."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label)
        yield lambda done, total: progress.update(task, completed=done, total=total)
