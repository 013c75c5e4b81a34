"""The model against an independent implementation in PyTorch."""

import dataclasses

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tools import torch_reference  # noqa: E402
from vatt import presets  # noqa: E402
from vatt.config import ClipConfig, Config  # noqa: E402
from vatt.tasks.pretrain import Pretrain  # noqa: E402

CLIP = ClipConfig(frames=4, fps=8, size=32, sample_rate=8000, samples=1024, words=8)
B = 6


def config() -> Config:
    model = presets.tiny()  # all tokens are kept: the two frameworks draw different ones
    model = dataclasses.replace(
        model,
        video=dataclasses.replace(model.video, keep=1.0),
        audio=dataclasses.replace(model.audio, keep=1.0),
    )
    return Config(batch_size=B, steps=10, clip=CLIP, model=model)


def make_batch() -> dict:
    r = np.random.default_rng(0)
    text = r.integers(2, 256, (B, 5, 8)).astype(np.int32)
    text[:, :, 6:] = 0
    return {
        "video": r.integers(0, 256, (B, 4, 32, 32, 3), dtype=np.uint8),
        "audio": r.normal(size=(B, 1024)).astype(np.float32),
        "text": text,
        "audio_mask": np.arange(B) != 2,
        "text_mask": r.random((B, 5)) < 0.7,
    }


@pytest.fixture(scope="module")
def jax_result():
    task = Pretrain(config())
    params, stats = jax.jit(task.init)(jax.random.key(0))
    gradient = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    (loss, _), grads = gradient(params, stats, make_batch(), jax.random.key(1))
    return params, float(loss), grads


@pytest.mark.parametrize(("attention", "last_block"), [("sdpa", "agg"), ("plain", "agg"), ("plain", "all")])
def test_same_weights_give_the_same_loss_and_gradients(attention, last_block, jax_result):
    cfg, batch = config(), make_batch()
    params, expected, grads = jax_result
    model = torch_reference.TorchVatt(cfg, attention=attention, last_block=last_block)
    torch_reference.load(model, params)
    loss = model(torch_reference.tensors(batch))
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5)

    block = model.encoders["text"].blocks[0]
    ours = grads["encoders"]["text"]["blocks"]["attention"]["qkv"]["kernel"][0]
    np.testing.assert_allclose(block.qkv.weight.grad.numpy().T, ours, rtol=1e-3, atol=1e-5)
    ours = grads["tokenizers"]["text"]["relative_bias"]
    np.testing.assert_allclose(model.relative_bias.grad.numpy(), ours, rtol=1e-3, atol=1e-5)
    ours = grads["tokenizers"]["video"]["project"]["kernel"]
    theirs = model.patches["video"].project.weight.grad.numpy().T
    np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-5)
