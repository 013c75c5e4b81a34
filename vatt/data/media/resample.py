"""Audio as models take it: mixed down to mono and resampled by a windowed sinc, on a grid fixed in time.

FFmpeg's resampler takes a millisecond to set up and knows only streams; this one keeps its filters, and gives
a span of the output as it would be within the whole.
"""

from fractions import Fraction
from functools import lru_cache
from math import ceil

import av
import numpy as np

ZEROS = 16  # zero crossings of the sinc on either side
ROLL_OFF = 0.94  # share of the lower Nyquist frequency that passes
BETA = 9.0  # of the Kaiser window: stop band at about -90 dB
GROUP = 40  # outputs that share a window of the input, and so one matrix product
PRODUCT = 2**18  # multiplications a matrix product; OpenBLAS starts threads above, which fight with those that decode

# How much of each channel goes into the mono mix (ITU-R BS.775), before these are scaled to add up to 1.
MIX = {"FC": 1.0, "FL": 0.7071, "FR": 0.7071, "LFE": 0.0, "LFE2": 0.0}
OTHER_CHANNELS = 0.5


def mono(frame: av.AudioFrame) -> np.ndarray:
    """The samples of a frame of any format, full scale being 1, mixed down to one channel. [S] float32"""
    sound = frame.to_ndarray()
    if not frame.format.is_planar:
        sound = sound.reshape(-1, frame.layout.nb_channels).T
    if sound.dtype == np.uint8:
        sound = (sound.astype(np.float32) - 128) / 128
    elif sound.dtype.kind == "i":
        sound = sound / np.float32(2.0 ** (8 * sound.dtype.itemsize - 1))
    if len(sound) == 1:
        return sound[0].astype(np.float32, copy=False)
    weights = np.array([MIX.get(channel.name, OTHER_CHANNELS) for channel in frame.layout.channels], np.float32)
    mixed = np.zeros(sound.shape[1], np.float32)
    for weight, channel in zip(weights / weights.sum(), sound, strict=True):
        mixed += weight * channel
    return mixed


def resample(
    signal: np.ndarray, source: int, target: int, *, offset: int = 0, start: int = 0, samples: int
) -> np.ndarray:
    """A span of a signal resampled from `source` to `target` Hz. Outside the signal all is zero.

    Ratios of rates whose terms exceed 1,000 are rounded, by less than 1e-6.

    Args:
      signal: [N] float32.
      source, target: samples per second (Hz).
      offset: the number of the signal's first sample, sample 0 of either rate being at the same instant.
      start: the number of the first sample returned, at the target rate.
      samples: how many are returned (S).

    Returns:
      [S] float32.
    """
    if source == target:
        return _span(signal, start - offset, samples)
    inputs, outputs, reach, filters = _filters(source, target)
    first = start // outputs
    blocks = ceil((start + samples) / outputs) - first
    needed = _span(signal, first * inputs - reach - offset, blocks * inputs + 2 * reach + 1)
    result = np.empty((blocks, outputs), np.float32)
    for column, begin, matrix in filters:
        windows = np.lib.stride_tricks.sliding_window_view(needed, len(matrix))[begin::inputs][:blocks]
        rows = max(1, PRODUCT // matrix.size)
        for row in range(0, blocks, rows):
            result[row : row + rows, column : column + matrix.shape[1]] = windows[row : row + rows] @ matrix
    return result.reshape(-1)[start - first * outputs :][:samples]


def _span(signal: np.ndarray, start: int, samples: int) -> np.ndarray:
    span = np.zeros(samples, np.float32)
    low, high = max(start, 0), min(start + samples, len(signal))
    if low < high:
        span[low - start : high - start] = signal[low:high]
    return span


@lru_cache
def _filters(source: int, target: int) -> tuple[int, int, int, list[tuple[int, int, np.ndarray]]]:
    """The filters of a ratio of rates, as matrices.

    Returns:
      inputs, outputs: sizes of a block; `inputs` samples become `outputs`.
      reach: how many samples before and after its instant an output depends on.
      filters: for each group of outputs: its first output, its first input (from `reach` before the block),
        and a matrix [inputs, outputs].
    """
    ratio = Fraction(target, source).limit_denominator(1000)
    times = ceil(GROUP / ratio.numerator)
    inputs, outputs = ratio.denominator * times, ratio.numerator * times
    bandwidth = min(1.0, outputs / inputs)
    reach = ceil(ZEROS / bandwidth)
    filters = []
    for column in range(0, outputs, GROUP):
        instants = np.arange(column, min(column + GROUP, outputs)) * inputs / outputs  # in input samples
        begin, end = int(instants[0]), int(instants[-1]) + 2 * reach + 1
        away = np.arange(begin - reach, end - reach)[:, None] - instants[None, :]
        window = np.i0(BETA * np.sqrt(np.clip(1 - (away / reach) ** 2, 0, 1))) * (abs(away) <= reach)
        matrix = np.sinc(ROLL_OFF * bandwidth * away) * window
        filters.append((column, begin, (matrix / matrix.sum(axis=0)).astype(np.float32)))
    return inputs, outputs, reach, filters
