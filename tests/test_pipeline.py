import dataclasses
import multiprocessing
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from vatt.config import ClipConfig
from vatt.data.captions import Caption
from vatt.data.demo import make_demo
from vatt.data.manifest import scan
from vatt.data.media import decode_clip
from vatt.data.pipeline import TrainStream, evaluation_batches
from vatt.data.text import Vocabulary
from vatt.errors import DataError, MediaError

CLIP = ClipConfig(frames=4, fps=8.0, size=32, sample_rate=8000, samples=4000, candidates=3, words=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "media"
    make_demo(folder, clips=20, heldout=7)
    return folder


@pytest.fixture(scope="module")
def items(folder):
    return scan(folder / "train", seconds=CLIP.seconds)


@pytest.fixture(scope="module")
def vocabulary(items):
    return Vocabulary.build([caption.text for item in items for caption in item.captions], 200)


@pytest.fixture
def stream(items, vocabulary):
    def make(items=items, batch_size=6, seed=0, workers=2, worker_kind="thread", clip=CLIP):
        return TrainStream(
            items,
            clip=clip,
            vocabulary=vocabulary,
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            worker_kind=worker_kind,
        )

    return make


def take(batches, count):
    try:
        return [next(batches) for _ in range(count)]
    finally:
        batches.close()


def assert_same(a: dict, b: dict):
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_shapes_and_types(stream):
    batch = stream().batch(0)
    assert {name: (value.shape, value.dtype) for name, value in batch.items() if name != "ids"} == {
        "video": ((6, 4, 32, 32, 3), np.uint8),
        "audio": ((6, 4000), np.float32),
        "audio_mask": ((6,), bool),
        "text": ((6, 3, 6), np.int32),
        "text_mask": ((6, 3), bool),
    }
    assert len(batch["ids"]) == 6


@pytest.mark.parametrize(("workers", "worker"), [(1, "thread"), (2, "thread"), (4, "thread"), (2, "process")])
@pytest.mark.parametrize("start", [0, 5])
def test_a_batch_depends_on_the_step_alone(stream, workers, worker, start):
    reference = stream()
    for step, batch in enumerate(take(stream(workers=workers, worker_kind=worker).iterate(start), 4), start):
        assert_same(batch, reference.batch(step))
    assert_same(reference.batch(start), reference.batch(start))


def test_epochs_are_new_permutations_and_batches_run_across_them(stream, items):
    batches = take(stream().iterate(0), 10)  # 60 clips: three epochs of 20
    ids = [name for batch in batches for name in batch["ids"]]
    epochs = [ids[i : i + 20] for i in (0, 20, 40)]
    assert all(sorted(epoch) == [item.id for item in items] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_another_seed_gives_another_stream(stream):
    assert stream(seed=0).batch(0)["ids"] != stream(seed=1).batch(0)["ids"]


def test_clips_begin_anywhere_and_differ_between_epochs(stream, items):
    one = stream(items=items[:1], batch_size=12)
    batch = one.batch(0)
    assert batch["ids"] == [items[0].id] * 12
    assert len({video.tobytes() for video in batch["video"]}) > 3


def test_fewer_items_than_a_batch_are_repeated(stream, items):
    batch = stream(items=items[:2], batch_size=5).batch(7)
    assert len(batch["ids"]) == 5
    assert set(batch["ids"]) == {items[0].id, items[1].id}


def test_captions_are_those_nearest_and_missing_ones_are_masked(stream, items, vocabulary):
    word = vocabulary.words[2]
    talk = tuple(Caption(float(i), i + 1.0, f"{word} {i}") for i in range(9))
    item = dataclasses.replace(items[0], captions=talk)
    batch = stream(items=[item], batch_size=2).batch(0)
    assert batch["text_mask"].all()
    assert (batch["text"][:, :, 0] == 2).all()
    texts = [(), (Caption(0.0, 1.0, "..."),), (Caption(0.0, 1.0, "neverheard"),), (Caption(0.0, 1.0, word),)]
    variants = [dataclasses.replace(items[0], id=str(i), captions=text) for i, text in enumerate(texts)]
    batch = stream(items=variants, batch_size=4).batch(0)
    masks = dict(zip(batch["ids"], batch["text_mask"].tolist(), strict=True))
    assert masks == {"0": [False] * 3, "1": [False] * 3, "2": [True, False, False], "3": [True, False, False]}
    ids = dict(zip(batch["ids"], batch["text"][:, 0, 0].tolist(), strict=True))
    assert ids == {"0": 0, "1": 0, "2": 1, "3": 2}


def test_sound_is_masked_where_there_is_none(items, stream):
    silent = {item.id for item in items if not item.has_audio}
    assert silent
    batch = stream(batch_size=20).batch(0)
    assert {name for name, mask in zip(batch["ids"], batch["audio_mask"], strict=True) if not mask} == silent


@pytest.mark.parametrize("worker", ["thread", "process"])
def test_a_clip_that_fails_stops_the_stream_with_its_name(stream, items, tmp_path, worker):
    broken = dataclasses.replace(items[3], path=str(tmp_path / "gone.mp4"))
    bad = stream(items=[*items[:3], broken], worker_kind=worker)
    with pytest.raises(MediaError, match=r"gone\.mp4: no such file"):
        take(bad.iterate(0), 5)
    with pytest.raises(MediaError, match=r"gone\.mp4"):
        [bad.batch(step) for step in range(5)]
    with pytest.raises(MediaError, match=r"gone\.mp4"):
        list(evaluation_batches([broken], clip=CLIP, vocabulary=bad.decoder.vocabulary, windows=1, batch_size=2))


def test_a_worker_that_is_killed_is_said_plainly(stream):
    batches = stream(worker_kind="process").iterate(0)
    next(batches)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(DataError, match="process that decodes clips has died"):
        take(batches, 40)


def test_no_items_is_an_error(stream):
    with pytest.raises(DataError, match="no clips"):
        stream(items=[])


def test_a_program_that_stops_in_the_middle_exits_in_silence(folder):
    """Neither closed nor exhausted streams may hang the exit or write tracebacks."""
    program = textwrap.dedent(f"""
        from vatt.config import ClipConfig
        from vatt.data.manifest import scan
        from vatt.data.pipeline import TrainStream, evaluation_batches
        from vatt.data.text import Vocabulary
        clip = ClipConfig(frames=4, fps=8.0, size=32, sample_rate=8000, samples=4000)
        items = scan({str(folder / "train")!r}, seconds=clip.seconds)
        words = Vocabulary.build([], 2)
        stream = TrainStream(items, clip=clip, vocabulary=words, batch_size=4, seed=0)
        closed = stream.iterate(0); next(closed); closed.close()
        left = stream.iterate(3); next(left)
        more = evaluation_batches(items, clip=clip, vocabulary=words, windows=2, batch_size=3); next(more)
        unused = stream.iterate(0)
        print("done")
    """)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("windows", [1, 3])
def test_evaluation_sees_every_item_once_in_order(folder, vocabulary, windows):
    items = scan(folder / "heldout", seconds=CLIP.seconds)
    batches = list(evaluation_batches(items, clip=CLIP, vocabulary=vocabulary, windows=windows, batch_size=3))
    assert [batch["valid"].tolist() for batch in batches] == [[True] * 3, [True] * 3, [True, False, False]]
    assert [name for batch in batches for name in batch["ids"]] == [item.id for item in items]
    for batch in batches:
        assert batch["video"].shape == (3, windows, 4, 32, 32, 3)
        assert batch["audio"].shape == (3, windows, 4000)
        assert batch["text"].shape == (3, 6)
        assert (batch["text_mask"] == batch["valid"]).all()
        assert (batch["audio_mask"] == batch["valid"]).all()
    assert not batches[-1]["video"][1:].any()
    item, last = items[1], items[1].duration - CLIP.seconds
    starts = [last / 2] if windows == 1 else [0.0, last / 2, last]
    for window, start in enumerate(starts):
        expected = decode_clip(item.path, start, CLIP)
        np.testing.assert_array_equal(batches[0]["video"][1, window], expected["video"])
        np.testing.assert_array_equal(batches[0]["audio"][1, window], expected["audio"])
    assert batches[0]["text"][1].tolist() == vocabulary.encode(item.captions[0].text, 6).tolist()
