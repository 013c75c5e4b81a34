"""What a fine-tuning run starts from: the parameters of another run, as far as they fit, and a table that says so."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np
from rich import box
from rich.table import Table

from vatt.config import FinetuneConfig
from vatt.errors import CheckpointError
from vatt.tasks.classify import Classify
from vatt.train.optim import path_of
from vatt.train.step import State
from vatt.train.weights import Weights


@dataclass(frozen=True)
class Origin:
    """Where a parameter comes from."""

    path: str
    how: Literal["loaded", "resized", "fresh"]
    why: str = ""


def start_from(
    state: State, found: Weights, cfg: FinetuneConfig, classes: tuple[str, ...]
) -> tuple[State, list[Origin]]:
    """The fresh `state` with the parameters `found` in cfg.init where they fit, and the origin of each.

    A table of positions of another length is resampled bicubically. The layer of classes is taken only from a run with
    the same classes in the same order.

    Raises:
      CheckpointError: nothing of it fits.
    """
    old = _flat(found.params)
    if isinstance(found.task, Classify) and found.task.classes != classes:
        old = {path: value for path, value in old.items() if not path.startswith("classifier/")}
    origins: list[Origin] = []

    def choose(key_path, fresh: jax.Array) -> jax.Array:
        path = path_of(key_path)
        there = old.get(path)
        if there is None:
            origins.append(Origin(path, "fresh", f"not in {cfg.init}"))
        elif there.shape == fresh.shape:
            origins.append(Origin(path, "loaded"))
            return jax.device_put(np.asarray(there), fresh.sharding)
        elif "/positions/tables/" in path and there.shape[1] == fresh.shape[1]:
            origins.append(Origin(path, "resized", f"{there.shape[0]} -> {fresh.shape[0]}"))
            return jax.device_put(jax.image.resize(np.asarray(there), fresh.shape, "cubic"), fresh.sharding)
        else:
            origins.append(Origin(path, "fresh", f"{there.shape} there, {fresh.shape} here"))
        return fresh

    new = jax.tree_util.tree_map_with_path(choose, state["params"])
    if not any(origin.how != "fresh" for origin in origins):
        raise CheckpointError(f"{cfg.init}: none of its parameters fits the model of this run; see model and clip")
    state = state | {"params": new}
    if "ema" in state:
        state["ema"] = jax.tree.map(lambda x: jax.device_put(np.asarray(x), x.sharding), new)
    kept = _flat(found.stats)
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
