"""A fine-tuned classifier, ready to score clips."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh

from vatt import sharding
from vatt.config import MeshConfig
from vatt.errors import CheckpointError
from vatt.evals.embedding import ByRows
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


def logits_of(task: Classify, mesh: Mesh, params: dict, stats: dict) -> ByRows:
    """Clips to logits, by fixed weights."""
    return ByRows(functools.partial(_jitted(bare_task(task), mesh), params, stats), mesh)


@functools.cache
def _jitted(task: Classify, mesh: Mesh) -> Callable:
    def run(params: dict, stats: dict, arrays: dict) -> dict:
        return {"logits": task.logits(params, stats, arrays)}

    return jax.jit(run, out_shardings=sharding.replicated(mesh))
