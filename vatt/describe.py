"""What a configuration amounts to: parameters, tokens and forward FLOPs of each modality."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from rich.table import Table

from vatt.config import MODALITIES, Config, FinetuneConfig, Modality, RunConfig, kept_tokens
from vatt.models import functional, vatt
from vatt.models.cost import flops
from vatt.models.tokenizers import audio_grid, video_grid
from vatt.train.optim import groups, rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One row: a modality's tower, or what towers share."""

    trained: int  # parameters
    frozen: int = 0  # parameters that are not trained
    tokens: int = 0  # a clip, [AGG] not counted
    kept: int = 0  # of those, after DropToken
    flops: int = 0  # forward, a clip, in training
    flops_full: int = 0  # forward, a clip, without DropToken


def describe(cfg: RunConfig) -> dict[str, Part]:
    """A `Part` for video, audio and text, for the shared encoder if there is one, and for the heads; the FLOPs of a
    modality are those of its tower and heads. Of a fine-tuning run its towers alone: how many classes there are, its
    clips tell. Makes no parameters."""
    params, _ = _shapes(cfg)
    labels = groups(params, rules(cfg))

    def size(tree, labels, frozen: bool) -> int:
        pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(labels), strict=True)
        return sum(math.prod(x.shape) for x, label in pairs if (label == "frozen") == frozen)

    counts = token_counts(cfg)
    train, full = forward_flops(cfg, train=True), forward_flops(cfg, train=False)
    parts = {}
    for m in modalities(cfg):
        mine = {name: _of_modality(tree, m) for name, tree in (("params", params), ("labels", labels))}
        before, after = counts[m]
        parts[m] = Part(
            trained=size(mine["params"], mine["labels"], False),
            frozen=size(mine["params"], mine["labels"], True),
            tokens=before,
            kept=after,
            flops=train[m],
            flops_full=full[m],
        )
    if "shared" in params["encoders"]:
        shared, its_labels = params["encoders"]["shared"], labels["encoders"]["shared"]
        parts["shared encoder"] = Part(trained=size(shared, its_labels, False))
    if isinstance(cfg, Config):
        parts["heads"] = Part(trained=size(params["heads"], labels["heads"], False))
    return parts


def modalities(cfg: RunConfig) -> tuple[Modality, ...]:
    """Those that have a tower."""
    return cfg.classify.modalities if isinstance(cfg, FinetuneConfig) else MODALITIES


def _of_modality(params: dict, modality: str) -> dict:
    return {name: params[name].get(modality, {}) for name in ("tokenizers", "encoders", "post") if name in params}


def token_counts(cfg: RunConfig) -> dict[str, tuple[int, int]]:
    """Tokens of a clip before and after DropToken, by modality; [AGG] is not counted."""
    model, clip = cfg.model, cfg.clip
    video, audio = math.prod(video_grid(model, clip).values()), math.prod(audio_grid(model, clip).values())
    words = clip.candidates * clip.words
    return {
        "video": (video, kept_tokens(video, model.video.keep)),
        "audio": (audio, kept_tokens(audio, model.audio.keep)),
        "text": (words, words),
    }


def forward_flops(cfg: RunConfig, *, train: bool) -> dict[str, int]:
    """Forward FLOPs of one clip by modality, tower and heads (fine-tuned: tower): 2 for each multiply-add of every
    matrix product.

    `train` counts what DropToken keeps; otherwise all tokens. Text is all candidate captions.
    """
    clip = cfg.clip
    params, stats = _shapes(cfg)
    inputs = {
        "video": jax.ShapeDtypeStruct((1, clip.frames, clip.size, clip.size, 3), jnp.uint8),
        "audio": jax.ShapeDtypeStruct((1, clip.samples), jnp.float32),
        "text": jax.ShapeDtypeStruct((1, clip.candidates, clip.words), jnp.int32),
    }

    def forward(params, stats, batch):
        key = jax.random.key(0) if train else None
        if isinstance(cfg, Config):
            return vatt.apply(cfg.model, clip, params, stats, batch, key=key, train=train)
        return functional.merge(vatt.Vatt, cfg.model, clip, params=params, stats=stats).pool(batch, key=key)

    return {m: flops(forward, params, stats, {m: inputs[m]}) for m in modalities(cfg)}


def _shapes(cfg: RunConfig):
    return jax.eval_shape(lambda key: vatt.init(cfg.model, cfg.clip, key), jax.random.key(0))


def table(cfg: RunConfig) -> Table:
    parts = describe(cfg)
    table = Table(
        title=f"{cfg.model.backbone} backbone, {cfg.clip.frames} frames of {cfg.clip.size}x{cfg.clip.size}, "
        f"{cfg.clip.samples:,} audio samples"
        + (f", {cfg.clip.candidates} captions of {cfg.clip.words} words" if isinstance(cfg, Config) else "")
    )
    for name in (
        "",
        "trained params",
        "frozen params",
        "tokens",
        "after DropToken",
        "GFLOPs a clip",
        "without DropToken",
    ):
        table.add_column(name, justify="right" if name else "left")
    total = Part(**{f.name: sum(getattr(p, f.name) for p in parts.values()) for f in dataclasses.fields(Part)})
    for name, part in (parts | {"in all": total}).items():
        table.add_row(
            name,
            f"{part.trained / 1e6:.2f} M",
            f"{part.frozen / 1e6:.2f} M" if part.frozen else "",
            f"{part.tokens:,}" if part.tokens else "",
            f"{part.kept:,}" if part.kept else "",
            f"{part.flops / 1e9:.3g}" if part.flops else "",
            f"{part.flops_full / 1e9:.3g}" if part.flops_full else "",
            end_section=name == list(parts)[-1],
        )
    table.caption = "forward FLOPs, 2 a multiply-add of matrix products; a training step is about three times that"
    return table
