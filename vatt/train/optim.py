"""The optimiser: Adam or AdamW, warm-up and decay, and which parameters each part touches.

A parameter's group follows from the first rule whose pattern its path matches. A parameter that no rule knows is an
error, so that a new layer cannot go unnoticed.
"""

import re
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from vatt.config import Config, OptimConfig

Group = Literal["decay", "no_decay", "frozen"]

RULES: tuple[tuple[str, Group], ...] = (
    (r"tokenizers/text/table", "no_decay"),
    (r".*/positions/.*", "no_decay"),
    (r".*/(bias|scale|agg|relative_bias)", "no_decay"),
    (r".*/kernel", "decay"),
    (r"loss/.*", "no_decay"),
)


def rules(cfg: Config) -> tuple[tuple[str, Group], ...]:
    frozen: tuple[tuple[str, Group], ...] = ((r"tokenizers/text/table", "frozen"),)
    return frozen + RULES if cfg.model.text.table == "frozen" else RULES


def path_of(key_path) -> str:
    return "/".join(str(getattr(key, "key", key)) for key in key_path)


def groups(params, rules: tuple[tuple[str, Group], ...]):
    """The group of every parameter, as a tree of the same shape. Raises ValueError for one that no rule matches."""

    def group(key_path, _) -> Group:
        path = path_of(key_path)
        for pattern, name in rules:
            if re.fullmatch(pattern, path):
                return name
        raise ValueError(f"parameter {path} matches no rule of vatt/train/optim.py; add one")

    return jax.tree_util.tree_map_with_path(group, params)


def schedule(cfg: OptimConfig, steps: int) -> optax.Schedule:
    """Learning rate at each step: linear from 0, then from `learning_rate` to `end_learning_rate` by

    quarter_cosine: end + (start - end) cos(pi/2 p), steepest at the end [paper section 4.1];
    half_cosine: end + (start - end) (1 + cos(pi p)) / 2, flat at the end [released code];
    with p the share of the steps after the warm-up that are done.
    """
    start, end = cfg.learning_rate, cfg.end_learning_rate

    def rate(step):
        warm = start * step / max(cfg.warmup_steps, 1)
        p = jnp.clip((step - cfg.warmup_steps) / max(steps - cfg.warmup_steps, 1), 0, 1)
        share = jnp.cos(jnp.pi / 2 * p) if cfg.decay == "quarter_cosine" else (1 + jnp.cos(jnp.pi * p)) / 2
        return jnp.where(step < cfg.warmup_steps, warm, end + (start - end) * share)

    return rate


def make_optimizer(cfg: Config, params) -> optax.GradientTransformation:
    """The optimiser for `params` (arrays or their shapes). Frozen parameters get no update and no moments."""
    optim = cfg.optim
    labels = groups(params, rules(cfg))
    decayed = jax.tree.map(lambda name: name == "decay", labels)
    adam = optax.chain(
        optax.clip_by_global_norm(optim.clip_norm) if optim.clip_norm else optax.identity(),
        optax.scale_by_adam(b1=optim.b1, b2=optim.b2, eps=optim.eps),
        optax.add_decayed_weights(optim.weight_decay, mask=lambda updates: _like(decayed, updates))
        if optim.name == "adamw"
        else optax.identity(),
        optax.scale_by_learning_rate(schedule(optim, cfg.steps)),
    )
    trained = jax.tree.map(lambda name: "frozen" if name == "frozen" else "trained", labels)
    return optax.partition({"trained": adam, "frozen": optax.set_to_zero()}, trained)


def _like(tree, masked):
    """`tree` with the holes that `masked` has."""
    hole = lambda x: isinstance(x, optax.MaskedNode)  # noqa: E731
    return jax.tree.map(lambda x, value: x if hole(x) else value, masked, tree, is_leaf=hole)
