"""From what the host hands over to what the towers take, on the device, inside the jitted step.

Video comes as I420 canvases, a byte and a half a pixel, each with the box to be shown; sound as int16. Here they are
resized, turned into RGB, varied (in training), and scaled to [-1, 1]. What is drawn at random is drawn once a clip, so
that its frames agree, and from the key alone, so that it does not depend on how many devices share the batch.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vatt import sharding
from vatt.config import AugmentConfig, RunConfig
from vatt.data.media.canvas import LUMA

Planes = Sequence[jax.Array]  # three of [B T H W]: Y, U, V or R, G, B

# TF32 on a GPU, three bfloat16 passes on a TPU. Of the 255 levels of a plane, TF32 errs by at most 0.2 (whole numbers
# are exact in it, weights nearly); a single bfloat16 pass would err by 1.5.
PRECISION = jax.lax.Precision.HIGH


def to_model(batch: dict, cfg: RunConfig, key: jax.Array | None, *, first: int = 0) -> dict:
    """The batch that the towers take, of one that the stream gives. Runs under `jax.jit`.

    Args:
      batch: `video` [B T 3P/2 P] uint8, canvases as `vatt.data.media.clip.decode_clip` lays them out (P: `cfg.canvas`),
        with `video_box` [B 4] float32 and `video_colour` [B] int32; `audio` [B S] int16; masks `video_mask` and
        `audio_mask` [B] bool (absent: all valid). Any may be missing. Video without a box and audio in floats are
        taken to be ready, and pass as they are; so does every other key.
      cfg: `clip`, `augment`, and the type that the model computes in.
      key: for augmentation: one for all, or [B], one a row. None: none of it, as in evaluation.
      first: the row of the whole batch with which this one begins, if it is a part: what is drawn for a row depends on
        key and row alone.

    Returns:
      `video` [B T H W C] of `cfg.model.dtype` and `audio` [B S] float32, both in [-1, 1] (noise may lead audio beyond
      by a little), 0 in the rows that are masked; and what passes.
    """
    out = {name: x for name, x in batch.items() if name not in ("video_box", "video_colour")}
    pictures, sound = (None, None) if key is None else _two(key)
    if "video_box" in batch:
        out["video"] = _video(batch, cfg, pictures, first)
    if "audio" in batch and batch["audio"].dtype == jnp.int16:
        audio = batch["audio"].astype(jnp.float32) / 32768
        if sound is not None and cfg.augment.audio_noise:
            deviation = cfg.augment.audio_noise * jnp.abs(audio).max(axis=1, keepdims=True)
            audio = audio + deviation * jax.vmap(lambda key: jax.random.normal(key, audio.shape[1:]))(
                _row_keys(sound, len(audio), first)
            )
        out["audio"] = _masked(audio, batch.get("audio_mask"))
    return out


def _masked(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    return x if mask is None else jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, 0)


def _two(key: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.split, out_axes=1)(key) if key.ndim else jax.random.split(key)


def _row_keys(key: jax.Array, rows: int, first: int) -> jax.Array:
    if key.ndim:
        return key
    return jax.vmap(functools.partial(jax.random.fold_in, key))(first + jnp.arange(rows))


def _video(batch: dict, cfg: RunConfig, key: jax.Array | None, first: int) -> jax.Array:
    canvas, size = batch["video"], cfg.clip.size
    B, T, _, P = canvas.shape
    if canvas.shape[2] * 2 != P * 3 or cfg.canvas != P:
        made = f"augment.resize {cfg.augment.resize} makes them {cfg.canvas} wide"
        raise ValueError(f"canvases are {canvas.shape}; {made}")
    draws = None if key is None else draw(_row_keys(key, B, first), cfg.augment)
    flip = draws["flip"] if draws is not None and cfg.augment.flip else None
    resize = _exact(size, flip) if size == P else _resampler(batch["video_box"], P, size, flip)

    def convert(canvas: jax.Array) -> jax.Array:  # [B t 3P/2 P] -> [B t H W C]
        rgb = to_rgb(resize(planes(sharding.constrain(canvas, "activation"))), batch["video_colour"])
        if draws is not None and cfg.augment.colour:
            rgb = recolour(rgb, draws)
        video = _masked(2 * jnp.stack(rgb, axis=-1) - 1, batch.get("video_mask"))
        return sharding.constrain(video.astype(cfg.model.dtype), "activation")

    t = cfg.model.video.patch[0]
    if jax.default_backend() == "cpu" or T % t:  # XLA's CPU backend runs loop bodies badly
        return convert(canvas)
    # A few frames at a time: whole clips in float32, several times over, would need more memory than the model.
    pieces = jnp.moveaxis(canvas.reshape(B, T // t, t, *canvas.shape[2:]), 1, 0)
    return jnp.moveaxis(jax.lax.map(convert, pieces), 0, 1).reshape(B, T, size, size, 3)


def planes(canvas: jax.Array) -> Planes:
    """Y [B T P P], U and V [B T P/2 P/2] of I420 canvases [B T 3P/2 P]."""
    P = canvas.shape[-1]
    return canvas[..., :P, :], canvas[..., P:, : P // 2], canvas[..., P:, P // 2 :]


def triangle(start: jax.Array, length: jax.Array, *, pixels: int, size: int) -> jax.Array:
    """Weights that resample [start, start + length) of a line of pixels to `size` pixels, antialiased as Pillow's
    BILINEAR: a triangle as wide as two pixels of the coarser side. Only pixels that the span touches count.

    Args: start and length [...] in pixels. Returns: [... size pixels], each row's sum 1; 0 for an empty span, as that
    of a clip without video.
    """
    start, length = jnp.asarray(start)[..., None, None], jnp.asarray(length)[..., None, None]
    at = jnp.arange(pixels) + 0.5
    scale = length / size
    centres = start + (jnp.arange(size)[:, None] + 0.5) * scale
    weights = jnp.maximum(0, 1 - jnp.abs(at - centres) / jnp.maximum(scale, 1))
    touched = (at > jnp.floor(start)) & (at < jnp.ceil(start + length))
    weights = jnp.where(touched, weights, 0)
    return weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-6)


def _resampler(box: jax.Array, P: int, size: int, flip: jax.Array | None):
    """Resizes each clip's box [B 4] (pixels of luma) to the size. Chroma samples lie amid the four pixels they span."""

    def weights(pixels: int):
        top, left, height, width = jnp.moveaxis(box * (pixels / P), 1, 0)
        rows, columns = triangle(top, height, pixels=pixels, size=size), triangle(left, width, pixels=pixels, size=size)
        return rows, columns if flip is None else jnp.where(flip[:, None, None], columns[:, ::-1], columns)

    luma, chroma = weights(P), weights(P // 2)

    def resize(yuv: Planes) -> Planes:
        return [_resample(x, *weights) for x, weights in zip(yuv, (luma, chroma, chroma), strict=True)]

    return resize


def _resample(x: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """x [B T H W]; rows [B h H], columns [B w W] -> [B T h w] float32."""
    product = functools.partial(jnp.einsum, precision=PRECISION, preferred_element_type=jnp.float32)
    return product("brh,bthc->btrc", rows, product("bthw,bcw->bthc", x.astype(jnp.float32), columns))


def _exact(size: int, flip: jax.Array | None):
    """For canvases that the host made to size: luma as it is, chroma to twice its size by the same triangles."""

    def double(x: jax.Array, axis: int) -> jax.Array:
        edge = [(1, 1) if i == axis % x.ndim else (0, 0) for i in range(x.ndim)]
        x = jnp.pad(x, edge, mode="edge")
        part = lambda first: jax.lax.slice_in_dim(x, first, first + size // 2, axis=axis)  # noqa: E731
        before, here, after = part(0), part(1), part(2)
        both = jnp.stack([0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after], axis=axis % x.ndim + 1)
        return both.reshape(*[size if i == axis % x.ndim else n for i, n in enumerate(here.shape)])

    def resize(yuv: Planes) -> Planes:
        if flip is not None:
            yuv = [jnp.where(flip[:, None, None, None], x[..., ::-1], x) for x in yuv]
        y, u, v = (x.astype(jnp.float32) for x in yuv)
        return [y, *(double(double(x, -2), -1) for x in (u, v))]

    return resize


def colour_matrices() -> tuple[np.ndarray, np.ndarray]:
    """YUV in levels of 0 to 255 to RGB in [0, 1], as rgb = matrix @ yuv + offset; for each `video_colour`: BT.601 and
    BT.709 of limited range (ITU-R BT.601-7, BT.709-6: luma 16-235, chroma 16-240), then both of full range (JFIF).

    Returns: [4 3 3] and [4 3].
    """
    matrices, offsets = [], []
    for black, luma, chroma in ((16, 219, 224), (0, 255, 255)):
        for red, blue in LUMA:
            green = 1 - red - blue
            u, v = 2 * (1 - blue), 2 * (1 - red)
            matrix = np.array([[1, 0, v], [1, -u * blue / green, -v * red / green], [1, u, 0]])
            matrices.append(matrix / [luma, chroma, chroma])
            offsets.append(-matrices[-1] @ [black, 128, 128])
    return np.array(matrices), np.array(offsets)


def to_rgb(yuv: Planes, colour: jax.Array) -> Planes:
    """Y, U, V [B T H W] in levels of 0 to 255 -> R, G, B in [0, 1]; `colour` [B] as `colour_matrices` orders them."""
    matrices, offsets = colour_matrices()
    matrix = jnp.asarray(matrices, jnp.float32)[colour][..., None, None, None]  # [B 3 3 1 1 1]
    offset = jnp.asarray(offsets, jnp.float32)[colour][..., None, None, None]  # [B 3 1 1 1]
    mix = lambda i: sum(matrix[:, i, j] * x for j, x in enumerate(yuv)) + offset[:, i]  # noqa: E731
    return [jnp.clip(mix(i), 0, 1) for i in range(3)]


def draw(keys: jax.Array, cfg: AugmentConfig) -> dict[str, jax.Array]:
    """What augmentation draws for each clip, of its key: [B] each. Factors and shares are those of DMVR's
    `color_default_augm`."""
    draws = jax.vmap(lambda key: jax.random.uniform(key, (6,)))(keys)  # in [0, 1)

    def between(i: int, centre: float, reach: float) -> jax.Array:
        return centre + reach * (2 * draws[:, i] - 1)

    return {
        "flip": draws[:, 0] < cfg.flip,
        "colour": draws[:, 1] < cfg.colour,
        "brightness": between(2, 0, cfg.brightness),
        "saturation": between(3, 1, cfg.saturation),
        "contrast": between(4, 1, cfg.contrast),
        "hue": between(5, 0, cfg.hue),
    }


def recolour(rgb: Planes, draws: dict[str, jax.Array]) -> Planes:
    """DMVR's changes of colour in its order, to R, G, B in [0, 1] of the clips whose draw says so."""
    draws = {name: x[:, None, None, None] for name, x in draws.items()}
    changed = [x + draws["brightness"] for x in rgb]
    changed = saturate(changed, draws["saturation"])
    changed = contrast(changed, draws["contrast"])
    changed = turn_hue(changed, draws["hue"])
    return [jnp.where(draws["colour"], jnp.clip(new, 0, 1), old) for new, old in zip(changed, rgb, strict=True)]


def saturate(rgb: Planes, factor: jax.Array) -> Planes:
    """Saturation of HSV times `factor`, up to 1. With V and H fixed, each channel's distance from V goes as S."""
    value, spread = _value_and_spread(rgb)
    growth = jnp.where(value > 0, jnp.minimum(factor, value / jnp.maximum(spread, 1e-12)), 0)
    return [value - (value - x) * growth for x in rgb]


def contrast(rgb: Planes, factor: jax.Array) -> Planes:
    """Each channel's distance from its mean over the frame times `factor`."""
    means = [x.mean((-2, -1), keepdims=True) for x in rgb]
    return [mean + (x - mean) * factor for x, mean in zip(rgb, means, strict=True)]


def turn_hue(rgb: Planes, turn: jax.Array) -> Planes:
    """Hue of HSV plus `turn`, a share of the circle."""
    r, g, b = rgb
    value, spread = _value_and_spread(rgb)
    share = 1 / jnp.where(spread > 0, spread, 1)
    # Not `r == value`: the compiler may compute r twice, rounded otherwise. Where two nearly agree, any branch does.
    red, green = (r >= g) & (r >= b), g >= b
    hue = jnp.where(red, (g - b) * share, jnp.where(green, 2 + (b - r) * share, 4 + (r - g) * share))
    hue = jnp.mod(hue + 6 * turn, 6)  # sixths of the circle, from red
    levels = (jnp.abs(hue - 3) - 1, 2 - jnp.abs(hue - 2), 2 - jnp.abs(hue - 4))
    return [value - spread + spread * jnp.clip(level, 0, 1) for level in levels]


def _value_and_spread(rgb: Planes) -> tuple[jax.Array, jax.Array]:
    value = functools.reduce(jnp.maximum, rgb)
    return value, value - functools.reduce(jnp.minimum, rgb)
