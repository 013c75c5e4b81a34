"""The training loop: state -> steps -> checkpoints -> measurement, whatever the task. Read it top to bottom."""

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import jax
from jax.sharding import Mesh
from rich import box
from rich.console import Console
from rich.table import Table

from vatt import sharding
from vatt.config import Config, Modality, RunConfig
from vatt.data.faults import FAULTS
from vatt.data.items import Source
from vatt.data.ledger import Ledger
from vatt.data.listing.rows import absolute
from vatt.data.pipeline import LISTED, TrainStream
from vatt.data.sources import BOTH, open_clips
from vatt.errors import NAMED, DataError, NonFiniteError
from vatt.evals.run import print_faults
from vatt.progress import bar
from vatt.tasks.task import Task
from vatt.train.checkpoint import Checkpoints, check_writable, has_checkpoint, read_config
from vatt.train.flops import utilisation_per_clip
from vatt.train.log import Meter, MetricLog, Screen
from vatt.train.step import State, abstract_state, make_state, make_step

Run = TypeVar("Run", bound=RunConfig)


class Result(Protocol):
    """What an evaluation found."""

    def named(self) -> dict[str, float]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What one run is, beyond its configuration.

    stream: the batches.
    first: makes of a fresh state what training starts from.
    measure: evaluates a state; None: there is nothing to evaluate on.
    measured: what its numbers are called in the log.
    """

    cfg: RunConfig
    task: Task
    mesh: Mesh
    stream: TrainStream
    first: Callable[[State], State]
    measure: Callable[[State], Result] | None
    measured: str


def begin(cfg: RunConfig, console: Console) -> Mesh:
    """Refuses what can be refused before a folder is made or a file opened, and says what will run where.

    Raises:
      ConfigError: the batch does not divide over the devices.
      CheckpointError: the folder of the run cannot be written.
    """
    mesh = sharding.make_mesh(cfg.mesh)
    sharding.check_batch(cfg.batch_size, mesh)
    check_writable(cfg.run)
    console.print(f"{mesh.size} x {mesh.devices.flat[0].device_kind}, {cfg.model.dtype}")
    if cfg.optim.warmup_steps >= cfg.steps:
        console.print(
            f"steps {cfg.steps} end within optim.warmup_steps {cfg.optim.warmup_steps}, at a low learning rate."
        )
    if has_checkpoint(cfg.run) and (before := read_config(cfg.run).steps) != cfg.steps:
        console.print(f"{before} steps before, {cfg.steps} now: the learning-rate curve is another from here on.")
    return mesh


def train(job: Job, console: Console) -> tuple[State, Result | None]:
    """Runs or continues a run. Returns the state it ended with and the last measurement: None if it was interrupted, or
    nothing is to be measured.

    Raises:
      DataError, CheckpointError: what the user can mend; what was trained until then is saved.
      NonFiniteError: the loss was NaN or infinite; names the step and its clips.
      Whatever measuring raises: what was trained until then is saved.
    """
    cfg, mesh, run = job.cfg, job.mesh, Path(job.cfg.run)
    with Checkpoints(cfg.run, cfg.checkpoint) as checkpoints, Interrupt(console) as interrupt:
        step, state = open_state(job, checkpoints, console)
        log = MetricLog(run, from_step=step, tensorboard=cfg.log.tensorboard)
        ledger = Ledger(run, job.stream.sources, max_bad=cfg.data.max_bad, from_step=step)

        def save(result: Result | None = None) -> None:
            reporter.flush()  # what is saved has been seen to be finite
            ledger.write(step)
            checkpoints.save(step, state, result.named() if result else None)
            reporter.resume()

        result, excess = None, None
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.closing(log))
            stack.enter_context(contextlib.closing(ledger))
            screen = stack.enter_context(Screen(console, steps=cfg.steps, start=step))
            batches = stack.enter_context(contextlib.closing(job.stream.iterate(step)))
            reporter = Reporter(cfg, mesh, log, screen, ledger)
            train_step = make_step(cfg, job.task, mesh)
            try:
                while step < cfg.steps:
                    with reporter.waiting():
                        batch = next(batches)
                    origin = {name: batch.pop(name) for name in LISTED}
                    with jax.set_mesh(mesh):
                        state, metrics = train_step(state, sharding.put_batch(batch, mesh))
                    step += 1
                    reporter.push(step, origin, metrics)

                    result = None
                    due = cfg.evaluate.every and step % cfg.evaluate.every == 0
                    if job.measure and (due or step == cfg.steps):
                        reporter.flush()
                        try:
                            result = interrupt.unless_asked(job.measure, state)
                        except BaseException:  # the state is finite, and steps cost more than measuring it again
                            save()
                            raise
                        if result is not None:
                            found = result.named().items()
                            log.write(step, {f"{job.measured}/{name}": value for name, value in found})
                        reporter.resume()
                    excess = ledger.excess()
                    stopping = interrupt.asked or step == cfg.steps or excess
                    if stopping or step % cfg.checkpoint.every == 0:
                        save(result)
                    if stopping:
                        break
            except DataError:  # a disk is gone: what was trained is not lost
                if step:
                    save()
                raise
        checkpoints.wait()
        if excess:
            raise excess
        print_ledger(console, ledger)
        if step < cfg.steps:
            console.print(f"Stopped after step {step} of {cfg.steps} and saved. The same command goes on from there.")
            return state, None
        if result is None and job.measure:
            result = interrupt.unless_asked(job.measure, state)
            if result is None:
                console.print(f"Step {step} of {cfg.steps} is saved, but not measured. The same command measures it.")
        return state, result


class Reporter:
    """Fetches metrics one step late, so that the device never waits for the host; stops the run if they are not
    finite; tells the log and the screen."""

    def __init__(self, cfg: RunConfig, mesh, log: MetricLog, screen: Screen, ledger: Ledger):
        self.cfg, self.log, self.screen, self.ledger = cfg, log, screen, ledger
        self.mfu_per_clip = utilisation_per_clip(cfg, mesh) if isinstance(cfg, Config) else None
        self._meter, self._pending, self._waited, self._first = Meter(), None, 0.0, True

    @contextlib.contextmanager
    def waiting(self):
        """Times what is done inside as waiting for input, if the device had nothing left to do by its end."""
        start = time.perf_counter()
        yield
        idle = self._pending is None or self._pending[2]["loss"].is_ready()
        self._waited = time.perf_counter() - start if idle else 0.0

    def push(self, step: int, origin: dict[str, list], metrics: dict) -> None:
        """`origin`: where the clips of the batch are from, and what happened to them."""
        self.flush()
        self._pending = (step, origin, metrics, self._waited)

    def resume(self) -> None:
        """Speed is measured from here on, without what the run did besides training."""
        self._meter.reset()

    def flush(self) -> None:
        """Waits for the step pushed last and reports it. Raises NonFiniteError, naming the step and its clips."""
        if self._pending is None:
            return
        (step, origin, metrics, waited), self._pending = self._pending, None
        self.ledger.add(step, origin["sources"], origin["events"])
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        bad = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise NonFiniteError(
                f"step {step}: {', '.join(bad)}. Checkpoints before it are intact; a lower optim.learning_rate or "
                f"optim.clip_norm 1 often helps, with another --run. vatt data replay {self.cfg.run} --step {step} "
                f"shows the batch. Its clips: {', '.join(origin['ids'][:NAMED])}"
                + (f" and {len(origin['ids']) - NAMED} more" if len(origin["ids"]) > NAMED else "")
            )
        if self._first:  # it compiled, which is no measure of speed
            self._meter.reset()
            self._first = False
        else:
            self._meter.add(self.cfg.batch_size, waited)
            values |= self._meter.read()
            if self.mfu_per_clip:
                values["mfu"] = values["clips_per_second"] * self.mfu_per_clip
        self.screen.update(step, values)
        if step % self.cfg.log.every == 0 or step == self.cfg.steps:
            self.log.write(step, values | self.ledger.write(step))
            self.screen.line(step, values)
            self._meter.reset()


def with_absolute_sources(cfg: Run) -> Run:
    """The same configuration, whatever the working directory when the run is read later."""
    return replace(
        cfg,
        data=replace(cfg.data, sources=tuple(absolute(source) for source in cfg.data.sources)),
        evaluate=replace(cfg.evaluate, source=absolute(cfg.evaluate.source)),
    )


def open_sources(
    cfg: RunConfig, console: Console, modalities: Sequence[Modality] = BOTH
) -> tuple[list[Source], Source | None]:
    """The sources of training clips, and that of held-out clips, of which these modalities are looked at. Says what was
    left out of each.

    Raises DataError if too much of one cannot be used.
    """
    if not cfg.data.sources:
        raise DataError("data.sources is empty; name a folder of media files: --data.sources FOLDER")

    def opened(name: str) -> Source:
        with bar(console, name) as progress:
            source = open_clips(
                name,
                cfg.clip,
                max_bad=cfg.data.max_bad,
                modalities=modalities,
                workers=cfg.data.workers,
                progress=progress,
            )
        print_faults(console, source)
        return source

    sources = [opened(name) for name in cfg.data.sources]
    return sources, opened(cfg.evaluate.source) if cfg.evaluate.source else None


def print_ledger(console: Console, ledger: Ledger) -> None:
    """What was missing or broken in the clips trained on."""
    rows = ledger.summary()
    if not rows:
        return
    table = Table("source", "what", "clips", "share", "such as", box=box.SIMPLE_HEAD, title="what clips lacked")
    for source, reason, count, share, ids in rows:
        table.add_row(source, FAULTS[reason].says, f"{count:,}", f"{100 * share:.1f} %", ids)
    console.print(table, highlight=False)


def open_state(job: Job, checkpoints: Checkpoints, console: Console) -> tuple[int, State]:
    """The latest checkpoint of the run, or what it starts from."""
    cfg, task, mesh = job.cfg, job.task, job.mesh
    if checkpoints.steps:
        step = max(checkpoints.steps)
        console.print(f"Going on from step {step} of {cfg.run}.")
        return step, checkpoints.load(step, abstract_state(cfg, task, mesh))
    return 0, job.first(make_state(cfg, task, mesh))


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a request to save and stop; the second stops at once."""

    def __init__(self, console: Console):
        self.asked = False
        self._at_once = False
        self._console = console
        self._before: dict = {}

    def unless_asked(self, work: Callable[[State], Result], state: State) -> Result | None:
        """What `work` gives of the state; None where stopping was asked for before or meanwhile, which ends the work:
        it may take hours, and nothing is lost with it."""
        if self.asked:
            return None
        self._at_once = True
        try:
            return work(state)
        except KeyboardInterrupt:
            self.asked = True
            return None
        finally:
            self._at_once = False

    def __enter__(self):
        for name in (signal.SIGINT, signal.SIGTERM):
            self._before[name] = signal.signal(name, self._ask)
        return self

    def _ask(self, *_) -> None:
        self.asked = True
        self._restore()
        if self._at_once:
            raise KeyboardInterrupt
        self._console.print("Stopping after this step and saving; Ctrl-C again stops at once.")

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def __exit__(self, *_):
        self._restore()
