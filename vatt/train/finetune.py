"""A fine-tuning run: config -> clips and their classes -> parameters of another run -> the loop -> accuracy."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from rich.console import Console

from vatt.config import Config, FinetuneConfig
from vatt.data.items import Source, absolute_path
from vatt.data.labels import ByFolder, Labels, classes_of, labelled, read_classes, with_labels
from vatt.data.pipeline import TrainStream
from vatt.data.text import UNKNOWN
from vatt.errors import CheckpointError, DataError
from vatt.evals.classification import Classification
from vatt.evals.finetuned import logits_of
from vatt.evals.pretrained import Pretrained, ready
from vatt.evals.run import classify_source
from vatt.tasks.classify import Classify
from vatt.tasks.pretrain import Pretrain
from vatt.train.checkpoint import has_checkpoint, open_run, read_classes_of, read_config, step_of
from vatt.train.initial import start_from, table
from vatt.train.loop import Job, begin, open_sources, train, with_absolute_sources
from vatt.train.step import State, make_state, weights
from vatt.train.weights import read_weights

Measured = dict[str, Classification]  # by what was measured: "fine-tuned", "zero-shot", "0.5 of fine-tuned"


def finetune(cfg: FinetuneConfig, console: Console) -> Measured | None:
    """Runs or continues a fine-tuning run.

    Returns:
      What was measured at its end: the fine-tuned classifier; where the run started from a pretraining run and has one
      label a clip, zero-shot classification by it before; and mixtures of their weights, if asked for. None if it was
      interrupted, or there are no held-out clips.

    Raises:
      ConfigError, DataError, CheckpointError: what the user can mend, before the first step where possible.
      NonFiniteError: the loss was NaN or infinite; names the step and its clips.
    """
    cfg = with_absolute_sources(cfg)
    cfg = dataclasses.replace(cfg, init=absolute_path(cfg.init) if cfg.init else "")
    mesh = begin(cfg, console)
    cfg = pinned(cfg)  # if init is no run, that is said before media are opened
    sources, heldout = open_sources(cfg, console)
    sources, heldout = [told(source, console) for source in sources], told(heldout, console) if heldout else None
    classes = open_classes(cfg, sources)
    sources = [labelled(source, classes, cfg.classify.labels) for source in sources]
    heldout = labelled(heldout, classes, cfg.classify.labels) if heldout else None
    console.print(f"{len(classes)} classes, {sum(map(len, sources))} clips to train on.")
    open_run(cfg, sources, {"classes.txt": "".join(f"{name}\n" for name in classes)})
    task = Classify(cfg, classes)
    job = Job(
        cfg=cfg,
        task=task,
        mesh=mesh,
        stream=open_stream(cfg, sources, classes),
        first=functools.partial(first, cfg=cfg, classes=classes, mesh=mesh, console=console),
        measure=measure_on(task, mesh, heldout, console) if heldout else None,
        measured="classification",
    )
    state, result = train(job, console)
    if result is None or heldout is None:
        return None
    assert isinstance(result, Classification)
    measured = {"fine-tuned": result}
    if cfg.classify.wise:
        before = first(make_state(cfg, task, mesh), cfg=cfg, classes=classes, mesh=mesh, console=None)
        for share in cfg.classify.wise:
            mixed = {name: mix(before[name], state[name], share) for name in ("params", "ema") if name in state}
            measured[f"{share:g} of fine-tuned"] = measure_on(task, mesh, heldout, console)(state | mixed)
    zero_shot = measure_zero_shot(cfg, classes, mesh, heldout, console)
    return ({"zero-shot": zero_shot} if zero_shot else {}) | measured


def pinned(cfg: FinetuneConfig) -> FinetuneConfig:
    """The configuration with the number of the checkpoint that the run started, or now starts, from: the other run may
    be trained on.

    Raises:
      CheckpointError: cfg.init is no run, or has no such checkpoint.
    """
    if not cfg.init:
        return cfg
    if not has_checkpoint(cfg.run):
        return dataclasses.replace(cfg, init_step=str(step_of(cfg.init, cfg.init_step)))
    before = read_config(cfg.run)
    if isinstance(before, FinetuneConfig) and not cfg.init_step.isdecimal():
        return dataclasses.replace(cfg, init_step=before.init_step)
    return cfg


def told(source: Source, console: Console) -> Source:
    """The source with labels, and a word where they are the names of folders."""
    source = with_labels(source)
    if isinstance(source, ByFolder):
        console.print(f"{source.name}: labels are the names of the folders that clips lie in.", highlight=False)
    return source


def open_classes(cfg: FinetuneConfig, sources: Sequence[Source]) -> tuple[str, ...]:
    """Those of the run's checkpoints, else of the file that the config names, else the labels of the training clips."""
    if has_checkpoint(cfg.run):
        return read_classes_of(cfg.run)
    return read_classes(cfg.classify.classes) if cfg.classify.classes else classes_of(sources)


def open_stream(cfg: FinetuneConfig, sources: Sequence[Source], classes: tuple[str, ...]) -> TrainStream:
    return TrainStream(
        sources,
        clip=cfg.clip,
        augment=cfg.augment,
        canvas=cfg.canvas,
        tokenizer=None,
        labels=Labels(classes, cfg.classify.modalities),
        batch_size=cfg.batch_size,
        seed=cfg.seed,
        weights=cfg.data.weights,
        workers=cfg.data.workers,
        worker_kind=cfg.data.worker_kind,
    )


def first(state: State, *, cfg: FinetuneConfig, classes: tuple[str, ...], mesh: Mesh, console: Console | None) -> State:
    """What training starts from: `state`, with what fits of the parameters of cfg.init. Says what was taken."""
    if not cfg.init:
        return state
    found = read_weights(cfg.init, cfg.init_step, mesh)
    state, origins = start_from(state, found, cfg, classes)
    if console:
        console.print(table(origins, cfg.init), highlight=False)
    if cfg.classify.head != "text":
        return state
    if not isinstance(found.task, Pretrain):
        raise CheckpointError(f"{cfg.init}: is a fine-tuned classifier; classify.head text needs a pretraining run")
    return name_classes(state, ready(cfg.init, found, mesh), cfg, classes)


def name_classes(state: State, model: Pretrained, cfg: FinetuneConfig, classes: tuple[str, ...]) -> State:
    """The state whose classes have the embeddings that the model gives their names.

    Raises:
      DataError: a name has no word that it knows.
    """
    captions = [cfg.classify.template.format(name) for name in classes]
    for name in classes:
        if (model.tokenizer.encode(name, cfg.clip.words) <= UNKNOWN).all():
            raise DataError(f"class {name!r}: {cfg.init} knows none of its words, so that its name says nothing")
    kernel = model.embed_text(captions).T  # [E C]
    learned = model.params.get("loss", {}).get("video_text", {})
    scale = float(learned["log_scale"]) if "log_scale" in learned else -math.log(model.cfg.loss.temperature)
    for params in [state["params"]] + ([state["ema"]] if "ema" in state else []):
        layer = params["classifier"]
        layer["kernel"] = jax.device_put(kernel, layer["kernel"].sharding)
        layer["log_scale"] = jax.device_put(jnp.float32(scale), layer["log_scale"].sharding)
    return state


def measure_zero_shot(
    cfg: FinetuneConfig, classes: tuple[str, ...], mesh: Mesh, heldout: Source, console: Console
) -> Classification | None:
    """Classification of the held-out clips by likeness to the classes' names, before any fine-tuning; None where there
    is no such thing."""
    if not cfg.init or cfg.classify.labels != "single" or "video" not in cfg.classify.modalities:
        return None
    if not isinstance(read_config(cfg.init), Config):
        return None
    plain = dataclasses.replace(cfg.classify, head="text", modalities=("video",), lora_rank=0)
    cfg = dataclasses.replace(cfg, classify=plain)
    task = Classify(cfg, classes)
    try:
        state = first(make_state(cfg, task, mesh), cfg=cfg, classes=classes, mesh=mesh, console=None)
    except (CheckpointError, DataError) as error:
        console.print(f"Zero-shot classification is not measured: {error}", highlight=False)
        return None
    return measure_on(task, mesh, heldout, console)(state)


def measure_on(task: Classify, mesh: Mesh, heldout: Source, console: Console) -> Callable[[State], Classification]:
    """Evaluates a state on every clip of `heldout` that can be decoded."""

    def measure(state: State) -> Classification:
        logits = logits_of(task, mesh, weights(state), state["stats"])
        return classify_source(task.cfg, heldout, task.classes, logits, console)

    return measure


def mix(before: dict, after: dict, share: float) -> dict:
    """`share` of the weights after, the rest of those before (WiSE-FT, Wortsman et al. 2022)."""
    return jax.tree.map(lambda x, y: (1 - share) * x + share * y, before, after)
