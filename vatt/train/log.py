"""What a run tells: metrics.jsonl, TensorBoard, and one live line on the terminal."""

import math
import os
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vatt.jsonl import StepLines, read_lines

METRICS_FILE = "metrics.jsonl"


class MetricLog:
    """Appends lines to RUN/metrics.jsonl and, if asked, TensorBoard events to RUN/tensorboard."""

    def __init__(self, run: Path, *, from_step: int, tensorboard: bool):
        self._lines = StepLines(run / METRICS_FILE, from_step=from_step)
        self._events = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(run / "tensorboard"), purge_step=from_step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        self._lines.write({"step": step} | values)
        self._lines.flush()
        if self._events:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        self._lines.close()
        if self._events:
            self._events.close()


def read_metrics(run: str | Path) -> list[dict]:
    """The lines of RUN/metrics.jsonl; [] if there are none yet."""
    return read_lines(Path(run) / METRICS_FILE)


class Meter:
    """Clips a second and the share of time spent waiting for input, since the last `reset`."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        self._start, self._clips, self._waited = time.perf_counter(), 0, 0.0

    def add(self, clips: int, waited: float) -> None:
        self._clips += clips
        self._waited += waited

    def read(self) -> dict[str, float]:
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        return {"clips_per_second": self._clips / elapsed, "input_wait": self._waited / elapsed}


class Screen:
    """The live line of a run: step, losses, clips/s, share of time waiting for input, time left.

    Where output is no terminal it prints a plain line instead, whenever `line` is called.
    """

    def __init__(self, console: Console, *, steps: int, start: int):
        self.console, self.steps = console, steps
        self._progress = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=False,
            disable=not console.is_terminal,
            refresh_per_second=4,
            speed_estimate_period=120,
        )
        self._task = self._progress.add_task("", total=steps, completed=start, status="compiling the step ...")
        self._began = (time.perf_counter(), start)

    def update(self, step: int, values: dict[str, float]) -> None:
        self._progress.update(self._task, completed=step, status=summary(values))

    def line(self, step: int, values: dict[str, float]) -> None:
        if self.console.is_terminal:
            return
        began, start = self._began
        left = (time.perf_counter() - began) / max(step - start, 1) * (self.steps - step)
        try:
            print(f"step {step}/{self.steps}  {summary(values)}  {clock(left)} left", flush=True)
        except BrokenPipeError:  # whoever read has gone; that is no reason to stop training
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *_):
        self._progress.stop()


def summary(values: dict[str, float]) -> str:
    losses = {name: value for name, value in values.items() if name.startswith("loss/")} or {"loss": values["loss"]}
    parts = [f"{name.removeprefix('loss/')} {value:.3f}" for name, value in losses.items()]
    if "clips_per_second" in values:
        parts.append(f"{values['clips_per_second']:.0f} clips/s")
        parts.append(f"input wait {100 * values['input_wait']:.0f}%")
    if "mfu" in values:
        parts.append(f"MFU {100 * values['mfu']:.0f}%")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
