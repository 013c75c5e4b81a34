"""A fine-tuning run: config -> clips and their classes -> parameters of another run -> the loop -> accuracy."""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from rich.console import Console

from vatt.config import Config, FinetuneConfig
from vatt.data.faults import FAULTS
from vatt.data.items import Source, absolute_path
from vatt.data.labels import ByFolder, Labels, classes_of, labelled, read_names, with_labels, write_names
from vatt.data.pipeline import TrainStream
from vatt.errors import CheckpointError, DataError, VattError, listed
from vatt.evals.classification import Classification
from vatt.evals.finetuned import logits_of
from vatt.evals.pretrained import Pretrained, ready
from vatt.evals.run import classify_source
from vatt.tasks.classify import Classify
from vatt.tasks.pretrain import Pretrain
from vatt.train.checkpoint import has_checkpoint, open_run, read_config, read_names_of, step_of
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
    sources, heldout = open_sources(cfg, console, cfg.classify.modalities)
    sources, heldout = [told(source, console) for source in sources], told(heldout, console) if heldout else None
    names = open_names(cfg, sources)
    classes = tuple(names)
    sources = [usable(source, classes, cfg, console) for source in sources]
    heldout = usable(heldout, classes, cfg, console) if heldout else None
    console.print(f"{len(classes)} classes, {sum(map(len, sources))} clips to train on.")
    open_run(cfg, sources, {"classes.txt": write_names(names)})
    task = Classify(cfg, classes)
    job = Job(
        cfg=cfg,
        task=task,
        mesh=mesh,
        stream=open_stream(cfg, sources, classes),
        first=functools.partial(first, cfg=cfg, names=names, mesh=mesh, console=console),
        measure=measure_on(task, mesh, heldout, console) if heldout else None,
        measured="classification",
    )
    state, result = train(job, console)
    if result is None or heldout is None:
        return None
    assert isinstance(result, Classification)
    measured = {"fine-tuned": result}
    try:
        for name, found in compared(task, names, mesh, state, heldout, console):
            measured[name] = found
    except VattError as error:  # such as that init has gone meanwhile: what was measured before stands
        console.print(f"What the run started from is not measured: {error}", highlight=False)
    except KeyboardInterrupt:
        console.print("Measuring was stopped. The same command measures again.")
    return dict(sorted(measured.items(), key=lambda pair: pair[0] != "zero-shot"))  # in the order of time


def compared(
    task: Classify, names: Mapping[str, str], mesh: Mesh, state: State, heldout: Source, console: Console
) -> Iterator[tuple[str, Classification]]:
    """What stands beside the fine-tuned classifier: zero-shot classification before, and mixtures of the weights of
    both. Raises CheckpointError if cfg.init cannot be read, DataError if the names of the classes say nothing to it."""
    cfg, start = task.cfg, zero_shot_config(task.cfg)
    single = cfg.classify.labels == "single"  # else likeness to a name has no threshold from which a clip has it
    if start is None or not (single or cfg.classify.wise):
        return
    plain = Classify(start, task.classes)
    before = first(make_state(start, plain, mesh), cfg=start, names=names, mesh=mesh, console=None)
    if single:
        yield "zero-shot", measure_on(plain, mesh, heldout, console)(before)
    for share in cfg.classify.wise:
        # What LoRA learned is a product: only once it is added to the weights can they be mixed.
        mixed = {"params": mix(weights(before), task.merged(weights(state)), share), "stats": state["stats"]}
        yield f"{share:g} of fine-tuned", measure_on(task, mesh, heldout, console)(mixed)


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


def usable(source: Source, classes: Sequence[str], cfg: FinetuneConfig, console: Console) -> Source:
    """The clips that the classifier can use (see `labelled`). Says which are left out."""
    found = labelled(source, classes, cfg.classify.labels, cfg.classify.modalities)
    if left_out := found.faults[len(source.faults) :]:
        kinds = Counter(fault.reason for fault in left_out).most_common()
        console.print(
            f"{source.name}: of {len(source)} clips {len(left_out)} are left out. "
            f"{'; '.join(f'{count} x {FAULTS[kind].says}' for kind, count in kinds)}:\n"
            + listed([fault.id for fault in left_out]),
            highlight=False,
        )
    return found


def open_names(cfg: FinetuneConfig, sources: Sequence[Source]) -> dict[str, str]:
    """The classes, and what they are called: those of the run's checkpoints, else of the file that the config names,
    else the labels of the training clips."""
    if has_checkpoint(cfg.run):
        return read_names_of(cfg.run)
    return read_names(cfg.classify.classes) if cfg.classify.classes else {name: name for name in classes_of(sources)}


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


def first(state: State, *, cfg: FinetuneConfig, names: Mapping[str, str], mesh: Mesh, console: Console | None) -> State:
    """What training starts from: `state`, with what fits of the parameters of cfg.init. Says what was taken.

    names: of the classes, in words."""
    if not cfg.init:
        return state
    found = read_weights(cfg.init, cfg.init_step, mesh)
    state, origins = start_from(state, found, cfg, tuple(names))
    if console:
        console.print(table(origins, cfg.init), highlight=False)
    if cfg.classify.head != "text":
        return state
    if not isinstance(found.task, Pretrain):
        raise CheckpointError(f"{cfg.init}: is a fine-tuned classifier; classify.head text needs a pretraining run")
    return name_classes(state, ready(cfg.init, found, mesh), cfg, names)


def name_classes(state: State, model: Pretrained, cfg: FinetuneConfig, names: Mapping[str, str]) -> State:
    """The state whose classes have the embeddings that the model gives their names, put into classify.template.

    Raises:
      DataError: it knows no word of a name.
    """
    for label, name in names.items():
        if trouble := model.unreadable(name):
            raise DataError(
                f"class {label!r}: {trouble}. Say what the classes are in words: --classify.classes FILE, with a line "
                "CLASS<tab>NAME for each"
            )
    kernel = model.embed_text([cfg.classify.template.format(name) for name in names.values()]).T  # [E C]
    scale = -math.log(model.temperature())
    for params in [state["params"]] + ([state["ema"]] if "ema" in state else []):
        layer = params["classifier"]
        layer["kernel"] = jax.device_put(kernel, layer["kernel"].sharding)
        layer["log_scale"] = jax.device_put(jnp.float32(scale), layer["log_scale"].sharding)
    return state


def zero_shot_config(cfg: FinetuneConfig) -> FinetuneConfig | None:
    """The classifier by likeness to the classes' names that the run started as, or could have; None if there is none.

    It is what `classify.head text` starts as: one template, classify.template, and the mean of a clip's cosines over
    its views. `vatt.evals.zeroshot.zero_shot_accuracy` asks with several templates and takes the mean of embeddings, so
    that its numbers differ somewhat."""
    if not cfg.init or "video" not in cfg.classify.modalities or not isinstance(read_config(cfg.init), Config):
        return None
    plain = dataclasses.replace(cfg.classify, head="text", modalities=("video",), lora_rank=0)
    return dataclasses.replace(cfg, classify=plain)


def measure_on(task: Classify, mesh: Mesh, heldout: Source, console: Console) -> Callable[[State], Classification]:
    """Evaluates a state on every clip of `heldout` that can be decoded."""

    def measure(state: State) -> Classification:
        logits = logits_of(task, mesh, weights(state), state["stats"])
        return classify_source(task.cfg, heldout, task.classes, logits, console)

    return measure


def mix(before: dict, after: dict, share: float) -> dict:
    """`share` of the weights after, the rest of those before (WiSE-FT, Wortsman et al. 2022)."""
    return jax.tree.map(lambda x, y: (1 - share) * x + share * y, before, after)
