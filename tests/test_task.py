"""The pretraining task: which rows of a batch take part in which loss, and that masked ones take part in nothing."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vatt.config import ClipConfig, Config, LossConfig
from vatt.models.heads import unit
from vatt.presets import tiny
from vatt.tasks.pretrain import Pretrain

B, K, E = 6, 3, 8
FORMS = ["joint_once", "joint", "separate", "sigmoid"]


@pytest.fixture
def batch():
    """Embeddings; clips 0 and 4 have no sound, clips 3 and 4 no video, and clip 1 no captions, clip 2 but one."""
    rng = np.random.default_rng(0)
    z = {name: rng.normal(size=(B, E)) for name in ("z_va", "z_av", "z_vt", "z_at")} | {
        "z_tv": rng.normal(size=(B, K, E))
    }
    masks = {"text_mask": np.ones((B, K), bool), "audio_mask": np.ones(B, bool), "video_mask": np.ones(B, bool)}
    masks["text_mask"][1], masks["text_mask"][2, 1:] = False, False
    masks["audio_mask"][[0, 4]], masks["video_mask"][[3, 4]] = False, False
    return {name: unit(jnp.float32(x)) for name, x in z.items()}, masks


def value(form, pair, z, masks):
    model = replace(tiny(), heads=replace(tiny().heads, audio_text=True))
    task = Pretrain(Config(model=model, loss=LossConfig(form=form, audio_text=1.0)))
    return float(task.pair_loss(pair, z, masks, {"bias": jnp.float32(-10.0)}))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("pair", "name", "mask"),
    [("video_audio", "z_va", "video_mask"), ("video_audio", "z_av", "audio_mask"), ("video_text", "z_vt", "video_mask"),
     ("video_text", "z_tv", "text_mask"), ("audio_text", "z_tv", "text_mask"), ("audio_text", "z_at", "audio_mask")],
)  # fmt: skip
def test_what_is_masked_changes_no_loss_and_what_is_not_does(batch, form, pair, name, mask):
    z, masks = batch
    before = value(form, pair, z, masks)
    for rows, same in ((~masks[mask], True), (masks[mask], False)):
        other = np.array(z[name])
        other[rows] = other[rows][:, ::-1]
        after = value(form, pair, z | {name: jnp.asarray(other)}, masks)
        assert (after == before) is same


CLIP = ClipConfig(frames=2, fps=4, size=32, sample_rate=4_000, samples=1_024, candidates=K, words=6)


@pytest.fixture(scope="module")
def trained():
    """(batch -> ((loss, (statistics, metrics)), gradients)), with DropToken on; and a batch for it."""
    small = replace(tiny().video.encoder, depth=1, width=24, heads=2, mlp_width=32)
    model = replace(
        tiny(),
        video=replace(tiny().video, encoder=small),
        audio=replace(tiny().audio, encoder=small, keep=0.5),
        text=replace(tiny().text, encoder=replace(small, style="t5")),
        heads=replace(tiny().heads, audio_text=True),
    )
    task = Pretrain(Config(clip=CLIP, model=model, loss=LossConfig(audio_text=1.0)))
    params, stats = task.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    batch = {
        "video": rng.integers(0, 256, (B, 2, 32, 32, 3), dtype=np.uint8),
        "audio": rng.normal(size=(B, 1_024)).astype(np.float32),
        "text": rng.integers(1, 256, (B, K, 6), dtype=np.int32),
        "video_mask": np.arange(B) != 3,
        "audio_mask": ~np.isin(np.arange(B), [0, 4]),
        "text_mask": np.ones((B, K), bool),
    }
    batch["text_mask"][1], batch["text_mask"][2, 1:] = False, False
    gradient = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    return lambda batch: jax.device_get(gradient(params, stats, batch, jax.random.key(1))), batch, stats


@pytest.mark.parametrize("modality", ["video", "audio", "text"])
def test_a_masked_row_moves_no_loss_no_gradient_and_no_statistic_by_a_bit(trained, modality):
    step, batch, _ = trained
    masked = ~batch[f"{modality}_mask"]
    before = step(batch)
    for rows, same in ((masked, True), (~masked, False)):
        other = batch[modality].copy()
        other[rows] = other[rows][..., ::-1, :] if modality == "video" else other[rows][..., ::-1]
        after = step(batch | {modality: other})
        equal = jax.tree.leaves(jax.tree.map(np.array_equal, after, before))
        assert all(equal) is same


@pytest.mark.parametrize("modality", ["video", "audio", "text"])
def test_a_batch_without_a_modality_has_a_finite_loss_and_leaves_its_statistics_alone(trained, modality):
    step, batch, stats = trained
    mask = f"{modality}_mask"
    (loss, (after, metrics)), gradients = step(batch | {mask: np.zeros_like(batch[mask])})
    assert np.isfinite(loss)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))
    pairs = ("video_audio", "video_text", "audio_text")
    assert {pair for pair in pairs if metrics[f"loss/{pair}"] == 0} == {pair for pair in pairs if modality in pair}
    heads = [name for name in after["heads"] if name.startswith(modality)]
    assert heads
    for name, before in stats["heads"].items():
        unchanged = jax.tree.leaves(jax.tree.map(np.array_equal, after["heads"][name], jax.device_get(before)))
        assert all(unchanged) is (name in heads)
