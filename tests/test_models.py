"""VATT as a whole: its size equals the paper's recount, any modality may be absent, and switches switch."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vatt.config import ClipConfig, Config
from vatt.describe import describe, token_counts
from vatt.models import vatt
from vatt.presets import PRESETS, ma_medium, released, tiny

CLIP = ClipConfig(frames=4, fps=4, size=32, sample_rate=4_000, samples=1_024, candidates=3, words=6)


def batch_of(n: int, clip: ClipConfig = CLIP, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "video": rng.integers(0, 256, (n, clip.frames, clip.size, clip.size, 3), dtype=np.uint8),
        "audio": rng.normal(size=(n, clip.samples)).astype(np.float32) * 0.1,
        "text": rng.integers(0, 100, (n, clip.candidates, clip.words)).astype(np.int32),
        "audio_mask": np.ones(n, bool),
        "text_mask": np.ones((n, clip.candidates), bool),
    }


# Compiled whole: op by op, XLA would compile each shape of each op by itself.
init = jax.jit(vatt.init, static_argnums=(0, 1))
apply = jax.jit(vatt.apply, static_argnums=(0, 1), static_argnames="train")


def size(tree) -> int:
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("preset", "millions"),
    [
        ("bbs", {"video": 87.45, "audio": 86.08, "text": 19.04}),
        ("mbs", {"video": 154.34, "audio": 86.08, "text": 19.04}),
        ("lbs", {"video": 305.50, "audio": 86.08, "text": 19.04}),
    ],
)
def test_towers_have_the_sizes_of_the_recount(preset, millions):
    params, _ = jax.eval_shape(lambda key: init(PRESETS[preset](), ClipConfig(), key), jax.random.key(0))
    for modality, expected in millions.items():
        table = size(params["tokenizers"]["text"]["table"]) if modality == "text" else 0
        tower = size(params["tokenizers"][modality]) + size(params["encoders"][modality]) - table
        assert round(tower / 1e6, 2) == expected, modality
    # 65,536 words of 300 numbers, frozen.
    assert size(params["tokenizers"]["text"]["table"]) == 65_536 * 300


def test_the_released_shared_model_has_the_size_of_the_recount():
    cfg = released(Config(model=ma_medium()))
    params, _ = jax.eval_shape(lambda key: init(cfg.model, cfg.clip, key), jax.random.key(0))
    heads, table = size(params["heads"]), size(params["tokenizers"]["text"]["table"])
    assert round((size(params) - heads - table) / 1e6, 1) == 161.3


def test_describe_counts_what_the_paper_counts():
    cfg = Config(model=PRESETS["mbs"]())
    assert token_counts(cfg)["video"] == (1568, 784)
    assert token_counts(cfg)["audio"] == (1200, 600)
    parts = describe(cfg)
    # Recount of the paper's table 5 at 2 FLOPs a multiply-add: 396 and 865 GF with five captions.
    kept, full = (sum(getattr(part, f) for part in parts.values()) / 1e9 for f in ("flops", "flops_full"))
    assert 396 * 0.9 < kept < 396 * 1.01
    assert 865 * 0.9 < full < 865 * 1.01
    assert parts["text"].frozen == 65_536 * 300


@pytest.mark.parametrize("present", [("video",), ("audio",), ("text",), ("video", "text"), ("audio", "text")])
def test_any_modality_may_be_absent(present):
    params, stats = init(tiny(), CLIP, jax.random.key(0))
    batch = batch_of(2)
    everything, _ = apply(tiny(), CLIP, params, stats, batch)
    some, _ = apply(tiny(), CLIP, params, stats, {m: batch[m] for m in present})
    expected = {"video": {"z_va", "z_vt"}, "audio": {"z_av"}, "text": {"z_tv"}}
    assert set(some) == set().union(*(expected[m] for m in present))
    for name, z in some.items():
        np.testing.assert_allclose(z, everything[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", ["specific", "agnostic"])
@pytest.mark.parametrize("audio_input", ["waveform", "log_mel"])
def test_every_backbone_and_audio_input_gives_embeddings_of_the_right_shape(backbone, audio_input):
    model = tiny()
    model = replace(
        model,
        audio=replace(
            model.audio, input=audio_input, hop_seconds=0.01, window_seconds=0.02, mel_bins=20, mel_patch=(4, 5)
        ),
    )
    if backbone == "agnostic":
        text = replace(model.text, encoder=model.video.encoder, positions="absolute")
        model = replace(model, backbone="agnostic", projections="dense_gelu", text=text)
    model = replace(model, heads=replace(model.heads, audio_text=True))
    params, stats = init(model, CLIP, jax.random.key(0))
    z, new = apply(model, CLIP, params, stats, batch_of(4), key=jax.random.key(1), train=True)
    va, vt = model.heads.va_width, model.heads.vt_width
    assert {name: x.shape for name, x in z.items()} == {
        "z_va": (4, va),
        "z_av": (4, va),
        "z_vt": (4, vt),
        "z_at": (4, vt),
        "z_tv": (4, 3, vt),
    }
    assert all(np.isfinite(x).all() for x in z.values())
    assert jax.tree.structure(new) == jax.tree.structure(stats)


def test_clips_do_not_see_each_other_at_evaluation():
    params, stats = init(tiny(), CLIP, jax.random.key(0))
    batch = batch_of(4)
    together, _ = apply(tiny(), CLIP, params, stats, batch)
    alone, _ = apply(tiny(), CLIP, params, stats, {name: x[2:3] for name, x in batch.items()})
    for name, z in alone.items():
        np.testing.assert_allclose(z[0], together[name][2], rtol=1e-4, atol=1e-5)


def test_padding_words_and_masked_rows_change_nothing():
    model, batch = tiny(), batch_of(4)
    params, stats = init(model, CLIP, jax.random.key(0))
    batch["text"][:, :, 4:] = 0
    longer = batch | {"text": np.pad(batch["text"], ((0, 0), (0, 0), (0, 3)))}
    short, _ = apply(model, CLIP, params, stats, {"text": batch["text"]})
    long, _ = apply(model, CLIP, params, stats, {"text": longer["text"]})
    np.testing.assert_allclose(short["z_tv"], long["z_tv"], rtol=1e-4, atol=1e-5)

    # In training, batch norm must not see captions or sounds that are not there.
    batch["text_mask"][1] = False
    batch["audio_mask"][2] = False
    other = batch | {"text": batch["text"].copy(), "audio": batch["audio"].copy()}
    other["text"][1], other["audio"][2] = 7, 0.9
    (za, stats_a), (zb, stats_b) = (
        apply(model, CLIP, params, stats, b, key=jax.random.key(3), train=True) for b in (batch, other)
    )
    np.testing.assert_allclose(za["z_tv"][0], zb["z_tv"][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(za["z_av"][0], zb["z_av"][0], rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), stats_a, stats_b)


def test_the_head_hierarchy_is_video_to_va_to_vt():
    """z_vt is a function of z_va alone."""
    model = tiny()
    params, stats = init(model, CLIP, jax.random.key(0))
    z, _ = apply(model, CLIP, params, stats, {"video": batch_of(2)["video"]})
    head = params["heads"]["video_vt"]
    expected = z["z_va"] @ head["dense"]["kernel"] / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(z["z_vt"], expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    model = tiny()
    params, stats = init(model, CLIP, jax.random.key(0))
    half = replace(model, dtype="bfloat16")
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(init(half, CLIP, jax.random.key(0))))
    exact, _ = apply(model, CLIP, params, stats, batch_of(4))
    rough, _ = apply(half, CLIP, params, stats, batch_of(4))
    for name, z in rough.items():
        assert z.dtype == jnp.float32
        cosine = (z * exact[name]).sum(-1) / jnp.linalg.norm(z, axis=-1) / jnp.linalg.norm(exact[name], axis=-1)
        assert cosine.min() > 0.99, name
