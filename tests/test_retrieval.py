"""Retrieval from batches of windows: averaging, masks, padding, refusal of non-finite embeddings."""

import jax
import numpy as np
import pytest

from vatt import sharding
from vatt.config import MeshConfig
from vatt.errors import DataError, NonFiniteError
from vatt.evals.retrieval import embed, evaluate
from vatt.metrics import retrieval


class Fixed:
    """A task whose embeddings are what the batch holds: video [B W 1 1 1 E] and audio [B W E]; text by table."""

    def __init__(self, table):
        self.table = jax.numpy.asarray(table)

    def embed(self, params, stats, batch):
        z = {}
        if "video" in batch:
            z |= {"z_va": batch["video"][:, 0, 0, 0], "z_vt": batch["video"][:, 0, 0, 0], "z_av": batch["audio"]}
        if "text" in batch:
            z["z_tv"] = self.table[batch["text"][:, :, 0]]
        return z, stats


def batches(video, audio, text, *, size, audio_mask=None, text_mask=None):
    n = len(video)
    audio_mask = np.ones(n, bool) if audio_mask is None else audio_mask
    text_mask = np.ones(n, bool) if text_mask is None else text_mask
    for first in range(0, n, size):
        rows = slice(first, min(first + size, n))
        pad = size - (rows.stop - rows.start)
        fill = lambda x: np.concatenate([x[rows], np.zeros((pad, *x.shape[1:]), x.dtype)])  # noqa: B023, E731
        yield {
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
    result = evaluate(Fixed(table), MESH, {}, {}, batches(video, audio, text, size=size))  # pyright: ignore[reportArgumentType]
    v, a, t = unit64(video.mean(1)), unit64(audio.mean(1)), unit64(table)
    expected = {
        "text_to_video": t @ v.T,
        "video_to_text": v @ t.T,
        "audio_to_video": a @ v.T,
        "video_to_audio": v @ a.T,
    }
    assert set(result.metrics) == set(expected)
    for direction, similarity in expected.items():
        np.testing.assert_allclose(result.similarity[direction], similarity, atol=1e-5)
        assert result.metrics[direction] == pytest.approx(retrieval(similarity))
        assert result.chance[direction]["R@1"] == pytest.approx(100 / 11)
    assert result.named()["text_to_video/R@1"] == result.metrics["text_to_video"]["R@1"]


def test_clips_without_a_modality_are_neither_queries_nor_items_of_it(setup):
    video, audio, table, text = setup
    audio_mask, text_mask = np.arange(11) != 2, np.arange(11) < 7
    given = batches(video, audio, text, size=4, audio_mask=audio_mask, text_mask=text_mask)
    result = evaluate(Fixed(table), MESH, {}, {}, given)  # pyright: ignore[reportArgumentType]
    assert result.metrics["text_to_video"]["items"] == 7
    assert result.metrics["audio_to_video"]["items"] == 10
    silent = batches(video, audio, text, size=4, audio_mask=np.zeros(11, bool), text_mask=text_mask)
    assert "audio_to_video" not in evaluate(Fixed(table), MESH, {}, {}, silent).metrics  # pyright: ignore[reportArgumentType]


def test_an_embedding_that_is_not_finite_is_refused_by_the_clips_name(setup):
    video, audio, table, text = setup
    video[6, 1, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"z_v. of 1 clips .* clip 6"):
        evaluate(Fixed(table), MESH, {}, {}, batches(video, audio, text, size=4))  # pyright: ignore[reportArgumentType]


def test_no_clips_at_all_is_an_error():
    with pytest.raises(DataError, match="no held-out clip"):
        embed(lambda arrays: {}, MESH, [])
