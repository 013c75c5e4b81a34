"""Tokens: DropToken, positions, spectrograms."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from vatt.config import AudioConfig, ClipConfig
from vatt.models.cost import flops
from vatt.models.spectrogram import log_mel, mel_matrix
from vatt.models.tokenizers import AudioTokenizer, Positions, VideoTokenizer, drop_tokens
from vatt.presets import tiny

CLIP = ClipConfig(frames=4, fps=4, size=32, sample_rate=4_000, samples=1_024, candidates=3, words=6)


@given(st.integers(1, 40), st.floats(0.05, 1.0), st.integers(0, 99))
@settings(max_examples=8)  # each compiles
def test_droptoken_keeps_a_fixed_number_without_repeats(n, keep, seed):
    patches = jnp.broadcast_to(jnp.arange(n, dtype=jnp.float32)[None, :, None], (3, n, 2))
    kept, index = drop_tokens(patches, keep, jax.random.key(seed))
    expected = max(1, int(n * keep))
    assert kept.shape == (3, expected, 2)
    if expected < n:
        np.testing.assert_array_equal(kept[..., 0], index)
        assert all(len(set(row)) == expected for row in np.asarray(index).tolist())


def test_droptoken_draws_for_each_clip_alone_and_evenly():
    patches = jnp.zeros((2_000, 10, 1))
    _, index = drop_tokens(patches, 0.5, jax.random.key(0))
    rows = np.sort(np.asarray(index), axis=1)
    assert len(np.unique(rows, axis=0)) > 200  # of 252 possible
    share = np.bincount(rows.ravel(), minlength=10) / 2_000
    np.testing.assert_allclose(share, 0.5, atol=0.05)
    assert drop_tokens(patches, 0.5, None)[1] is None  # at evaluation all are kept


def test_the_cost_of_the_projection_falls_with_what_is_kept():
    def cost(keep):
        model = replace(tiny(), video=replace(tiny().video, keep=keep))
        tokenizer = VideoTokenizer(model, CLIP, rngs=nnx.Rngs(0))
        video = jnp.zeros((2, 4, 32, 32, 3), jnp.uint8)
        return flops(lambda video: tokenizer(video, key=jax.random.key(0)).x, video)

    assert cost(0.5) == cost(1.0) / 2
    assert cost(0.25) == cost(1.0) / 4


def test_bytes_and_scaled_floats_give_the_same_tokens():
    tokenizer = VideoTokenizer(tiny(), CLIP, rngs=nnx.Rngs(0))
    video = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
    scaled = video.astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(tokenizer(jnp.asarray(video)).x, tokenizer(jnp.asarray(scaled)).x, atol=1e-5)


def test_a_tubelet_is_a_block_of_neighbouring_pixels():
    """Changing one pixel changes the one token whose tubelet holds it."""
    tokenizer = VideoTokenizer(tiny(), CLIP, rngs=nnx.Rngs(0))  # tubelets 2x16x16: a grid of 2 x 2 x 2
    video = np.zeros((1, 4, 32, 32, 3), np.uint8)
    other = video.copy()
    other[0, 3, 5, 20, 1] = 255  # second in time, first row, second column
    changed = np.abs(np.asarray(tokenizer(jnp.asarray(video)).x - tokenizer(jnp.asarray(other)).x)).max(-1)[0]
    assert np.flatnonzero(changed > 1e-6).tolist() == [1 + 4 + 0 + 1]


def test_kept_tokens_carry_their_own_positions():
    model = replace(tiny(), audio=replace(tiny().audio, input="waveform", keep=0.5))
    tokenizer = AudioTokenizer(model, CLIP, rngs=nnx.Rngs(0))
    audio = jnp.asarray(np.random.default_rng(0).normal(size=(3, 1_024)), jnp.float32)
    everything = np.asarray(tokenizer(audio).x)
    kept = np.asarray(tokenizer(audio, key=jax.random.key(2)).x)
    assert kept.shape == (3, 1 + 4, 96)
    for clip in range(3):
        distance = np.abs(kept[clip, 1:, None] - everything[clip, None, 1:]).max(-1)
        assert (distance.min(1) < 1e-5).all()


def test_positions_are_a_normalised_sum_of_axis_tables():
    positions = Positions({"time": 2, "height": 3, "width": 4}, 8, rngs=nnx.Rngs(0))
    t, h, w = (np.asarray(table[...], np.float64) for table in positions.tables.values())
    total = (t[:, None, None] + h[None, :, None] + w[None, None, :]).reshape(24, 8)
    expected = (total - total.mean(-1, keepdims=True)) / np.sqrt(total.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(positions((2, 3, 4)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [8, 20, 28])
def test_positions_resample_smoothly_to_another_grid(size):
    positions = Positions({"time": 14}, 4, rngs=nnx.Rngs(0))
    ramp = jnp.linspace(0, 1, 14)[:, None] * jnp.array([[1.0, -1.0, 2.0, 0.5]])
    positions.tables["time"][...] = ramp
    # A linear table stays linear away from its ends, and its middle stays where it is.
    resized = np.asarray(jax.image.resize(ramp, (size, 4), "cubic"))
    np.testing.assert_allclose(np.diff(resized[3:-3], n=2, axis=0), 0, atol=1e-3)
    assert positions((size,)).shape == (size, 4)
    np.testing.assert_allclose(positions((14,)), positions.norm(ramp), rtol=1e-6)


def test_a_model_takes_a_larger_clip_than_it_was_made_for():
    tokenizer = VideoTokenizer(tiny(), CLIP, rngs=nnx.Rngs(0))
    assert tokenizer(jnp.zeros((1, 8, 64, 48, 3), jnp.uint8)).x.shape == (1, 1 + 4 * 4 * 3, 96)


def test_log_mel_equals_float64_numpy():
    cfg = AudioConfig(input="log_mel")
    rate, window, hop = 16_000, round(2048 / 3), round(1024 / 3)
    audio = np.random.default_rng(0).normal(size=(2, 8_000)) * 0.1
    steps = -(-8_000 // hop)
    padded = np.pad(audio, ((0, 0), (0, window + (steps - 1) * hop - 8_000)))
    hann = np.hanning(window + 1)[:-1]
    mel = np.stack([np.abs(np.fft.rfft(padded[:, i * hop : i * hop + window] * hann, 1024)) for i in range(steps)], 1)
    mel = np.log1p(10_000 * (mel @ mel_matrix(1024, rate, 80).astype(np.float64)))
    low, high = mel.min((1, 2), keepdims=True), mel.max((1, 2), keepdims=True)
    got = log_mel(jnp.asarray(audio, jnp.float32), cfg, rate)
    np.testing.assert_allclose(got, (mel - low) / (high - low), atol=1e-4)


@pytest.mark.slow  # in a fresh environment Numba compiles parts of librosa for a minute
@pytest.mark.parametrize(("rate", "window", "hop", "bins"), [(48_000, 2048, 1024, 80), (8_000, 512, 128, 40)])
def test_log_mel_agrees_with_librosa(rate, window, hop, bins):
    """On the same signal: its STFT, its mel filters. Librosa's triangles are straight over Hz, ours over mel, as those
    of TensorFlow and the released code; no weight differs by more than 0.006."""
    highest = min(7600, rate / 2)
    filters = librosa.filters.mel(sr=rate, n_fft=window, n_mels=bins, fmin=80, fmax=highest, htk=True, norm=None)
    np.testing.assert_allclose(mel_matrix(window, rate, bins), filters.T, atol=0.006)
    time = np.arange(rate) / rate
    audio = 0.3 * np.sin(2 * np.pi * 300 * 12**time * time) + 0.01 * np.random.default_rng(0).normal(size=rate)
    steps = -(-rate // hop)
    padded = np.pad(audio, (0, (steps - 1) * hop + window - rate))
    spectrum = np.abs(librosa.stft(padded, n_fft=window, hop_length=hop, window="hann", center=False))
    mel = np.log1p(10_000 * (filters @ spectrum)).T
    expected = (mel - mel.min()) / (mel.max() - mel.min())
    cfg = AudioConfig(
        input="log_mel", mel_bins=bins, mel_patch=(16, 5), window_seconds=window / rate, hop_seconds=hop / rate
    )
    got = log_mel(jnp.asarray(audio, jnp.float32)[None], cfg, rate)[0]
    assert got.shape == (steps, bins)
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_a_tone_lights_the_mel_bin_of_its_pitch():
    cfg, rate = AudioConfig(input="log_mel"), 16_000
    tone = jnp.sin(2 * jnp.pi * 1_000 * jnp.arange(16_000) / rate)[None]
    loudest = int(log_mel(tone, cfg, rate)[0, 5].argmax())
    edges = np.linspace(1127 * np.log1p(80 / 700), 1127 * np.log1p(7600 / 700), 82)
    assert edges[loudest] < 1127 * np.log1p(1_000 / 700) < edges[loudest + 2]


def test_silence_gives_a_finite_spectrogram():
    assert np.isfinite(log_mel(jnp.zeros((1, 4_000)), AudioConfig(input="log_mel"), 16_000)).all()


def test_a_paper_sized_spectrogram_has_the_papers_tokens():
    from vatt.models.tokenizers import audio_grid

    model = replace(tiny(), audio=AudioConfig(input="log_mel"))
    assert audio_grid(model, ClipConfig()) == {"time": 9, "mel": 16}
