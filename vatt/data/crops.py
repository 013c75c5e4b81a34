"""Which part of a frame a clip shows: a box, chosen on the host before any pixel is touched, for all frames."""

from collections.abc import Callable
from typing import NamedTuple


class Box(NamedTuple):
    """A part of a frame, in pixels of the frame as displayed; may begin and end between pixels."""

    top: float
    left: float
    height: float
    width: float


Crop = Callable[[int, int], Box]  # (width, height) of the frame -> the part to show


def centre(width: int, height: int) -> Box:
    """The largest square in the middle."""
    side = min(width, height)
    return Box((height - side) / 2, (width - side) / 2, side, side)
