"""Where a picture goes on its canvas: which of its pixels are taken, whether they are squeezed, and what box is meant.

Most pictures are sliced: no pixel is computed on the host. What would not fit on the canvas is scaled down, each
dimension for itself, by Pillow's antialiased triangle filter, the one the device uses for the rest of the way.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from vatt.data.crops import Box

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]  # Y [H W], U and V [ceil(H/2) ceil(W/2)], all uint8


class Span(NamedTuple):
    """What one dimension becomes: its pixels from `first` to `last` take `size` pixels of the canvas."""

    first: float
    last: float
    size: int
    scaled: bool
    begin: float  # of the box, on the canvas
    length: float  # of the box, on the canvas


def span(begin: float, length: float, extent: int, side: int, *, exact: bool, whole: bool = False) -> Span:
    """How a stretch of a dimension of `extent` pixels goes on a canvas with room for `side`.

    Slices begin at even pixels, where chroma has a pixel too. A stretch that would then reach over the canvas is
    moved by a pixel at most. `whole`: take an even number of pixels, so that the slice can be turned about.
    """
    length = min(length, extent)
    begin = min(max(begin, 0.0), extent - length)
    if exact or length > side:
        return Span(begin, begin + length, side, True, 0.0, float(side))
    first = int(begin) // 2 * 2
    if begin + length > first + side:
        first = min(round(begin / 2) * 2, -(-(extent - side) // 2) * 2)
    last = min(first + side, extent, -(-int(np.ceil(begin + length)) // 2) * 2)
    if whole and last - first > 1:
        last -= (last - first) % 2
    length = min(length, last - first)
    return Span(first, last, last - first, False, min(max(begin - first, 0.0), last - first - length), length)


class Placement:
    """Puts the same part of every picture of a clip on its canvas.

    Attributes:
      box: [4] float32, top, left, height and width of the part meant, on the canvas.

    Args:
      width, height: of the pictures as stored.
      crop: the part to show, in pixels of the picture as displayed.
      side: of the canvas (P).
      exact: scale the part to the whole canvas; otherwise only what would not fit is scaled.
      turns: quarter turns counter-clockwise from stored to displayed.
      displayed: width and height that `crop` refers to. They differ from the stored ones by the turns and, for
        pixels that are not square, by a factor.
    """

    def __init__(
        self, width: int, height: int, crop: Box, side: int, *, exact: bool, turns: int, displayed: tuple[float, float]
    ):
        across, down = (height, width) if turns % 2 else (width, height)  # stored pixels along the displayed axes
        per_row, per_column = down / displayed[1], across / displayed[0]
        top, left, tall, wide = (
            crop.top * per_row,
            crop.left * per_column,
            crop.height * per_row,
            crop.width * per_column,
        )
        for _ in range(turns):  # undo a quarter turn: what is displayed at (i, j) was at (j, width - 1 - i)
            top, left, tall, wide, down, across = left, down - top - tall, wide, tall, across, down
        self.rows = span(top, tall, height, side, exact=exact, whole=turns > 0)
        self.columns = span(left, wide, width, side, exact=exact, whole=turns > 0)
        self.side, self.turns = side, turns
        self.scaled = self.rows.scaled or self.columns.scaled
        top, left, tall, wide = self.rows.begin, self.columns.begin, self.rows.length, self.columns.length
        down, across = self.rows.size, self.columns.size
        for _ in range(turns):
            top, left, tall, wide, down, across = across - left - wide, top, wide, tall, across, down
        self.box = np.array([top, left, tall, wide], np.float32)

    def put(self, planes: Planes, canvas: np.ndarray) -> None:
        """Writes a picture onto its canvas. [3P/2 P]"""
        side, half = self.side, self.side // 2
        y, u, v = (self._part(plane, scale) for plane, scale in zip(planes, (1, 2, 2), strict=True))
        canvas[: y.shape[0], : y.shape[1]] = y
        canvas[side : side + u.shape[0], : u.shape[1]] = u
        canvas[side : side + v.shape[0], half : half + v.shape[1]] = v

    def _part(self, plane: np.ndarray, scale: int) -> np.ndarray:
        rows, columns = self.rows, self.columns
        if self.scaled:
            # A chroma pixel covers two of luma, the last one perhaps only one.
            left, top = columns.first / scale, rows.first / scale
            right, bottom = min(columns.last / scale, plane.shape[1]), min(rows.last / scale, plane.shape[0])
            image = Image.fromarray(np.ascontiguousarray(plane))
            size = -(-columns.size // scale), -(-rows.size // scale)
            part = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom)))
        else:
            part = plane[
                int(rows.first) // scale : -(-int(rows.last) // scale),
                int(columns.first) // scale : -(-int(columns.last) // scale),
            ]
        return np.rot90(part, self.turns) if self.turns else part
