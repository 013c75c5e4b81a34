"""What the device makes of a batch: resizing against Pillow, colour against published formulas and colorsys, and what
augmentation draws."""

import colorsys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from tests.test_collectives import COLLECTIVE
from vatt import sharding
from vatt.config import AugmentConfig, ClipConfig, Config, MeshConfig, VideoConfig
from vatt.data.crops import training_crop
from vatt.data.items import Decoded, Item
from vatt.data.media import canvas
from vatt.data.media.clip import decode_clip
from vatt.presets import tiny
from vatt.transforms import colour_matrices, draw, recolour, saturate, to_model, triangle, turn_hue

B, T, SIZE, CANVAS, SAMPLES = 8, 2, 32, 48, 1024
CLIP = ClipConfig(frames=T, size=SIZE, samples=SAMPLES, sample_rate=8_000)
PLAIN = AugmentConfig(flip=0.0, colour=0.0)
BASE = Config(clip=CLIP, model=replace(tiny(), video=VideoConfig(patch=(1, 16, 16))))

# R, G, B of Y - black, U - 128, V - 128 in levels, as ITU-R BT.601, BT.709 and JFIF are printed; by `video_colour`.
PUBLISHED = {
    0: (16, [[1.164383, 0, 1.596027], [1.164383, -0.391762, -0.812968], [1.164383, 2.017232, 0]]),
    1: (16, [[1.164383, 0, 1.792741], [1.164383, -0.213249, -0.532909], [1.164383, 2.112402, 0]]),
    2: (0, [[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]),
    3: (0, [[1, 0, 1.5748], [1, -0.187324, -0.468124], [1, 1.8556, 0]]),
}


def config(**augment) -> Config:
    return replace(BASE, augment=AugmentConfig(**augment))


def raw(seed=0, *, side=CANVAS, clips=B):
    """Raw clips: smooth random pictures, boxes anywhere on the canvas, smaller and larger than the clip, and sound."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (clips * T, side * 3 // 16, side // 8), dtype=np.uint8)
    video = [np.asarray(Image.fromarray(x).resize((side, side * 3 // 2), Image.Resampling.BICUBIC)) for x in coarse]
    length = rng.uniform(side / 4, side, (clips, 2))
    length[0] = side
    box = np.concatenate([rng.uniform(0, side - length), length], axis=1) // (1 / 64) / 64  # so that sums are exact
    if side == SIZE:
        box[:] = [0, 0, side, side]
    return {
        "video": np.stack(video).reshape(clips, T, side * 3 // 2, side),
        "video_box": box.astype(np.float32),
        "video_colour": np.arange(clips, dtype=np.int32) % 4,
        "audio": rng.integers(-20_000, 20_000, (clips, SAMPLES)).astype(np.int16),
    }


def jitted(cfg: Config):
    return jax.jit(lambda batch, key: to_model(batch, cfg, key))


def run(cfg: Config, batch: dict, key=None) -> dict:
    return jitted(cfg)(batch, key)


def pillow(plane: np.ndarray, box, mode: str) -> np.ndarray:
    """The box of a plane as Pillow resizes it; pixels that the box does not touch are cut off before."""
    top, left, height, width = (float(x) for x in box)
    first, start = int(top), int(left)
    part = plane[first : int(np.ceil(top + height)), start : int(np.ceil(left + width))]
    y, x = top - first, left - start
    bounds = (x, y, min(x + width, part.shape[1]), min(y + height, part.shape[0]))
    image = Image.fromarray(part.astype(np.float32) if mode == "F" else part)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=bounds), np.float64)


def reference(batch: dict, mode: str) -> np.ndarray:
    """[B T H W C] in levels of 0 to 255, by Pillow and the published matrices."""
    side = batch["video"].shape[-1]
    clips = []
    for canvases, box, colour in zip(batch["video"], batch["video_box"], batch["video_colour"], strict=True):
        black, matrix = PUBLISHED[int(colour)]
        for picture in canvases:
            chroma = picture[side:]
            planes = [(picture[:side], box), (chroma[:, : side // 2], box / 2), (chroma[:, side // 2 :], box / 2)]
            yuv = np.stack([pillow(plane, where, mode) for plane, where in planes], axis=-1)
            clips.append(((yuv - [black, 128, 128]) @ np.array(matrix).T).clip(0, 255))
    return np.stack(clips).reshape(len(batch["video"]), T, SIZE, SIZE, 3)


@pytest.mark.parametrize("side", [CANVAS, SIZE], ids=["resized", "exact"])
def test_pictures_equal_pillow_and_the_published_matrices(side):
    cfg, batch = config(resize="device" if side == CANVAS else "host"), raw(side=side)
    video = np.asarray(run(cfg, batch)["video"], np.float64)
    assert video.shape == (B, T, SIZE, SIZE, 3)
    levels = (video + 1) * 127.5
    np.testing.assert_allclose(levels, reference(batch, "F"), atol=0.02)
    # Pillow rounds each plane after each of its two passes: a level of luma and of chroma.
    assert np.abs(levels - reference(batch, "L")).max() < 1.16 + 2.12


def test_pictures_equal_those_that_the_host_makes_for_people_to_see():
    for side, resize in ((CANVAS, "device"), (SIZE, "host")):
        batch = raw(1, side=side)
        levels = (np.asarray(run(config(resize=resize), batch)["video"], np.float64) + 1) * 127.5
        clips = zip(batch["video"], batch["video_box"], batch["video_colour"], strict=True)
        seen = np.stack([canvas.to_rgb(video, box, int(colour), SIZE) for video, box, colour in clips])
        assert np.abs(levels - seen).max() < 0.52  # the host rounds to whole levels


@pytest.mark.parametrize(("width", "height"), [(96, 40), (30, 64), (49, 37)])
def test_from_frames_of_any_size_to_the_clip(width, height):
    """A picture that knows its coordinates goes through crop, canvas and device, and comes out where it belongs."""
    ramp = np.stack(np.broadcast_arrays(
        np.arange(width) * 2.0, np.arange(height)[:, None] * 3.0, 128.0), -1).astype(np.uint8)  # fmt: skip
    item = Item(id="ramp", media=Decoded("ramp", video=np.stack([ramp] * 10), fps=10), start=0.0, end=1.0,
                captions=(), has_video=True, has_audio=False)  # fmt: skip
    for resize in ("device", "host"):
        cfg = config(resize=resize, flip=0, colour=0)
        for seed in range(4):
            crop = training_crop(cfg.augment, np.random.default_rng(seed))
            clip = decode_clip(item, 0.0, cfg.clip, crop=crop, canvas=cfg.canvas)
            video = run(cfg, {name: x[None] for name, x in clip.items()})["video"]
            levels = (np.asarray(video[0, 0], np.float64) + 1) * 127.5
            box, at = crop(width, height), (np.arange(SIZE) + 0.5) / SIZE
            red = (box.left + at * box.width - 0.5) * 2
            green = (box.top + at * box.height - 0.5) * 3
            inner = slice(4, -4)  # at its ends a triangle lacks a half
            assert np.abs(levels[inner, inner, 0] - red[inner]).max() < 5  # chroma comes at half the resolution
            assert np.abs(levels[inner, inner, 1] - green[inner, None]).max() < 5


def test_a_line_is_resampled_as_pillow_does_whatever_the_scale():
    rng = np.random.default_rng(0)
    for size in (3, 16, 40):
        for _ in range(20):
            length = rng.uniform(0.5, 24)
            start = rng.uniform(0, 24 - length)
            weights = np.asarray(triangle(jnp.float32(start), jnp.float32(length), pixels=24, size=size))
            np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
            first, last = int(start), int(np.ceil(start + length))
            part = np.eye(24, dtype=np.float32)[first:last]  # [pixels of the part, 24]: one column a pixel
            image = Image.fromarray(np.ascontiguousarray(part))
            bounds = (0, start - first, 24, min(start - first + length, last - first))
            expected = np.asarray(image.resize((24, size), Image.Resampling.BILINEAR, box=bounds))
            np.testing.assert_allclose(weights, expected, atol=2e-5)


def test_tf32_products_err_by_a_fifth_of_a_level():
    """What the choice of precision in vatt/transforms.py rests on, with products rounded as a GPU's."""
    rng = np.random.default_rng(0)
    rounded = lambda x: jax.lax.reduce_precision(x, 8, 10)  # noqa: E731
    worst = 0.0
    for _ in range(10):
        x = jnp.float32(rng.integers(0, 2, (32, 32)).repeat(8, 0).repeat(8, 1) * 255)
        height, width = rng.uniform(60, 256, 2)
        rows = triangle(rng.uniform(0, 256 - height), height, pixels=256, size=224)
        columns = triangle(rng.uniform(0, 256 - width), width, pixels=256, size=224)
        exact = np.asarray(rows, float) @ (np.asarray(x, float) @ np.asarray(columns, float).T)
        worst = max(worst, np.abs(rounded(rows) @ rounded(x @ rounded(columns).T) - exact).max())
    assert 0.01 < worst < 0.25


def test_pixels_outside_the_box_have_no_influence():
    cfg, batch = config(), raw()
    batch["video_box"] = np.tile(np.array([10, 14, 20, 17.5], np.float32), (B, 1))
    before = run(cfg, batch)["video"]
    inside = np.zeros((CANVAS * 3 // 2, CANVAS), bool)
    inside[10:30, 14:32] = True
    inside[CANVAS + 5 : CANVAS + 15, 7:16] = inside[CANVAS + 5 : CANVAS + 15, 24 + 7 : 24 + 16] = True
    outside = batch | {"video": np.where(inside, batch["video"], 255 - batch["video"])}
    np.testing.assert_array_equal(run(cfg, outside)["video"], before)
    other = batch | {"video": np.where(inside, 255 - batch["video"], batch["video"])}
    assert not np.array_equal(run(cfg, other)["video"], before)


def test_colour_matrices_are_the_published_ones():
    matrices, offsets = colour_matrices()
    for colour, (black, matrix) in PUBLISHED.items():
        np.testing.assert_allclose(matrices[colour] * 255, matrix, atol=1e-6)
        np.testing.assert_allclose(offsets[colour] * 255, -np.array(matrix) @ [black, 128, 128], atol=1e-3)


def colours() -> np.ndarray:
    """[N 3] as they stand after a change of brightness: within -0.12 to 1.12, with greys and pure colours."""
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(*[[0.0, 0.5, 1.0]] * 3), -1).reshape(-1, 3)
    greys = np.repeat(np.linspace(0, 1, 5)[:, None], 3, axis=1)
    mixed = rng.uniform(-0.12, 1.12, (500, 3))
    return np.concatenate([corners, greys, mixed[mixed.max(1) > 0]])


def in_hsv(rgb: np.ndarray, change) -> np.ndarray:
    """`change(h, s, v)` -> h, s, v for each of [N 3], by colorsys."""
    return np.array([colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*x))) for x in rgb])


def as_planes(rgb: np.ndarray) -> list[jax.Array]:  # [N 3] -> 3 x [1 1 1 N]
    return [jnp.asarray(x, jnp.float32)[None, None, None] for x in rgb.T]


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
def test_saturation_equals_colorsys(factor):
    rgb = colours()
    got = np.stack(saturate(as_planes(rgb), jnp.float32(factor)), -1)[0, 0, 0]
    expected = in_hsv(rgb, lambda h, s, v: (h, min(1.0, s * factor), v))
    np.testing.assert_allclose(got, expected, atol=2e-6)
    negative = np.array([[-0.1, -0.2, -0.05]])  # no saturation is defined: grey, as TensorFlow has it
    np.testing.assert_allclose(saturate(as_planes(negative), jnp.float32(factor)), -0.05)


@pytest.mark.parametrize("turn", [-0.2, 0.0, 0.13, 0.5])
def test_hue_equals_colorsys(turn):
    rgb = colours()
    got = np.stack(turn_hue(as_planes(rgb), jnp.float32(turn)), -1)[0, 0, 0]
    np.testing.assert_allclose(got, in_hsv(rgb, lambda h, s, v: ((h + turn) % 1, s, v)), atol=3e-6)


def test_colour_changes_follow_dmvrs_order():
    rng = np.random.default_rng(0)
    rgb = rng.uniform(0, 1, (3, T, 5, 6, 3))  # [B T H W C]
    draws = {"colour": [True, False, True], "brightness": [0.1, 0.1, -0.12], "saturation": [1.4, 0.6, 0.7],
             "contrast": [0.6, 1.4, 1.35], "hue": [0.15, 0.1, -0.2]}  # fmt: skip
    expected = rgb.copy()
    for i in (0, 2):
        for t in range(T):
            x = (rgb[i, t] + draws["brightness"][i]).reshape(-1, 3)
            x = in_hsv(x, lambda h, s, v, i=i: (h, min(1.0, s * draws["saturation"][i]), v))
            x = (x - x.mean(0)) * draws["contrast"][i] + x.mean(0)
            x = in_hsv(x, lambda h, s, v, i=i: ((h + draws["hue"][i]) % 1, s, v))
            expected[i, t] = x.clip(0, 1).reshape(5, 6, 3)
    planes = [jnp.asarray(rgb[..., c], jnp.float32) for c in range(3)]
    got = np.stack(recolour(planes, {name: jnp.asarray(x) for name, x in draws.items()}), -1)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_array_equal(got[1], np.float32(rgb[1]))


def test_what_is_drawn_has_the_shares_and_ranges_of_the_config():
    cfg = AugmentConfig(flip=0.3)
    draws = {name: np.asarray(x) for name, x in draw(jax.random.split(jax.random.key(0), 4000), cfg).items()}
    assert draws["flip"].mean() == pytest.approx(0.3, abs=0.03)
    assert draws["colour"].mean() == pytest.approx(0.8, abs=0.03)
    for name, centre, reach in (
        ("brightness", 0, 32 / 255),
        ("saturation", 1, 0.4),
        ("contrast", 1, 0.4),
        ("hue", 0, 0.2),
    ):
        assert stats.kstest(draws[name], stats.uniform(centre - reach, 2 * reach).cdf).pvalue > 0.01, name
    table = np.stack(list(draws.values())).astype(float)
    assert np.abs(np.corrcoef(table) - np.eye(6)).max() < 0.06  # drawn independently


def test_a_part_of_a_batch_is_varied_as_it_is_in_the_whole():
    cfg, key = config(audio_noise=0.05), jax.random.key(3)
    batch = raw()
    whole = run(cfg, batch, key)
    part = to_model({name: x[B - 1 :] for name, x in batch.items()}, cfg, key, first=B - 1)
    for name in ("video", "audio"):
        np.testing.assert_allclose(part[name], whole[name][B - 1 :], atol=1e-5)
    other = to_model({name: x[B - 1 :] for name, x in batch.items()}, cfg, key)
    assert np.abs(other["audio"] - part["audio"]).max() > 1e-3


@pytest.mark.parametrize("resize", ["device", "host"])
def test_a_flip_mirrors_whole_clips_and_nothing_else(resize):
    batch = raw(side=CANVAS if resize == "device" else SIZE)
    plain = np.asarray(run(config(resize=resize), batch)["video"])
    flipped = np.asarray(run(config(resize=resize, colour=0), batch, jax.random.key(1))["video"])
    mirrored = [np.abs(a - b[:, :, ::-1]).max() < 1e-5 for a, b in zip(flipped, plain, strict=True)]
    same = [np.abs(a - b).max() < 1e-5 for a, b in zip(flipped, plain, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 0 < sum(mirrored) < B


def test_every_frame_of_a_clip_is_varied_alike_and_every_clip_otherwise():
    batch = raw()
    for name in ("video", "video_box", "video_colour"):
        batch[name] = np.repeat(batch[name][:1], B, axis=0)
    batch["video"] = np.repeat(batch["video"][:, :1], T, axis=1)
    video = np.asarray(run(config(), batch, jax.random.key(0))["video"])
    np.testing.assert_array_equal(video[:, 0], video[:, 1])
    assert len({clip.tobytes() for clip in video}) >= B - 2  # those whose colours stay may come out alike
    assert np.abs(video).max() <= 1


def test_evaluation_is_not_varied_and_a_key_says_all():
    batch, cfg = raw(), config(audio_noise=0.01)
    plain = run(cfg, batch)
    for name, x in run(config(flip=0, colour=0), batch, jax.random.key(3)).items():
        np.testing.assert_array_equal(x, plain[name])
    first, again, other = (run(cfg, batch, jax.random.key(seed)) for seed in (3, 3, 4))
    for name in ("video", "audio"):
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
        assert not np.array_equal(first[name], plain[name])


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
def test_eight_devices_draw_what_one_does(pieces, monkeypatch):
    """Also a few frames at a time, as accelerators do it. XLA chooses kernels of sums and products by the shape that
    each device has, so that those of pictures may differ in the last bit of a float32; nothing else may."""
    cfg, batch = config(audio_noise=0.01), raw() | {"video_mask": np.arange(B) != 2}
    exact, small = config(resize="host", colour=0), raw(side=SIZE)
    key = jax.random.key(7)
    expected, unsummed = run(cfg, batch, key), run(exact, small, key)
    if pieces:
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for devices in (1, 8):
        mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:devices])
        with jax.set_mesh(mesh):
            compiled = jitted(cfg).lower(sharding.put_batch(batch, mesh), key).compile()
            assert not COLLECTIVE.findall(compiled.as_text())  # every device sees to its own clips
            got = compiled(sharding.put_batch(batch, mesh), key)
            without = run(exact, sharding.put_batch(small, mesh), key)
        assert len(got["video"].sharding.device_set) == devices
        np.testing.assert_allclose(got["video"], expected["video"], atol=1e-5)
        np.testing.assert_array_equal(got["audio"], expected["audio"])
        np.testing.assert_array_equal(without["video"], unsummed["video"])


def test_masked_clips_are_zero():
    mask = np.arange(B) % 3 != 0
    batch = raw() | {"video_mask": mask, "audio_mask": mask}
    out = run(config(audio_noise=0.01), batch, jax.random.key(0))
    for name in ("video", "audio"):
        silent = np.array([not np.any(x) for x in out[name]])
        np.testing.assert_array_equal(silent, ~mask)


def test_sound_is_scaled_and_its_noise_goes_by_its_loudest_sample():
    batch = {"audio": np.zeros((2, 20_000), np.int16)}
    batch["audio"][0, 5], batch["audio"][0, 6] = -32768, 16384
    plain = np.asarray(run(config(), batch)["audio"])
    assert (plain[0, 5], plain[0, 6], plain.dtype) == (-1, 0.5, np.float32)
    assert set(run(config(), batch)) == {"audio"}
    noisy = np.asarray(run(config(audio_noise=0.01), batch, jax.random.key(0))["audio"])
    np.testing.assert_array_equal(noisy[1], 0)
    assert stats.kstest((noisy - plain)[0] / 0.01, "norm").pvalue > 0.01


def test_what_is_ready_passes_as_it_is():
    batch = {"video": np.ones((B, T, SIZE, SIZE, 3), np.uint8), "audio": np.ones((B, SAMPLES), np.float32),
             "text": np.ones((B, 5, 8), np.int32), "text_mask": np.ones((B, 5), bool)}  # fmt: skip
    out = to_model(batch, config(audio_noise=0.01), jax.random.key(0))
    assert all(out[name] is batch[name] for name in batch)
    assert set(out) == set(batch)


def test_pictures_come_in_the_type_that_the_model_computes_in():
    cfg = replace(BASE, augment=PLAIN, model=replace(BASE.model, dtype="bfloat16"))
    rough, exact = run(cfg, raw())["video"], run(config(), raw())["video"]
    assert (rough.dtype, exact.dtype) == (jnp.bfloat16, jnp.float32)
    assert np.abs(np.float32(rough) - exact).max() <= 2**-8


def test_a_canvas_of_another_size_is_refused():
    with pytest.raises(ValueError, match="makes them 32 wide"):
        to_model(raw(side=CANVAS), config(resize="host"), None)
