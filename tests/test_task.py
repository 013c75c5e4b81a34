"""The pretraining task: which rows of a batch take part in which loss."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from vatt.config import Config, LossConfig
from vatt.models.heads import unit
from vatt.presets import tiny
from vatt.tasks.pretrain import Pretrain

B, K, E = 6, 3, 8
FORMS = ["joint_once", "joint", "separate", "sigmoid"]


@pytest.fixture
def batch():
    """Embeddings; clips 0 and 4 have no sound, and clip 1 no captions, clip 2 but one."""
    rng = np.random.default_rng(0)
    z = {name: rng.normal(size=(B, E)) for name in ("z_va", "z_av", "z_vt", "z_at")} | {
        "z_tv": rng.normal(size=(B, K, E))
    }
    text_mask, audio_mask = np.ones((B, K), bool), np.ones(B, bool)
    text_mask[1], text_mask[2, 1:], audio_mask[[0, 4]] = False, False, False
    return {name: unit(jnp.float32(x)) for name, x in z.items()}, {"text_mask": text_mask, "audio_mask": audio_mask}


def value(form, pair, z, masks):
    model = replace(tiny(), heads=replace(tiny().heads, audio_text=True))
    task = Pretrain(Config(model=model, loss=LossConfig(form=form, audio_text=1.0)))
    return float(task.pair_loss(pair, z, masks, {"bias": jnp.float32(-10.0)}))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("pair", "name", "mask"),
    [("video_audio", "z_av", "audio_mask"), ("video_text", "z_tv", "text_mask"), ("audio_text", "z_tv", "text_mask"),
     ("audio_text", "z_at", "audio_mask")],
)  # fmt: skip
def test_what_is_masked_changes_no_loss_and_what_is_not_does(batch, form, pair, name, mask):
    z, masks = batch
    before = value(form, pair, z, masks)
    for rows, same in ((~masks[mask], True), (masks[mask], False)):
        other = np.array(z[name])
        other[rows] = other[rows][:, ::-1]
        after = value(form, pair, z | {name: jnp.asarray(other)}, masks)
        assert (after == before) is same
