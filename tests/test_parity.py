"""The same numbers however the work is laid out: devices, recomputation, scanned layers."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.test_models import batch_of
from vatt import sharding
from vatt.config import ClipConfig, Config, LossConfig, MeshConfig, OptimConfig
from vatt.presets import tiny
from vatt.tasks.pretrain import Pretrain
from vatt.train.step import make_state, make_step

CLIP = ClipConfig(frames=4, fps=4, size=32, sample_rate=4_000, samples=1_024, candidates=3, words=6)
NARROW = replace(tiny().video.encoder, depth=2, width=48, mlp_width=96)
MODEL = replace(
    tiny(),
    video=replace(tiny().video, encoder=NARROW),
    audio=replace(tiny().audio, encoder=NARROW),
    text=replace(tiny().text, encoder=replace(NARROW, style="t5")),
    layers="scan",  # traces and compiles one layer a tower
)
CONFIG = Config(
    steps=10, batch_size=16, clip=CLIP, model=MODEL, optim=OptimConfig(learning_rate=1e-3, warmup_steps=1, ema=0.5)
)


def losses(cfg: Config, devices: int = 1, steps: int = 3) -> tuple[list[dict], dict, list[dict]]:
    """Metrics of each step, the last state, and the parameters before and after each step."""
    mesh = sharding.make_mesh(cfg.mesh, jax.devices()[:devices])
    task = Pretrain(cfg)
    batch = batch_of(cfg.batch_size)
    batch["text_mask"][:5] = False  # and so no device has the same share of captions
    batch["text_mask"][7, 1:] = False
    batch["audio_mask"][3] = False
    history, first_stats, params = [], {}, []
    with jax.set_mesh(mesh):
        state, step = make_state(cfg, task, mesh), make_step(cfg, task, mesh)
        params.append(jax.device_get(state["params"]))
        for _ in range(steps):
            state, metrics = step(state, sharding.put_batch(batch, mesh))
            params.append(jax.device_get(state["params"]))
            history.append({name: float(x) for name, x in metrics.items()})
            if len(history) == 1:  # later ones carry what Adam makes of rounding where a gradient is almost 0
                first_stats = jax.device_get(state["stats"])
    return history, jax.device_get(state) | {"first_stats": first_stats}, params


def assert_same(a, b, rtol=1e-4):
    for one, other in zip(a[0], b[0], strict=True):
        assert one == pytest.approx(other, rel=rtol)


@pytest.fixture(scope="module")
def alone():
    return losses(CONFIG)


def test_eight_devices_give_what_one_gives(alone):
    eight = losses(CONFIG, devices=8)
    assert_same(alone, eight)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *(x[1]["first_stats"] for x in (alone, eight))
    )


def test_parameters_split_over_fsdp_give_what_whole_ones_give(alone, monkeypatch):
    monkeypatch.setattr(sharding, "SHARD_FROM", 512)
    assert_same(alone, losses(replace(CONFIG, mesh=MeshConfig(fsdp=4)), devices=8))


def test_recomputing_layers_changes_no_number(alone):
    assert_same(alone, losses(replace(CONFIG, model=replace(CONFIG.model, remat="full"))))


def test_scanned_layers_give_what_unrolled_ones_give(alone):
    assert_same(alone, losses(replace(CONFIG, model=replace(CONFIG.model, layers="unroll"))))


def test_the_same_seed_gives_the_same_losses_and_another_does_not(alone):
    again, other = losses(CONFIG), losses(replace(CONFIG, seed=1))
    assert alone[0] == again[0]
    assert alone[0] != other[0]


def test_every_step_drops_other_tokens():
    """The same parameters and the same batch, at another step."""
    mesh = sharding.make_mesh(CONFIG.mesh, jax.devices()[:1])
    task, batch = Pretrain(CONFIG), batch_of(CONFIG.batch_size)
    found = []
    with jax.set_mesh(mesh):
        step = make_step(CONFIG, task, mesh)
        for number in (0, 1, 0):
            state = make_state(CONFIG, task, mesh)  # the step donates it
            at = jax.device_put(np.int32(number), state["step"].sharding)
            _, metrics = step(state | {"step": at}, sharding.put_batch(batch, mesh))
            found.append(float(metrics["loss"]))
    assert found[0] == found[2] != found[1]


def test_the_averaged_weights_lag_behind(alone):
    kernel = lambda tree: tree["heads"]["audio_va"]["dense"]["kernel"]  # noqa: E731
    mean = kernel(alone[2][0])  # before the first step the mean is the parameters
    for params in alone[2][1:]:
        mean = CONFIG.optim.ema * mean + (1 - CONFIG.optim.ema) * kernel(params)
    np.testing.assert_allclose(kernel(alone[1]["ema"]), mean, rtol=1e-6, atol=1e-8)
    assert np.abs(kernel(alone[2][-1]) - mean).max() > 1e-4


@pytest.mark.parametrize("form", ["joint", "sigmoid", pytest.param("separate", marks=pytest.mark.slow)])
def test_every_form_of_the_loss_learns_a_batch_by_heart(form):
    cfg = replace(
        CONFIG,
        steps=60,
        loss=LossConfig(form=form, temperature_mode="learned", audio_text=1.0),
        model=replace(CONFIG.model, heads=replace(CONFIG.model.heads, audio_text=True)),
        optim=replace(CONFIG.optim, ema=0.0),
    )
    history, _, _ = losses(cfg, steps=25)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert history[-1]["temperature/video_audio"] != pytest.approx(0.07, rel=1e-4)
    assert set(history[0]) >= {"loss/video_audio", "loss/video_text", "loss/audio_text"}


def test_the_mean_of_pairs_is_their_sum_over_their_weights():
    batch, key = batch_of(CONFIG.batch_size), jax.random.key(0)
    params, stats = jax.jit(Pretrain(CONFIG).init)(key)

    def metrics(loss: LossConfig) -> dict:
        task = Pretrain(replace(CONFIG, loss=loss))
        return jax.device_get(jax.jit(task.loss)(params, stats, batch, key)[1][1])

    summed, mean = metrics(LossConfig(video_text=3.0)), metrics(LossConfig(video_text=3.0, reduction="mean"))
    assert summed["loss"] == pytest.approx(summed["loss/video_audio"] + 3 * summed["loss/video_text"], rel=1e-5)
    assert mean["loss"] == pytest.approx(summed["loss"] / 4, rel=1e-5)
