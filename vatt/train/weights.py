"""The weights of a run of any kind, read from its folder."""

from dataclasses import dataclass
from pathlib import Path

from jax.sharding import Mesh

from vatt.config import Config, FinetuneConfig
from vatt.tasks.classify import Classify
from vatt.tasks.pretrain import Pretrain
from vatt.train.checkpoint import Checkpoints, find_step, read_classes_of, read_config
from vatt.train.step import abstract_state


@dataclass(frozen=True, eq=False)
class Weights:
    """params: averaged, if the run averages; stats: of batch norm; task: what they are the weights of."""

    task: Pretrain | Classify
    step: int
    params: dict
    stats: dict


def read_weights(run: str | Path, step: str | int, mesh: Mesh) -> Weights:
    """The weights of a run at "latest", "best" or a number of steps, laid out on `mesh`.

    Raises:
      CheckpointError: no such run or checkpoint, or one that cannot be restored.
    """
    task = task_of(run)
    with Checkpoints(run, task.cfg.checkpoint, access="read") as checkpoints:
        number = find_step(checkpoints, str(step))
        state = checkpoints.load_weights(number, abstract_state(task.cfg, task, mesh))
    return Weights(task, number, state["params"], state["stats"])


def task_of(run: str | Path) -> Pretrain | Classify:
    """What a run trains. Raises CheckpointError if there is no such run."""
    cfg = read_config(run)
    if isinstance(cfg, Config):
        return Pretrain(cfg)
    assert isinstance(cfg, FinetuneConfig)
    return Classify(cfg, read_classes_of(run))
