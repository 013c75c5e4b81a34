"""Retrieval from batches of windows: averaging, masks, padding, refusal of non-finite embeddings."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vatt import sharding
from vatt.config import ClipConfig, Config, MeshConfig
from vatt.errors import DataError, NonFiniteError
from vatt.evals.embedding import INPUTS, Embedder
from vatt.evals.retrieval import DIRECTIONS, embed, evaluate
from vatt.metrics import retrieval
from vatt.presets import tiny
from vatt.tasks.pretrain import Pretrain


def fixed(table):
    """An embedder whose embeddings are what the batch holds: video [N 1 1 1 E] and audio [N E]; text by table."""

    def embedder(arrays):
        z = {}
        if "video" in arrays:
            z |= {"z_va": arrays["video"][:, 0, 0, 0], "z_vt": arrays["video"][:, 0, 0, 0], "z_av": arrays["audio"]}
        if "text" in arrays:
            z["z_tv"] = table[arrays["text"][:, 0]]
        return z

    return embedder


def batches(video, audio, text, *, size, audio_mask=None, text_mask=None, video_mask=None):
    n = len(video)
    audio_mask = np.ones(n, bool) if audio_mask is None else audio_mask
    text_mask = np.ones(n, bool) if text_mask is None else text_mask
    for first in range(0, n, size):
        rows = slice(first, min(first + size, n))
        pad = size - (rows.stop - rows.start)
        fill = lambda x: np.concatenate([x[rows], np.zeros((pad, *x.shape[1:]), x.dtype)])  # noqa: B023, E731
        yield ({} if video_mask is None else {"video_mask": fill(video_mask)}) | {
            "video": fill(video)[:, :, None, None, None],
            "audio": fill(audio),
            "text": fill(text[:, None]),
            "audio_mask": fill(audio_mask),
            "text_mask": fill(text_mask),
            "valid": fill(np.ones(n, bool)),
            "ids": [f"clip {i}" for i in range(rows.start, rows.stop)],
        }


@pytest.fixture
def setup():
    rng = np.random.default_rng(0)
    N, W, E = 11, 3, 5
    video, audio = rng.normal(size=(N, W, E)).astype(np.float32), rng.normal(size=(N, W, E)).astype(np.float32)
    return video, audio, rng.normal(size=(N, E)).astype(np.float32), np.arange(N, dtype=np.int32)


MESH = sharding.make_mesh(MeshConfig(), jax.devices()[:1])


def unit64(x):
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("size", [4, 11, 16])
def test_windows_are_averaged_then_brought_to_unit_length_whatever_the_batch(setup, size):
    video, audio, table, text = setup
    result = evaluate(fixed(table), batches(video, audio, text, size=size))
    v, a, t = unit64(video.mean(1)), unit64(audio.mean(1)), unit64(table)
    expected = {
        "text_to_video": t @ v.T,
        "video_to_text": v @ t.T,
        "audio_to_video": a @ v.T,
        "video_to_audio": v @ a.T,
    }
    assert set(result.metrics) == set(expected)
    for direction, similarity in expected.items():
        of_query, of_item = result.embeddings[direction]
        np.testing.assert_allclose(of_query @ of_item.T, similarity, atol=1e-5)
        assert result.metrics[direction] == pytest.approx(retrieval(similarity))
        assert result.chance[direction]["R@1"] == pytest.approx(100 / 11)
    assert result.named()["text_to_video/R@1"] == result.metrics["text_to_video"]["R@1"]


def test_clips_without_a_modality_are_neither_queries_nor_items_of_it(setup):
    video, audio, table, text = setup
    audio_mask, text_mask = np.arange(11) != 2, np.arange(11) < 7
    given = batches(video, audio, text, size=4, audio_mask=audio_mask, text_mask=text_mask)
    result = evaluate(fixed(table), given)
    assert result.metrics["text_to_video"]["items"] == 7
    assert result.metrics["audio_to_video"]["items"] == 10
    seen = batches(video, audio, text, size=4, audio_mask=audio_mask, text_mask=text_mask, video_mask=np.arange(11) > 3)
    result = evaluate(fixed(table), seen)
    assert [values["items"] for values in result.metrics.values()] == [3, 3, 7, 7]
    silent = batches(video, audio, text, size=4, audio_mask=np.zeros(11, bool), text_mask=text_mask)
    assert "audio_to_video" not in evaluate(fixed(table), silent).metrics


def test_a_model_that_leads_sound_to_text_is_measured_on_that_as_well(setup):
    video, audio, table, text = setup

    def embedder(arrays):
        z = fixed(table)(arrays)
        return z | ({"z_at": arrays["audio"]} if "audio" in arrays else {})

    result = evaluate(embedder, batches(video, audio, text, size=4))
    expected = retrieval(unit64(table) @ unit64(audio.mean(1)).T)
    assert result.metrics["text_to_audio"] == pytest.approx(expected)
    assert list(result.metrics) == list(DIRECTIONS)


def test_raw_views_are_embedded_one_by_one_then_averaged():
    """Canvases, boxes and sound of W views a clip, through the real model."""
    N, W = 3, 2
    clip = ClipConfig(frames=2, fps=4, size=32, sample_rate=4_000, samples=1_024, words=6)
    small = replace(tiny().video.encoder, depth=1)
    model = replace(
        tiny(),
        video=replace(tiny().video, encoder=small),
        audio=replace(tiny().audio, encoder=small),
        text=replace(tiny().text, encoder=replace(small, style="t5")),
    )
    cfg = Config(clip=clip, model=model)
    task, rng, P = Pretrain(cfg), np.random.default_rng(0), cfg.canvas
    params, stats = task.init(jax.random.key(0))
    batch = {
        "video": rng.integers(0, 256, (N, W, 2, P * 3 // 2, P), dtype=np.uint8),
        "video_box": np.tile(np.array([[0, 0, 20, 20], [4, 8, 30, 30]], np.float32), (N, 1, 1)),
        "video_colour": np.tile(np.array([0, 1], np.int32), (N, 1)),
        "audio": rng.integers(-9_000, 9_000, (N, W, 1_024)).astype(np.int16),
        "text": rng.integers(1, 250, (N, 6), dtype=np.int32),
        "video_mask": np.array([True, True, False]),
        "audio_mask": np.ones(N, bool),
        "text_mask": np.ones(N, bool),
        "valid": np.ones(N, bool),
        "ids": ["a", "b", "c"],
    }
    batch["video"][2], batch["video_box"][2] = 0, 0  # as the stream fills them where there is no video
    z, has, _ = embed(Embedder(cfg, MESH, params, stats), [batch])
    alone = jax.jit(lambda view: task.embed(params, stats, view)[0])
    for view_names, names in ((INPUTS[:-1], ("z_va", "z_vt", "z_av")), (("text",), ("z_tv",))):
        for i in range(N):
            views = [{k: jnp.asarray(batch[k][i : i + 1, w]) for k in view_names} for w in range(W)]
            if "text" in view_names:
                views = [{"text": jnp.asarray(batch["text"][i : i + 1, None])}]
            embedded = [alone(view) for view in views]
            for name in names:
                mean = np.mean([np.asarray(x[name]).reshape(-1) for x in embedded], axis=0)
                np.testing.assert_allclose(z[name][i], unit64(mean), atol=2e-5)
    assert [list(has[name]) for name in ("z_va", "z_vt", "z_av")] == [[True, True, False]] * 2 + [[True] * 3]


def test_an_embedding_that_is_not_finite_is_refused_by_the_clips_name(setup):
    video, audio, table, text = setup
    video[6, 1, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"z_v. of 1 clips .* clip 6"):
        evaluate(fixed(table), batches(video, audio, text, size=4))


def test_no_clips_at_all_is_an_error():
    with pytest.raises(DataError, match="no held-out clip"):
        embed(lambda arrays: {}, [])
