"""Log-mel spectrograms on the device (VATT paper appendix A.5; parameters of the released code)."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from vatt.config import AudioConfig

LOW_HZ, HIGH_HZ = 80.0, 7600.0


def mel_steps(samples: int, cfg: AudioConfig, sample_rate: int) -> int:
    """STFT windows of `samples` samples, the signal padded at its end so that every hop starts a window."""
    return math.ceil(samples / round(cfg.hop_seconds * sample_rate))


def log_mel(audio: jax.Array, cfg: AudioConfig, sample_rate: int) -> jax.Array:
    """log(1 + 10000 S), scaled to [0, 1] in each clip.

    Args: audio [B S] in [-1, 1]. Returns: [B T M] float32, T time steps, M mel bins.
    """
    window, hop = round(cfg.window_seconds * sample_rate), round(cfg.hop_seconds * sample_rate)
    steps = mel_steps(audio.shape[1], cfg, sample_rate)
    audio = jnp.pad(audio.astype(jnp.float32), ((0, 0), (0, (steps - 1) * hop + window - audio.shape[1])))
    index = np.arange(steps)[:, None] * hop + np.arange(window)[None, :]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    n_fft = 2 ** math.ceil(math.log2(window))
    spectrum = jnp.abs(jnp.fft.rfft(audio[:, index] * hann.astype(np.float32), n_fft))  # [B T F]
    mel = spectrum @ mel_matrix(n_fft, sample_rate, cfg.mel_bins)
    mel = jnp.log1p(10_000 * mel)
    low, high = mel.min((1, 2), keepdims=True), mel.max((1, 2), keepdims=True)
    return (mel - low) / jnp.maximum(high - low, 1e-6)


@functools.cache
def mel_matrix(n_fft: int, sample_rate: int, bins: int) -> np.ndarray:
    """[F M] triangular filters evenly spaced on the HTK mel scale between 80 and 7600 Hz (or half the sample rate)."""
    high = min(HIGH_HZ, sample_rate / 2)
    to_mel = lambda hz: 1127.0 * np.log1p(np.asarray(hz) / 700.0)  # noqa: E731
    frequencies = to_mel(np.fft.rfftfreq(n_fft, 1 / sample_rate))[:, None]
    edges = np.linspace(to_mel(LOW_HZ), to_mel(high), bins + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
