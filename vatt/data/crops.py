"""Which part of a frame a clip shows: a box, chosen on the host before any pixel is touched, for all frames.

A crop is a pure function of the frame's size: what it draws at random it draws from a seed of its own, so that a clip
whose frames come one by one, or which is decoded again, is cut the same each time.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vatt.config import AugmentConfig

JITTER_PROBABILITY, JITTER_SCALE = 0.8, (0.8, 1.2)  # [released code: DMVR's scale_jitter_augm]


class Box(NamedTuple):
    """A part of a frame, in pixels of the frame as displayed; may begin and end between pixels."""

    top: float
    left: float
    height: float
    width: float


Crop = Callable[[int, int], Box]  # (width, height) of the frame -> the part to show


def training_crop(cfg: AugmentConfig, rng: np.random.Generator) -> Crop:
    """The crop of one training clip; `rng` is that clip's own."""
    if cfg.crop == "inception":
        return inception(rng, area=cfg.area, aspect=cfg.aspect)
    if cfg.crop == "square":
        return jitter(rng, probability=0.0)
    return jitter(rng) if cfg.crop == "jitter" else centre


def evaluation_crops(count: int) -> tuple[Crop, ...]:
    """The crops through which evaluation sees a window: `count` squares spread over the frame (see `spread`)."""
    return tuple(spread(index, count) for index in range(count))


def centre(width: int, height: int) -> Box:
    """The largest square in the middle."""
    side = min(width, height)
    return Box((height - side) / 2, (width - side) / 2, side, side)


def spread(index: int, count: int) -> Crop:
    """The largest square, at the `index`-th of `count` places from one end of the long side to the other; one: the
    centre. Raises ValueError where there is no such place."""
    if not 0 <= index < count:
        raise ValueError(f"there is no place {index} among {count}")
    return functools.partial(_spread, index=index, count=count) if count > 1 else centre


def _spread(width: int, height: int, *, index: int, count: int) -> Box:
    side, share = min(width, height), index / (count - 1)
    return Box((height - side) * share, (width - side) * share, side, side)


def inception(
    rng: np.random.Generator,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (0.5, 2.0),
    attempts: int = 100,
) -> Crop:
    """A box of random area and aspect ratio anywhere in the frame (Szegedy et al. 2015; VATT paper appendix A.2.1).

    As TensorFlow's sample_distorted_bounding_box draws it: the aspect ratio first, then the height, both uniform within
    bounds, in whole pixels. (The released code also asks that a tenth of the frame be covered, which turns an area from
    0.08 into one from 0.1.) A frame that yields no such box in `attempts`, being far longer than wide or a few pixels
    large, gives the largest box in its middle whose aspect ratio is within bounds.

    Args:
      area: least and greatest area, as shares of the frame's.
      aspect: least and greatest width / height.
    """
    return functools.partial(_inception, seed=_seed(rng), area=area, aspect=aspect, attempts=attempts)


def _inception(width: int, height: int, *, seed: int, area, aspect, attempts: int) -> Box:
    rng = np.random.default_rng(seed)
    least, most = (share * width * height for share in area)
    for _ in range(attempts):
        ratio = rng.uniform(*aspect)
        low, high = np.sqrt(least / ratio), min(np.sqrt(most / ratio), height, width / ratio)
        if low > high:
            continue
        h = round(rng.uniform(low, high))
        w = round(h * ratio)
        if 0 < h <= height and 0 < w <= width and least <= h * w <= most and aspect[0] <= w / h <= aspect[1]:
            top, left = rng.integers(height - h, endpoint=True), rng.integers(width - w, endpoint=True)
            return Box(float(top), float(left), float(h), float(w))
    ratio = min(max(width / height, aspect[0]), aspect[1])
    w, h = min(width, height * ratio), min(height, width / ratio)
    return Box((height - h) / 2, (width - w) / 2, h, w)


def jitter(
    rng: np.random.Generator,
    *,
    probability: float = JITTER_PROBABILITY,
    scale: tuple[float, float] = JITTER_SCALE,
) -> Crop:
    """The released code's crop: height and width scaled each by a factor of its own, with some probability; then the
    short side resized to the size and a random square cut out. Here it is the box that those two steps show."""
    return functools.partial(_jitter, seed=_seed(rng), probability=probability, scale=scale)


def _jitter(width: int, height: int, *, seed: int, probability: float, scale) -> Box:
    rng = np.random.default_rng(seed)
    factors = rng.uniform(*scale, size=2)
    tall, wide = factors if rng.random() < probability else (1.0, 1.0)
    side = min(height * tall, width * wide)  # of the square, in pixels of the scaled frame
    h, w = min(side / tall, height), min(side / wide, width)
    return Box(rng.uniform(0, height - h), rng.uniform(0, width - w), h, w)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63))
