"""The training loop: config -> mesh -> clips -> state -> steps -> checkpoints -> retrieval. Read it top to bottom."""

import contextlib
import math
import signal
import time
from dataclasses import replace

import jax
from rich.console import Console

from vatt import sharding
from vatt.config import Config
from vatt.data.manifest import Item, absolute, load_source
from vatt.data.pipeline import TrainStream, evaluation_batches
from vatt.data.text import Vocabulary, load_word2vec
from vatt.errors import DataError, NonFiniteError
from vatt.evals.retrieval import Retrieval, evaluate
from vatt.progress import bar
from vatt.tasks.pretrain import Pretrain
from vatt.train.checkpoint import Checkpoints, check_writable, has_checkpoint, open_run, read_config, read_vocabulary
from vatt.train.flops import utilisation_per_clip
from vatt.train.log import Meter, MetricLog, Screen
from vatt.train.step import State, abstract_state, make_state, make_step, weights


def pretrain(cfg: Config, console: Console) -> Retrieval | None:
    """Runs or continues a pretraining run. Returns the last retrieval, or None if interrupted or not asked for.

    Raises:
      ConfigError, DataError, CheckpointError: what the user can mend, before the first step where possible.
      NonFiniteError: the loss was NaN or infinite; names the step and its clips.
    """
    cfg = with_absolute_sources(cfg)  # they mean the same from whatever folder the run is read later
    # Everything that can be refused is refused here, before a folder is made.
    mesh = sharding.make_mesh(cfg.mesh)
    sharding.check_batch(cfg.batch_size, mesh)
    if cfg.evaluate.source:
        sharding.check_batch(cfg.evaluate.batch_size, mesh, "evaluate.batch_size")
    check_writable(cfg.run)
    task = Pretrain(cfg)
    device = mesh.devices.flat[0]
    console.print(f"{mesh.size} x {device.device_kind}, {cfg.model.dtype}")
    if cfg.optim.warmup_steps >= cfg.steps:
        console.print(
            f"steps {cfg.steps} end within optim.warmup_steps {cfg.optim.warmup_steps}, at a low learning rate."
        )
    if has_checkpoint(cfg.run) and (before := read_config(cfg.run).steps) != cfg.steps:
        console.print(f"{before} steps before, {cfg.steps} now: the learning-rate curve is another from here on.")

    sources, heldout = load_items(cfg, console)
    items = [item for source in sources.values() for item in source]
    vocabulary = open_vocabulary(cfg, items)
    vectors = None
    if cfg.model.text.word2vec:
        vectors, found = load_word2vec(cfg.model.text.word2vec, vocabulary, cfg.model.text.embed_width)
        console.print(f"{cfg.model.text.word2vec}: vectors for {found} of {len(vocabulary)} words.")
    run = open_run(cfg, sources, vocabulary)
    stream = TrainStream(
        items,
        clip=cfg.clip,
        vocabulary=vocabulary,
        batch_size=cfg.batch_size,
        seed=cfg.seed,
        workers=cfg.data.workers,
        worker_kind=cfg.data.worker_kind,
    )
    with Checkpoints(run, cfg.checkpoint) as checkpoints, Interrupt(console) as interrupt:
        step, state = open_state(cfg, task, mesh, checkpoints, vectors, console)
        log = MetricLog(run, from_step=step, tensorboard=cfg.log.tensorboard)

        def measure() -> Retrieval:
            batches = evaluation_batches(
                heldout,
                clip=cfg.clip,
                vocabulary=vocabulary,
                windows=cfg.evaluate.windows,
                batch_size=cfg.evaluate.batch_size,
            )
            return evaluate(task, mesh, weights(state), state["stats"], batches)

        result = None
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.closing(log))
            screen = stack.enter_context(Screen(console, steps=cfg.steps, start=step))
            batches = stack.enter_context(contextlib.closing(stream.iterate(step)))
            reporter = Reporter(cfg, mesh, log, screen)
            train_step = make_step(cfg, task, mesh)
            while step < cfg.steps:
                with reporter.waiting():
                    batch = next(batches)
                ids = batch.pop("ids")
                with jax.set_mesh(mesh):
                    state, metrics = train_step(state, sharding.put_batch(batch, mesh))
                step += 1
                reporter.push(step, ids, metrics)

                result = None
                due = cfg.evaluate.every and step % cfg.evaluate.every == 0
                if heldout and (due or step == cfg.steps):
                    reporter.flush()
                    result = measure()
                    log.write(step, {f"retrieval/{name}": value for name, value in result.named().items()})
                    reporter.resume()
                stopping = interrupt.asked or step == cfg.steps
                if stopping or step % cfg.checkpoint.every == 0:
                    reporter.flush()  # what is saved has been seen to be finite
                    checkpoints.save(step, state, result.named() if result else None)
                    reporter.resume()
                if stopping:
                    break
        checkpoints.wait()
        if step < cfg.steps:
            console.print(f"Stopped after step {step} of {cfg.steps} and saved. The same command goes on from there.")
            return None
        return result or (measure() if heldout else None)


class Reporter:
    """Fetches metrics one step late, so that the device never waits for the host; stops the run if they are not
    finite; tells the log and the screen."""

    def __init__(self, cfg: Config, mesh, log: MetricLog, screen: Screen):
        self.cfg, self.log, self.screen = cfg, log, screen
        self.mfu_per_clip = utilisation_per_clip(cfg, mesh)
        self._meter, self._pending, self._waited, self._first = Meter(), None, 0.0, True

    @contextlib.contextmanager
    def waiting(self):
        """Times what is done inside as waiting for input, if the device had nothing left to do by its end."""
        start = time.perf_counter()
        yield
        idle = self._pending is None or self._pending[2]["loss"].is_ready()
        self._waited = time.perf_counter() - start if idle else 0.0

    def push(self, step: int, ids: list[str], metrics: dict) -> None:
        self.flush()
        self._pending = (step, ids, metrics, self._waited)

    def resume(self) -> None:
        """Speed is measured from here on, without what the run did besides training."""
        self._meter.reset()

    def flush(self) -> None:
        """Waits for the step pushed last and reports it. Raises NonFiniteError, naming the step and its clips."""
        if self._pending is None:
            return
        (step, ids, metrics, waited), self._pending = self._pending, None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        bad = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise NonFiniteError(
                f"step {step}: {', '.join(bad)}. Checkpoints before it are intact; a lower optim.learning_rate or "
                f"optim.clip_norm 1 often helps, with another --run. The clips of that batch: {', '.join(ids)}"
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
            self.log.write(step, values)
            self.screen.line(step, values)
            self._meter.reset()


def with_absolute_sources(cfg: Config) -> Config:
    return replace(
        cfg,
        data=replace(cfg.data, sources=tuple(absolute(source) for source in cfg.data.sources)),
        evaluate=replace(cfg.evaluate, source=absolute(cfg.evaluate.source)),
    )


def load_items(cfg: Config, console: Console) -> tuple[dict[str, list[Item]], list[Item]]:
    """The training clips of each source, and the held-out clips."""
    if not cfg.data.sources:
        raise DataError("data.sources is empty; name a folder of media files: --data.sources FOLDER")

    def load(source: str) -> list[Item]:
        with bar(console, source) as progress:
            return load_source(source, seconds=cfg.clip.seconds, progress=progress)

    items = {source: load(source) for source in cfg.data.sources}
    return items, load(cfg.evaluate.source) if cfg.evaluate.source else []


def open_vocabulary(cfg: Config, items: list[Item]) -> Vocabulary:
    """The vocabulary of the run's checkpoints, else the file that the config names, else the training captions'."""
    if has_checkpoint(cfg.run):
        return read_vocabulary(cfg.run)
    if not cfg.data.vocabulary:
        texts = (caption.text for item in items for caption in item.captions)
        return Vocabulary.build(texts, cfg.model.text.vocab_size)
    vocabulary = Vocabulary.load(cfg.data.vocabulary)
    if len(vocabulary) > cfg.model.text.vocab_size:
        raise DataError(
            f"{cfg.data.vocabulary} has {len(vocabulary)} words with padding and unknown; model.text.vocab_size is "
            f"{cfg.model.text.vocab_size}"
        )
    return vocabulary


def open_state(cfg: Config, task, mesh, checkpoints: Checkpoints, vectors, console) -> tuple[int, State]:
    """The latest checkpoint of the run, or a fresh state with `vectors` [V E] in the first rows of the word table."""
    if checkpoints.steps:
        step = max(checkpoints.steps)
        console.print(f"Going on from step {step} of {cfg.run}.")
        return step, checkpoints.load(step, abstract_state(cfg, task, mesh))
    state = make_state(cfg, task, mesh)
    if vectors is not None:
        for params in [state["params"]] + ([state["ema"]] if "ema" in state else []):
            table = params["tokenizers"]["text"]["table"]
            filled = table.at[: len(vectors)].set(vectors)  # an array of its own for each: states are donated
            params["tokenizers"]["text"]["table"] = jax.device_put(filled, table.sharding)
    return 0, state


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a request to save and stop; the second stops at once."""

    def __init__(self, console: Console):
        self.asked = False
        self._console = console
        self._before: dict = {}

    def __enter__(self):
        for name in (signal.SIGINT, signal.SIGTERM):
            self._before[name] = signal.signal(name, self._ask)
        return self

    def _ask(self, *_) -> None:
        self.asked = True
        self._restore()
        self._console.print("Stopping after this step and saving; Ctrl-C again stops at once.")

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def __exit__(self, *_):
        self._restore()
