"""A fine-tuned classifier, ready to score clips and files."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from vatt import sharding
from vatt.config import MeshConfig
from vatt.data.items import Item
from vatt.data.labels import Labels
from vatt.data.pipeline import evaluation_batches
from vatt.data.sources import MediaSource, open_file
from vatt.errors import CheckpointError, MediaError
from vatt.evals.classification import averaged
from vatt.evals.embedding import ByRows, check_finite, over_views
from vatt.tasks.classify import Classify
from vatt.train.step import bare_task
from vatt.train.weights import read_weights


@dataclasses.dataclass(frozen=True, eq=False)
class Finetuned:
    """logits: of N clips, as `decode_clip` gives them, {"logits": [N C]}, C in the order of task.classes."""

    task: Classify
    step: int
    logits: ByRows


def load_classifier(run: str | Path, *, step: str | int = "latest") -> Finetuned:
    """The classifier of a fine-tuning run at some step.

    Raises:
      CheckpointError: no such run or checkpoint, or one that cannot be restored.
    """
    mesh = sharding.make_mesh(MeshConfig())
    found = read_weights(run, step, mesh)
    if not isinstance(found.task, Classify):
        raise CheckpointError(f"{run}: is a pretraining run; give one of vatt finetune")
    return Finetuned(found.task, found.step, logits_of(found.task, mesh, found.params, found.stats))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """One file.

    modality: what it was told by, such as "video" or "video and audio".
    windows: over how many the scores are averaged.
    probabilities: class -> probability, the likeliest first. With one class a file they sum to 1; with any number each
      stands for itself.
    """

    path: str
    modality: str
    windows: int
    probabilities: dict[str, float]


def classify_files(model: Finetuned, paths: Sequence[str | os.PathLike]) -> Iterator[Named | MediaError]:
    """Files by the classes that the model was trained on, each seen through as many windows and crops as its run's
    cfg.evaluate says.

    Yields: a result a file, or why it has none.

    Raises:
      NonFiniteError: a logit is NaN or infinite.
    """
    cfg = model.task.cfg
    for path in paths:
        try:
            item = open_file(path, cfg.clip.needed)
            yield _named(model, item, next(over_views(model.logits, _views(model, item))))
        except MediaError as error:
            yield error


def _views(model: Finetuned, item: Item) -> Iterator[dict]:
    cfg = model.task.cfg
    return evaluation_batches(
        MediaSource(item.id, [item], []),
        clip=cfg.clip,
        canvas=cfg.canvas,
        tokenizer=None,
        labels=Labels(model.task.classes, cfg.classify.modalities),
        windows=cfg.evaluate.windows,
        crops=cfg.evaluate.crops,
        batch_size=1,
        workers=1,
    )


def _named(model: Finetuned, item: Item, seen: dict) -> Named:
    cfg, how = model.task.cfg, model.task.cfg.classify
    check_finite({"logits": seen["logits"]}, [item.id])
    scores = averaged(seen["logits"], labels=how.labels, average=how.average)
    if how.average == "logits":
        scores = averaged(scores[:, None], labels=how.labels, average="probabilities")
    order = [int(i) for i in np.argsort(-scores[0], kind="stable")]
    return Named(
        path=item.id,
        modality=" and ".join(name for name in how.modalities if seen[f"{name}_mask"][0]),
        windows=cfg.evaluate.windows,
        probabilities={model.task.classes[i]: float(scores[0, i]) for i in order},
    )


def logits_of(task: Classify, mesh: Mesh, params: dict, stats: dict) -> ByRows:
    """Clips to logits, by fixed weights."""
    return ByRows(functools.partial(_jitted(bare_task(task), mesh), params, stats), mesh)


@functools.cache
def _jitted(task: Classify, mesh: Mesh) -> Callable:
    def run(params: dict, stats: dict, arrays: dict) -> dict:
        return {"logits": task.logits(params, stats, arrays)}

    return jax.jit(run, out_shardings=sharding.replicated(mesh))
