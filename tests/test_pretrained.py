"""A checkpoint as a library: embeddings of files and words, in Python."""

import shutil
import wave
from dataclasses import replace

import numpy as np
import pytest

import vatt
from tests.oddfiles import damaged, short, text, tone, write
from vatt.data.sources import open_file
from vatt.data.windows import decode_windows, groups, window_starts
from vatt.errors import CheckpointError, ConfigError, DataError, MediaError


@pytest.fixture(scope="module")
def model(tiny_run):
    return vatt.load(tiny_run)


@pytest.fixture(scope="module")
def clip(demo_media):
    return sorted((demo_media / "heldout").glob("*.mp4"))[0]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Seven seconds whose pictures and sound change all the time, with a key frame every half a second."""
    path, rng = tmp_path_factory.mktemp("film") / "film.mp4", np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(175)]
    write(path, pictures=pictures, sound=rng.normal(size=7 * 48_000) / 9)
    return path


def test_words_and_files_lie_in_one_space_at_unit_length(model, clip):
    words = model.embed_text(["a red circle", "it moves left"])
    video, audio = model.embed_video(clip), model.embed_audio(clip)
    assert words.shape == (2, model.cfg.model.heads.vt_width)
    for x in (words, video.va, video.vt, audio.va, audio.vt):
        np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, atol=1e-5)
        assert x.dtype == np.float32
    assert video.vt.shape[1] == words.shape[1]
    assert video.va.shape[1] == audio.va.shape[1] == model.cfg.model.heads.va_width


def test_a_text_alone_is_refused_rather_than_read_letter_by_letter(model):
    with pytest.raises(TypeError, match="give \\['a red circle'\\]"):
        model.embed_text("a red circle")


def test_windows_touch_or_hop_and_the_last_ends_with_the_file(model, film):
    seconds, end = model.cfg.clip.seconds, open_file(film, 1.0).end
    touching = model.embed_video(film)
    np.testing.assert_allclose(touching.start, [*(i * seconds for i in range(6)), end - seconds], atol=1e-6)
    np.testing.assert_allclose(touching.end - touching.start, seconds)
    hopping = model.embed_audio(film, hop=2.0)
    np.testing.assert_allclose(hopping.start, [0, 2, 4, end - seconds], atol=1e-6)
    assert len({row.tobytes() for row in touching.vt}) == 7  # each is of its own time


def test_a_run_that_shows_short_files_over_and_over_embeds_them_so(model, tmp_path):
    short(tmp_path / "short.mp4")
    repeating = replace(model, cfg=replace(model.cfg, clip=replace(model.cfg.clip, short="repeat")))
    for windows in (repeating.embed_video(tmp_path / "short.mp4"), repeating.embed_audio(tmp_path / "short.mp4")):
        assert (windows.start, windows.end) == (0, pytest.approx(0.5, abs=0.05))
    with pytest.raises(MediaError, match="a clip lasts"):
        model.embed_video(tmp_path / "short.mp4")


@pytest.mark.parametrize("hop", [0.5, 0.25, 1.0])
def test_windows_that_are_decoded_together_show_what_each_shows_alone(model, film, hop):
    clip, canvas, item = model.cfg.clip, model.cfg.canvas, open_file(film, 1.0)
    starts = window_starts(item, clip.seconds, hop)
    parts = groups(item, starts, clip, hop=hop, canvas=canvas)
    assert [start for part in parts for start in part] == starts
    assert max(map(len, parts)) >= 5
    together = [w for part in parts for w in decode_windows(item, part, clip, hop=hop, canvas=canvas)]
    alone = [w for start in starts for w in decode_windows(item, [start], clip, hop=hop, canvas=canvas)]
    for one, other in zip(together, alone, strict=True):
        assert one.start == other.start
        assert one.clip.keys() == other.clip.keys() == {"video", "video_box", "video_colour", "audio"}
        for name in ("video", "video_box", "video_colour"):
            np.testing.assert_array_equal(one.clip[name], other.clip[name])
        # The resampling filter sums its terms in another order.
        assert np.abs(one.clip["audio"].astype(int) - other.clip["audio"]).max() <= 1


def test_windows_off_the_grid_of_frames_are_decoded_one_by_one(model, film):
    clip, item = model.cfg.clip, open_file(film, 1.0)
    starts = window_starts(item, clip.seconds, 0.3)
    assert groups(item, starts, clip, hop=0.3, canvas=64) == [[start] for start in starts]


def test_damage_costs_the_windows_it_lies_in(model, tmp_path):
    damaged(tmp_path / "film.mp4", 0.0)
    windows = model.embed_video(tmp_path / "film.mp4", hop=0.125)
    assert windows.errors
    assert {error.kind for error in windows.errors} == {"damaged"}
    whole = window_starts(open_file(tmp_path / "film.mp4", 1.0), model.cfg.clip.seconds, 0.125)
    assert 0 < len(windows.start) == len(whole) - len(windows.errors)


def test_the_hash_is_of_the_weights(tiny_run, model):
    assert len(model.hash) == 16
    assert vatt.load(tiny_run).hash == model.hash
    assert vatt.load(tiny_run, step=2).hash == model.hash
    changed = {**model.params, "extra": np.zeros(1)}
    assert replace(model, params=changed).hash != model.hash


def test_files_that_give_nothing_are_named_with_what_is_the_matter(model, tmp_path, clip):
    text(tmp_path / "text.mp4")
    short(tmp_path / "short.mp4")
    write(tmp_path / "mute.mp4", pictures=[np.zeros((64, 64, 3), np.uint8)] * 40)
    write(tmp_path / "silent.mp4", pictures=[np.zeros((64, 64, 3), np.uint8)] * 40, sound=np.zeros(80_000))
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes((tone(2, 8000) * 30_000).astype("<i2").tobytes())
    assert len(model.embed_audio(tmp_path / "tone.wav").va) == 2
    for name, embed, kind in (
        ("text.mp4", model.embed_video, "unreadable"),
        ("nowhere.mp4", model.embed_video, "missing"),
        ("short.mp4", model.embed_video, "too_short"),
        ("mute.mp4", model.embed_audio, "no_audio"),
        ("silent.mp4", model.embed_audio, "silent"),
        ("tone.wav", model.embed_video, "no_video"),
    ):
        with pytest.raises(MediaError, match=name.replace(".", r"\.")) as error:
            embed(tmp_path / name)
        assert error.value.kind == kind
    for hop in (-1.0, float("nan"), 0.001):
        with pytest.raises(ConfigError, match="hop"):
            model.embed_video(clip, hop=hop)


def test_words_that_the_model_does_not_know_are_not_embedded(model):
    assert model.embed_text([]).shape == (0, model.cfg.model.heads.vt_width)
    for nothing in ("", " ... "):
        with pytest.raises(DataError, match="no words"):
            model.embed_text(["a circle", nothing])
    with pytest.raises(DataError, match="'axolotl zebra' holds no word that the model knows"):
        model.embed_text(["axolotl zebra"])
    # What is cut off does not count.
    with pytest.raises(DataError, match="no word that the model knows"):
        model.embed_text(["axolotl " * model.cfg.clip.words + "circle"])
    assert len(model.embed_text(["axolotl circle"])) == 1


def test_runs_that_are_none_are_refused(tiny_run, tmp_path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        vatt.load(tmp_path)
    shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(CheckpointError):
        vatt.load(tmp_path / "run")
    with pytest.raises(CheckpointError, match="7"):
        vatt.load(tiny_run, step=7)


def test_the_example_of_the_readme(tiny_run, clip, film):
    model = vatt.load(tiny_run)
    film = model.embed_video(film, hop=0.5)  # windows: film.start, film.end in seconds
    words = model.embed_text(["a red circle", "a blue square"])  # [2 E], unit vectors
    scores = film.vt @ words.T  # [windows 2], cosines
    best = scores[:, 0].argmax()
    print(f"most like a red circle from {film.start[best]:.1f} to {film.end[best]:.1f} s: {scores[best, 0]:.2f}")

    sound = model.embed_audio(clip)
    heard = film.va @ sound.va.mean(axis=0)  # which windows sound like that file
    assert scores.shape == (len(film.start), 2)
    assert heard.shape == film.start.shape
    assert np.abs(scores).max() <= 1.001
