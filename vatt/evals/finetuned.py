"""A fine-tuned classifier, ready to score clips."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh

from vatt import sharding
from vatt.config import FinetuneConfig, MeshConfig
from vatt.errors import CheckpointError
from vatt.evals.embedding import ByRows
from vatt.tasks.classify import Classify
from vatt.train.checkpoint import Checkpoints, find_step, read_classes_of, read_config
from vatt.train.step import abstract_state


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
    cfg = read_config(run)
    if not isinstance(cfg, FinetuneConfig):
        raise CheckpointError(f"{run}: is a pretraining run; give one of vatt finetune")
    mesh, task = sharding.make_mesh(MeshConfig()), Classify(cfg, read_classes_of(run))
    with Checkpoints(run, cfg.checkpoint, access="read") as checkpoints:
        number = find_step(checkpoints, str(step))
        state = checkpoints.load_weights(number, abstract_state(cfg, task, mesh))
    return Finetuned(task, number, logits_of(task, mesh, state["params"], state["stats"]))


def logits_of(task: Classify, mesh: Mesh, params: dict, stats: dict) -> ByRows:
    """Clips to logits, by fixed weights."""
    return ByRows(functools.partial(_jitted(task, mesh), params, stats), mesh)


@functools.cache
def _jitted(task: Classify, mesh: Mesh) -> Callable:
    def run(params: dict, stats: dict, arrays: dict) -> dict:
        return {"logits": task.logits(params, stats, arrays)}

    return jax.jit(run, out_shardings=sharding.replicated(mesh))
