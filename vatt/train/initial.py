"""What a fine-tuning run starts from: the parameters of another run, as far as they fit, and a table that says so."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np
from jax.sharding import Mesh
from rich import box
from rich.table import Table

from vatt.config import Config, FinetuneConfig
from vatt.errors import CheckpointError
from vatt.tasks.classify import Classify
from vatt.tasks.pretrain import Pretrain
from vatt.train.checkpoint import Checkpoints, find_step, read_classes_of, read_config
from vatt.train.optim import path_of
from vatt.train.step import State, abstract_state


@dataclass(frozen=True)
class Origin:
    """Where a parameter comes from."""

    path: str
    how: Literal["loaded", "resized", "fresh"]
    why: str = ""


def read_weights(run: str, step: str, mesh: Mesh) -> tuple[dict, dict, int]:
    """Parameters (averaged, if the run averages) and batch-norm statistics of a run of any kind, and their step.

    Raises:
      CheckpointError: no such run or checkpoint, or one that cannot be restored.
    """
    cfg = read_config(run)
    task = Pretrain(cfg) if isinstance(cfg, Config) else _classify(run, cfg)
    with Checkpoints(run, cfg.checkpoint, access="read") as checkpoints:
        number = find_step(checkpoints, step)
        state = checkpoints.load_weights(number, abstract_state(cfg, task, mesh))
    return state["params"], state["stats"], number


def _classify(run: str, cfg) -> Classify:
    assert isinstance(cfg, FinetuneConfig)
    return Classify(cfg, read_classes_of(run))


def start_from(state: State, cfg: FinetuneConfig, classes: tuple[str, ...], mesh: Mesh) -> tuple[State, list[Origin]]:
    """The fresh `state` with the parameters of `cfg.init` where they fit, and the origin of each.

    A table of positions of another length is resampled bicubically. The layer of classes is taken only from a run with
    the same classes in the same order.

    Raises:
      CheckpointError: no such run; or nothing of it fits.
    """
    params, stats, _ = read_weights(cfg.init, "latest", mesh)
    before = read_config(cfg.init)
    if isinstance(before, FinetuneConfig) and read_classes_of(cfg.init) != classes:
        params = {name: value for name, value in params.items() if name != "classifier"}
    old = _flat(params)
    origins: list[Origin] = []

    def choose(key_path, fresh: jax.Array) -> jax.Array:
        path = path_of(key_path)
        found = old.get(path)
        if found is None:
            origins.append(Origin(path, "fresh", f"not in {cfg.init}"))
        elif found.shape == fresh.shape:
            origins.append(Origin(path, "loaded"))
            return jax.device_put(np.asarray(found), fresh.sharding)
        elif "/positions/tables/" in path and found.shape[1] == fresh.shape[1]:
            origins.append(Origin(path, "resized", f"{found.shape[0]} -> {fresh.shape[0]}"))
            return jax.device_put(jax.image.resize(np.asarray(found), fresh.shape, "cubic"), fresh.sharding)
        else:
            origins.append(Origin(path, "fresh", f"{found.shape} there, {fresh.shape} here"))
        return fresh

    new = jax.tree_util.tree_map_with_path(choose, state["params"])
    if not any(origin.how != "fresh" for origin in origins):
        raise CheckpointError(f"{cfg.init}: none of its parameters fits the model of this run; see model and clip")
    state = state | {"params": new}
    if "ema" in state:
        state["ema"] = jax.tree.map(lambda x: jax.device_put(np.asarray(x), x.sharding), new)
    kept = _flat(stats)
    state["stats"] = jax.tree_util.tree_map_with_path(
        lambda key_path, x: jax.device_put(np.asarray(kept.get(path_of(key_path), x)), x.sharding), state["stats"]
    )
    return state, origins


def table(origins: list[Origin], init: str) -> Table:
    """How many parameters of each part were loaded, resized and are fresh, and why."""
    out = Table(title=f"what was taken from {init}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("part", "loaded", "resized", "fresh", ""):
        out.add_column(name, justify="right" if name in ("loaded", "resized", "fresh") else "left")
    parts: dict[str, list[Origin]] = {}
    for origin in origins:
        parts.setdefault("/".join(origin.path.split("/")[:2]), []).append(origin)
    for part, some in parts.items():
        counts = Counter(origin.how for origin in some)
        whys = dict.fromkeys(f"{origin.path.removeprefix(part + '/')}: {origin.why}" for origin in some if origin.why)
        every = [f"not in {init}"] if all(o.why == f"not in {init}" for o in some) else list(whys)
        why = "; ".join(every[:3]) + (f"; and {len(every) - 3} more" if len(every) > 3 else "")
        out.add_row(part, *(str(counts[how]) if counts[how] else "" for how in ("loaded", "resized", "fresh")), why)
    return out


def _flat(tree: dict) -> dict[str, jax.Array]:
    return {path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
