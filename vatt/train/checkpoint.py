"""The run folder: what lies beside the weights, and the checkpoints themselves (Orbax, written in the background).

RUN/config.json       the configuration
RUN/vocabulary.txt    one word a line; or RUN/tokenizer.json
RUN/classes.txt       of a classifier: one class a line, a name in words behind a tab if it has one
RUN/ledger.jsonl      what was missing or broken in the clips (vatt.data.ledger)
RUN/versions.json     the packages that wrote the run
RUN/checkpoints/STEP  the training state after STEP steps
"""

import dataclasses
import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

import jax
from orbax.checkpoint import v1 as ocp

from vatt.config import CheckpointConfig, Config, RunConfig, from_json, to_json
from vatt.data.items import Source
from vatt.data.labels import read_names
from vatt.data.text import Subwords, Tokenizer, Vocabulary
from vatt.errors import CheckpointError, ConfigError
from vatt.train.versions import versions

# What may differ between a run and its continuation: it changes neither the clips of a step nor what is computed from
# them, but for steps, which stretches the learning-rate curve, and mesh, which rounds sums otherwise.
FREE_TO_CHANGE = (
    "run",
    "steps",
    "evaluate",
    "checkpoint",
    "log",
    "mesh",
    "data.workers",
    "data.worker_kind",
    "data.max_bad",
    "classify.average",
    "classify.wise",
)


TEXTS = {"vocabulary.txt", "tokenizer.json", "classes.txt"}


def has_checkpoint(run: str | Path) -> bool:
    folder = Path(run) / "checkpoints"
    return folder.is_dir() and any(path.name.isdecimal() for path in folder.iterdir())


def check_writable(run: str | Path) -> None:
    """Raises CheckpointError if the run folder could not be made or written; makes nothing."""
    folder = Path(run).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise CheckpointError(f"{run}: cannot be written ({folder} forbids it); choose another folder with --run")


def open_run(cfg: RunConfig, sources: Sequence[Source], texts: dict[str, str]) -> Path:
    """Makes the run folder and what lies beside the weights. A run that has checkpoints must have been started with
    the same configuration and the same clips: its next batches would silently be others.

    Args:
      texts: files by name, with their content, that an evaluation will need: those of TEXTS.

    Raises:
      CheckpointError: the folder cannot be written, or belongs to another configuration or other clips.
    """
    run = Path(cfg.run)
    digests = _digests(sources)
    try:
        run.mkdir(parents=True, exist_ok=True)
        if has_checkpoint(run):
            _check_same(run, read_config(run), cfg)
            _check_sources(run, digests)
        _write(run / "sources.json", json.dumps(digests, indent=2))
        _write(run / "versions.json", json.dumps(versions(), indent=2))
        _write(run / "config.json", to_json(cfg))
        for name, text in texts.items():
            _write(run / name, text)
        for other in TEXTS - set(texts):  # of a start that came to nothing
            (run / other).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{run}: cannot be written ({error.strerror}); choose another folder with --run"
        ) from error
    return run


def tokenizer_text(tokenizer: Tokenizer) -> dict[str, str]:
    """The file that holds a tokenizer, for `open_run`."""
    return {"tokenizer.json" if isinstance(tokenizer, Subwords) else "vocabulary.txt": tokenizer.to_text()}


def check_sources(run: str | Path, sources: Sequence[Source]) -> None:
    """Raises CheckpointError if the clips or captions of a source are not those that the run was started with."""
    _check_sources(Path(run), _digests(sources))


def _digests(sources: Sequence[Source]) -> dict[str, dict]:
    return {source.name: {"clips": len(source), "sha256": source.fingerprint()} for source in sources}


def _check_sources(run: Path, now: dict) -> None:
    path = run / "sources.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    for source, digest in now.items():
        if source in before and before[source] != digest:
            counts = f"{before[source]['clips']} clips then, {digest['clips']} now"
            raise CheckpointError(
                f"{source}: its clips or captions have changed since {run} was started ({counts}), and so would every "
                "batch to come. Restore them, or start another run with --run"
            )


def _write(path: Path, text: str) -> None:
    """Replaces the file at once, so that no reader and no crash sees half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)


def _check_same(run: Path, old: RunConfig, new: RunConfig) -> None:
    if type(old) is not type(new):
        raise CheckpointError(f"{run} is a run of another kind; choose another folder with --run")
    before, now = fields_of(old), fields_of(new)
    changed = [
        f"{name} {before[name]} -> {now[name]}"
        for name in before
        if before[name] != now[name] and not any(f"{name}.".startswith(f"{free}.") for free in FREE_TO_CHANGE)
    ]
    if changed:
        raise CheckpointError(
            f"{run} was started with another configuration ({'; '.join(changed)}). "
            "Choose another folder with --run, or remove this one"
        )


def fields_of(cfg) -> dict[str, Any]:
    """The fields of a configuration and of those within it, by dotted name."""
    values = {field.name: getattr(cfg, field.name) for field in dataclasses.fields(cfg)}
    flat = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(value):
            flat |= {f"{name}.{inner}": x for inner, x in fields_of(value).items()}
        else:
            flat[name] = value
    return flat


def read_config(run: str | Path) -> RunConfig:
    """The configuration of a run. Raises CheckpointError when the folder is not a run or is from another version."""
    path = Path(run) / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{run}: not a run folder (no config.json); give the folder that vatt pretrain or vatt finetune wrote"
        )
    try:
        return from_json(path.read_text())
    except (ConfigError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error


def read_pretrain_config(run: str | Path) -> Config:
    """As `read_config`, of a pretraining run. Raises CheckpointError for another."""
    cfg = read_config(run)
    if not isinstance(cfg, Config):
        raise CheckpointError(f"{run}: is a fine-tuned classifier; give the run of vatt pretrain")
    return cfg


def read_names_of(run: str | Path) -> dict[str, str]:
    """The classes of a fine-tuned run, in order, and what they are called (see `read_names`). Raises DataError if they
    are not there."""
    return read_names(Path(run) / "classes.txt")


def read_classes_of(run: str | Path) -> tuple[str, ...]:
    """As `read_names_of`, the classes alone."""
    return tuple(read_names_of(run))


def read_tokenizer(run: str | Path) -> Tokenizer:
    """Raises DataError if it is not there."""
    path = Path(run) / "tokenizer.json"
    return Subwords.load(path) if path.exists() else Vocabulary.load(Path(run) / "vocabulary.txt")


def _lock(run: Path) -> IO:
    """Holds RUN/lock for this process; the system lets go of it however the process ends."""
    run.mkdir(parents=True, exist_ok=True)
    lock = (run / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise CheckpointError(f"{run}: another vatt is training there; wait for it, or choose another --run") from error
    return lock


class Checkpoints:
    """The checkpoints of a run: the latest `keep`, and the best by `best` if that metric is known.

    One process at a time may open them to "write"; any number may "read" beside it.
    """

    def __init__(self, run: str | Path, cfg: CheckpointConfig, *, access: Literal["write", "read"] = "write"):
        policies: Any = ocp.training.preservation_policies  # its protocols do not match its own classes
        keep: list = [policies.LatestN(cfg.keep)]
        if cfg.best:
            keep.append(
                policies.BestN(
                    get_metric_fn=lambda metrics: metrics["best"], n=1, keep_checkpoints_without_metrics=False
                )
            )
        self.cfg = cfg
        self.folder = (Path(run) / "checkpoints").absolute()
        self._pending: Any = None
        self._lock = _lock(Path(run)) if access == "write" else None
        try:
            self._orbax = ocp.training.Checkpointer(
                str(self.folder),
                preservation_policy=policies.AnyPreservationPolicy(keep),
                cleanup_tmp_directories=access == "write",
            )
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot be opened ({error})") from error

    @property
    def steps(self) -> Sequence[int]:
        return [checkpoint.step for checkpoint in self._orbax.checkpoints]

    def best_step(self) -> int | None:
        """The kept step whose metric was highest, or None if none was measured."""
        scored = [(c.metrics["best"], c.step) for c in self._orbax.checkpoints if isinstance(c.metrics, dict)]
        return max(scored)[1] if scored else None

    def save(self, step: int, state: dict, metrics: dict[str, float] | None = None) -> None:
        """Starts writing `state` and returns; the state may be donated at once. A step already there stays."""
        self.wait()
        if step in self.steps:
            return
        best: Any = {"best": metrics[self.cfg.best]} if metrics and self.cfg.best in metrics else None
        # A copy on the device: the next step donates these buffers while the writer still reads them.
        self._pending = self._orbax.save_async(step, jax.tree.map(jax.numpy.copy, state), metrics=best, force=True)

    def wait(self) -> None:
        """Until what `save` started is on disk. Raises CheckpointError if it could not be written."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except Exception as error:
            raise CheckpointError(
                f"{self.folder}: a checkpoint could not be written ({error}); earlier ones are intact"
            ) from error

    def load(self, step: int, abstract: dict) -> dict:
        """The state after `step` steps, placed as `abstract` (ShapeDtypeStructs with shardings) says.

        Raises:
          CheckpointError: the checkpoint is incomplete, or of another model.
        """
        try:
            return self._orbax.load(step, abstract)
        except Exception as error:  # Orbax raises many kinds
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(
                f"{self.folder / str(step)}: cannot be restored, it is incomplete or of another model ({reason}). "
                f"If it is incomplete, remove that folder to go on from an earlier step (there are {self.steps})"
            ) from error

    def load_weights(self, step: int, abstract: dict) -> dict:
        """The parameters to evaluate (averaged ones, if there are) and the batch-norm statistics alone, as {params,
        stats}; what the optimiser keeps, which is twice as large, is not read. Raises as `load`."""
        name = "ema" if "ema" in abstract else "params"
        context = ocp.Context()
        context.pytree.loading.partial_load = True
        with context:
            loaded = self.load(step, {name: abstract[name], "stats": abstract["stats"]})
        return {"params": loaded[name], "stats": loaded["stats"]}

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._orbax.close()
            if self._lock is not None:
                self._lock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def step_of(run: str | Path, step: str) -> int:
    """As `find_step`, of a run. Raises CheckpointError also if there is no such run."""
    with Checkpoints(run, read_config(run).checkpoint, access="read") as checkpoints:
        return find_step(checkpoints, step)


def find_step(checkpoints: Checkpoints, step: str) -> int:
    """The number of a kept step that is "latest", "best" or a number. Raises CheckpointError if there is none."""
    kept = checkpoints.steps
    if not kept:
        raise CheckpointError(f"{checkpoints.folder} holds no finished checkpoint yet")
    if step == "latest":
        return max(kept)
    if step == "best":
        best = checkpoints.best_step()
        if best is None:
            raise CheckpointError(f"{checkpoints.folder}: no kept checkpoint was evaluated; use --step latest")
        return best
    if not step.isdecimal() or int(step) not in kept:
        known = ", ".join(map(str, kept))
        raise CheckpointError(f"{checkpoints.folder}: no step {step}; there are {known}, latest and best")
    return int(step)
