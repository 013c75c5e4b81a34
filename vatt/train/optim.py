"""The optimiser: Adam, AdamW or SGD, warm-up and decay, and which parameters each part touches.

A parameter's group follows from the first rule whose pattern its path matches. A parameter that no rule knows is an
error, so that a new layer cannot go unnoticed.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vatt.config import FinetuneConfig, OptimConfig, RunConfig
from vatt.errors import ConfigError

Group = Literal["decay", "no_decay", "frozen"]

RULES: tuple[tuple[str, Group], ...] = (
    (r"tokenizers/text/table", "no_decay"),
    (r".*/positions/.*", "no_decay"),
    (r".*/(bias|scale|agg|relative_bias)", "no_decay"),
    (r".*/kernel", "decay"),
    (r"(loss|lora)/.*", "no_decay"),
    (r"classifier/log_scale", "no_decay"),
)


def rules(cfg: RunConfig) -> tuple[tuple[str, Group], ...]:
    frozen = list(cfg.optim.freeze)
    if cfg.model.text.table == "frozen":
        frozen.append(r"tokenizers/text/table")
    if isinstance(cfg, FinetuneConfig) and cfg.classify.lora_rank:
        frozen.append(r"(tokenizers|encoders|post|heads)/.*")
    return *((pattern, "frozen") for pattern in frozen), *RULES


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


def make_optimizer(cfg: RunConfig, params) -> optax.GradientTransformation:
    """The optimiser for `params` (arrays or their shapes). Frozen parameters get no update and no moments.

    Raises:
      ConfigError: a pattern of optim.freeze that matches no parameter.
    """
    optim = cfg.optim
    check_patterns(optim.freeze, params)
    labels = groups(params, rules(cfg))
    decayed = jax.tree.map(lambda name: name == "decay", labels)
    chain = [
        clipping(optim),
        optax.trace(decay=optim.momentum)
        if optim.name == "sgd"
        else optax.scale_by_adam(b1=optim.b1, b2=optim.b2, eps=optim.eps),
        optax.add_decayed_weights(optim.weight_decay, mask=lambda updates: _like(decayed, updates))
        if optim.name == "adamw"
        else optax.identity(),
        optax.scale_by_learning_rate(schedule(optim, cfg.steps)),
    ]
    if optim.layer_decay < 1:
        scales = layer_scales(cfg, params)
        chain.append(optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, _like(scales, updates))))
    trained = jax.tree.map(lambda name: "frozen" if name == "frozen" else "trained", labels)
    return optax.partition({"trained": optax.chain(*chain), "frozen": optax.set_to_zero()}, trained)


def clipping(cfg: OptimConfig) -> optax.GradientTransformation:
    """What is clipped shrinks alike, to a global norm of at most `clip_norm`; the classifier, if it is not, keeps its
    gradient, and does not count."""
    if not cfg.clip_norm:
        return optax.identity()
    clip = optax.clip_by_global_norm(cfg.clip_norm)
    if cfg.clip == "all":
        return clip

    def towers(updates):
        return jax.tree_util.tree_map_with_path(lambda path, _: not path_of(path).startswith("classifier/"), updates)

    return optax.masked(clip, towers)


def check_patterns(patterns: Sequence[str], params) -> None:
    """Raises ConfigError for a pattern that matches no parameter."""
    paths = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        if not any(re.fullmatch(pattern, path) for path in paths):
            near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.3) or paths[:3]
            raise ConfigError(
                f"optim.freeze {pattern!r} matches no parameter; it must match the whole of a path such as "
                f"{', '.join(near)}"
            )


def layer_scales(cfg: RunConfig, params):
    """What layer-wise decay makes of every parameter's learning rate (BEiT, Bao et al. 2021): layer i of N (from 1)
    learns at decay^(N + 1 - i) times the rate, tokenizers below them at decay^(N + 1), and what lies above the layers
    at the whole of it. Numbers, but [N 1 ...] for the stacked layers of an encoder."""

    def scale(key_path, x):
        path = path_of(key_path).removeprefix("lora/")
        room, _, rest = path.partition("/")
        if room not in ("tokenizers", "encoders"):
            return 1.0
        modality = rest.partition("/")[0]
        depth = getattr(cfg.model, "video" if modality == "shared" else modality).encoder.depth
        if room == "tokenizers":
            return cfg.optim.layer_decay ** (depth + 1)
        if "/blocks/" not in path:
            return 1.0
        steps = np.arange(depth, 0, -1).reshape(-1, *[1] * (len(x.shape) - 1))
        return jnp.asarray(cfg.optim.layer_decay**steps, jnp.float32)

    return jax.tree_util.tree_map_with_path(scale, params)


def _like(tree, masked):
    """`tree` with the holes that `masked` has."""
    hole = lambda x: isinstance(x, optax.MaskedNode)  # noqa: E731
    return jax.tree.map(lambda x, value: x if hole(x) else value, masked, tree, is_leaf=hole)
