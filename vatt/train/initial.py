"""What a fine-tuning run starts from: the parameters of another run, as far as they fit, and a table that says so."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np
from rich import box
from rich.table import Table

from vatt.config import MODALITIES, FinetuneConfig
from vatt.errors import CheckpointError
from vatt.tasks.classify import Classify
from vatt.train.checkpoint import fields_of
from vatt.train.optim import path_of
from vatt.train.step import State
from vatt.train.weights import Weights

# What of a model may differ though its parameters are the same.
UNSHAPED = ("keep", "dropout", "dtype", "remat", "layers")


@dataclass(frozen=True)
class Origin:
    """Where a parameter comes from; or, unused, that it stays where it is, in the other run."""

    path: str
    how: Literal["loaded", "resized", "fresh", "unused"]
    why: str = ""


def start_from(
    state: State, found: Weights, cfg: FinetuneConfig, classes: tuple[str, ...]
) -> tuple[State, list[Origin]]:
    """The fresh `state` with the parameters `found` in cfg.init where they fit, and the origin of each.

    A table of positions of another length is resampled bicubically. The layer of classes is taken only from a run with
    the same classes in the same order. What LoRA learned is taken as it is by a run with the same, and else added to
    the matrices that it belongs to.

    Raises:
      CheckpointError: nothing of it fits an encoder that it has.
    """
    params = found.params
    if isinstance(found.task, Classify) and _lora(found.task.cfg) != _lora(cfg):
        params = found.task.merged(params)
    there_is = _flat(params)
    old = there_is
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
    _check_encoders(origins, found, cfg)
    taken = {origin.path for origin in origins if origin.how != "fresh"}
    origins += [Origin(path, "unused") for path in there_is if path not in taken]
    state = state | {"params": new}
    if "ema" in state:
        state["ema"] = jax.tree.map(lambda x: jax.device_put(np.asarray(x), x.sharding), new)
    kept = _flat(found.stats)
    state["stats"] = jax.tree_util.tree_map_with_path(
        lambda key_path, x: jax.device_put(np.asarray(kept.get(path_of(key_path), x)), x.sharding), state["stats"]
    )
    return state, origins


def _lora(cfg: FinetuneConfig) -> tuple[int, float]:
    return cfg.classify.lora_rank, cfg.classify.lora_alpha if cfg.classify.lora_rank else 0.0


def _check_encoders(origins: list[Origin], found: Weights, cfg: FinetuneConfig) -> None:
    """Raises CheckpointError if an encoder would be fresh, or a mixture of both, though the other run has one for its
    modality: training would go on as if from scratch."""
    there = found.task.cfg.classify.modalities if isinstance(found.task, Classify) else MODALITIES
    fits: dict[str, bool] = {}
    for origin in origins:
        room, name, *_ = origin.path.split("/")
        if room == "encoders":
            fits[name] = fits.get(name, True) and origin.how != "fresh"
    lost = [name for name, fit in fits.items() if not fit]
    if len(lost) == len(fits) or any(name in there or name == "shared" for name in lost):
        where = " and ".join(f"encoders/{name}" for name in lost)
        raise CheckpointError(
            f"{cfg.init}: its parameters do not fit {where}, as its model is another. To fine-tune it, give this run "
            f"its model: {model_options(found, cfg) or 'see model and clip'}"
        )


def model_options(found: Weights, cfg: FinetuneConfig) -> str:
    """The options that make the model of `cfg` that of the other run, as far as its encoders go."""
    parts = ["backbone", "projections", *cfg.classify.modalities]
    if found.task.cfg.model.backbone == "agnostic":  # which asks the same encoder of all
        parts += ["video.encoder", "audio.encoder", "text.encoder", "text.positions"]
    here, there = fields_of(cfg.model), fields_of(found.task.cfg.model)
    return " ".join(
        f"--model.{name.replace('_', '-')} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in there.items()
        if value != here[name]
        and name.split(".")[-1] not in UNSHAPED
        and any(f"{name}.".startswith(f"{part}.") for part in parts)
    )


def table(origins: list[Origin], init: str) -> Table:
    """How many parameters of each part were loaded, resized and are fresh, and why; and what was not used."""
    out = Table(title=f"what was taken from {init}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("part", "loaded", "resized", "fresh", ""):
        out.add_column(name, justify="right" if name in ("loaded", "resized", "fresh") else "left")
    parts: dict[str, list[Origin]] = {}
    for origin in origins:
        if origin.how != "unused":
            parts.setdefault("/".join(origin.path.split("/")[:2]), []).append(origin)
    for part, some in parts.items():
        counts = Counter(origin.how for origin in some)
        whys = dict.fromkeys(f"{origin.path.removeprefix(part + '/')}: {origin.why}" for origin in some if origin.why)
        every = [f"not in {init}"] if all(o.why == f"not in {init}" for o in some) else list(whys)
        why = "; ".join(every[:3]) + (f"; and {len(every) - 3} more" if len(every) > 3 else "")
        out.add_row(part, *(str(counts[how]) if counts[how] else "" for how in ("loaded", "resized", "fresh")), why)
    unused = Counter("/".join(origin.path.split("/")[:2]) for origin in origins if origin.how == "unused")
    if unused:
        out.caption = f"not used of {init}: {', '.join(f'{count} of {part}' for part, count in unused.items())}"
    return out


def _flat(tree: dict) -> dict[str, jax.Array]:
    return {path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
