"""The stream is a function of (seed, sources, step), whatever the hosts, workers and what came before."""

import dataclasses
import multiprocessing
import subprocess
import sys
import textwrap
from collections import Counter
from itertools import chain

import numpy as np
import pytest

from vatt.config import AugmentConfig, ClipConfig
from vatt.data.captions import Caption
from vatt.data.crops import centre
from vatt.data.demo import make_demo
from vatt.data.items import Decoded
from vatt.data.media.clip import decode_clip
from vatt.data.pipeline import TrainStream, evaluation_batches
from vatt.data.sources import open_source
from vatt.data.text import Vocabulary
from vatt.errors import ConfigError, DataError, MediaError

CLIP = ClipConfig(frames=4, fps=8.0, size=32, sample_rate=8000, samples=4000, candidates=3, words=6)
AUGMENT = AugmentConfig()
CANVAS = 48


class Items(list):
    """A source that is a list."""

    name, faults = "items", ()

    def word_counts(self):
        return Counter()

    def fingerprint(self):
        return ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "media"
    make_demo(folder, clips=20, heldout=7)
    return folder


@pytest.fixture(scope="module")
def source(folder):
    return open_source(str(folder / "train"), seconds=CLIP.seconds)


@pytest.fixture(scope="module")
def items(source):
    return [source[index] for index in range(len(source))]


@pytest.fixture(scope="module")
def vocabulary(source):
    return Vocabulary.from_counts(source.word_counts(), 200)


@pytest.fixture
def stream(source, vocabulary):
    def make(items=None, sources=None, batch_size=6, seed=0, workers=2, augment=AUGMENT, **more):
        sources = sources or [source if items is None else Items(items)]
        return TrainStream(
            sources,
            clip=CLIP,
            augment=augment,
            canvas=CANVAS,
            tokenizer=vocabulary,
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            **more,
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
        if isinstance(a[name], list):
            assert a[name] == b[name], name
        else:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_shapes_and_types(stream):
    batch = stream().batch(0)
    lists = ("ids", "starts", "sources", "events")
    assert {name: (value.shape, value.dtype) for name, value in batch.items() if name not in lists} == {
        "video": ((6, 4, CANVAS * 3 // 2, CANVAS), np.uint8),
        "video_box": ((6, 4), np.float32),
        "video_colour": ((6,), np.int32),
        "video_mask": ((6,), bool),
        "audio": ((6, 4000), np.int16),
        "audio_mask": ((6,), bool),
        "text": ((6, 3, 6), np.int32),
        "text_mask": ((6, 3), bool),
    }
    assert [len(batch[name]) for name in lists] == [6] * 4


@pytest.mark.parametrize(("workers", "worker"), [(1, "thread"), (2, "thread"), (4, "thread"), (1, "process")])
@pytest.mark.parametrize("start", [0, 5])
def test_a_batch_depends_on_the_step_alone(stream, workers, worker, start):
    reference = stream()
    for step, batch in enumerate(take(stream(workers=workers, worker_kind=worker).iterate(start), 3), start):
        assert_same(batch, reference.batch(step))
    assert_same(reference.batch(start), reference.batch(start))


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_any_number_of_processes_gives_the_same_batches(stream, workers):
    reference = stream()
    for step, batch in enumerate(take(stream(workers=workers, worker_kind="process").iterate(2), 2), 2):
        assert_same(batch, reference.batch(step))


@pytest.mark.parametrize("hosts", [2, 4])
def test_the_slices_of_all_hosts_are_the_batch_that_one_host_sees(stream, source, items, hosts):
    mixed = [source, Items(items[:3])]
    alone = stream(sources=mixed, batch_size=8, weights=(2.0, 1.0))
    parts = [
        take(stream(sources=mixed, batch_size=8, weights=(2.0, 1.0), host=host, hosts=hosts).iterate(3), 2)
        for host in range(hosts)
    ]
    for step in range(2):
        whole = alone.batch(3 + step)
        for name, value in whole.items():
            joined = [part[step][name] for part in parts]
            if isinstance(value, list):
                assert value == list(chain(*joined)), name
            else:
                np.testing.assert_array_equal(value, np.concatenate(joined), err_msg=name)


def test_hosts_must_divide_the_batch(stream):
    with pytest.raises(ConfigError, match="batch_size 6 does not divide over 4 hosts"):
        stream(hosts=4)


def test_epochs_are_new_permutations_and_batches_run_across_them(stream, items):
    order = [index for step in range(10) for _, index in stream().drawn(step)]  # 60 clips: three epochs of 20
    epochs = [order[i : i + 20] for i in (0, 20, 40)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert stream().batch(2)["ids"] == [items[index].id for _, index in stream().drawn(2)]


def test_another_seed_gives_another_stream(stream):
    assert stream(seed=0).drawn(0) != stream(seed=1).drawn(0)


def test_sources_are_mixed_by_weight_and_by_size_without(stream, items):
    sources = [Items(items[:12]), Items(items[12:16])]
    by_weight = [number for step in range(20) for number, _ in stream(sources=sources, weights=(1, 3)).drawn(step)]
    assert Counter(by_weight) == {0: 30, 1: 90}
    by_size = [drawn for step in range(8) for drawn in stream(sources=sources).drawn(step)]  # 48: three of each clip
    assert set(Counter(by_size).values()) == {3}
    one, other = ([index for number, index in by_size if number == source] for source in (0, 1))
    assert (sorted(one[:12]), sorted(other[:4])) == (list(range(12)), list(range(4)))
    with pytest.raises(ConfigError, match=r"data.weights has 1 values for 2 data.sources"):
        stream(sources=sources, weights=(1.0,))


def test_two_sources_of_one_length_are_not_shuffled_alike(stream, items):
    drawn = [pair for step in range(4) for pair in stream(sources=[Items(items[:10]), Items(items[10:])]).drawn(step)]
    one, other = ([index for number, index in drawn if number == source] for source in (0, 1))
    assert one[:10] != other[:10]


def test_clips_begin_anywhere_on_the_grid_of_the_frame_rate(stream, items):
    batch = stream(items=items[:1], batch_size=24).batch(0)
    assert batch["ids"] == [items[0].id] * 24
    first, last = items[0].room(CLIP.seconds)
    starts = np.array(batch["starts"])
    assert len(set(starts)) > 3
    assert first <= starts.min() <= starts.max() <= last
    np.testing.assert_allclose((starts - first) * CLIP.fps, np.round((starts - first) * CLIP.fps), atol=1e-9)


def test_fewer_items_than_a_batch_are_repeated(stream, items):
    batch = stream(items=items[:2], batch_size=5).batch(7)
    assert len(batch["ids"]) == 5
    assert set(batch["ids"]) == {items[0].id, items[1].id}


def test_captions_are_those_nearest_and_missing_ones_are_masked_and_told(stream, items, vocabulary):
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
    said = {event.id: event.reason for events in batch["events"] for event in events if "caption" in event.reason}
    assert said == {"0": "no_captions", "1": "empty_captions"}


def test_sound_is_masked_where_there_is_none_or_only_silence(items, stream):
    silent = {item.id for item in items if not item.has_audio}
    assert silent
    frames = np.random.default_rng(0).integers(0, 255, (8, 40, 40, 3), np.uint8)
    hush = Decoded(name="hush", video=frames, fps=8.0, audio=np.zeros(8000, np.float32), sample_rate=8000)
    quiet = dataclasses.replace(items[0], id="hush", media=hush, start=0.0, end=1.0, has_video=True, has_audio=True)
    batch = stream(items=[*items[1:], quiet], batch_size=20).batch(0)
    masked = {name for name, mask in zip(batch["ids"], batch["audio_mask"], strict=True) if not mask}
    assert masked == (silent - {items[0].id}) | {"hush"}
    said = {event.id: event.reason for events in batch["events"] for event in events if event.reason != "no_captions"}
    assert said == dict.fromkeys(silent - {items[0].id}, "no_audio") | {"hush": "silent"}


@pytest.mark.parametrize("worker", ["thread", "process"])
def test_a_clip_that_fails_is_replaced_by_the_next_of_its_source_and_told(stream, items, tmp_path, worker):
    broken = dataclasses.replace(items[3], id="broken", media=str(tmp_path / "gone.mp4"))
    sources = [Items([*items[:3], broken, *items[4:6]]), Items(items[10:13])]
    mixed = stream(sources=sources, worker_kind=worker)
    replaced = 0
    for step, batch in enumerate(take(mixed.iterate(0), 4)):
        assert_same(batch, mixed.batch(step))
        for (number, index), name, events in zip(mixed.drawn(step), batch["ids"], batch["events"], strict=True):
            bad = [event for event in events if event.reason == "undecodable"]
            if (number, index) == (0, 3):
                replaced += 1
                assert name == items[4].id
                assert [(event.source, event.id) for event in bad] == [(0, "broken")]
                assert "no such file" in bad[0].detail
            else:
                assert name == sources[number][index].id
                assert not bad
    assert replaced >= 2


def test_a_source_of_which_nothing_can_be_decoded_stops_the_stream(stream, items, tmp_path):
    gone = [dataclasses.replace(item, media=str(tmp_path / f"{item.id}.gone")) for item in items]
    with pytest.raises(DataError, match=r"16 clips in a row cannot be decoded.*no such file"):
        take(stream(items=gone).iterate(0), 1)


def test_a_worker_that_is_killed_is_said_plainly(stream):
    batches = stream(worker_kind="process").iterate(0)
    next(batches)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(DataError, match=r"clip_000\d\d\.mp4 of .*train: the process that read it died \(SIGKILL"):
        take(batches, 40)


def test_no_items_is_an_error(stream):
    with pytest.raises(DataError, match="no clips"):
        stream(items=[])


def test_a_program_that_stops_in_the_middle_exits_in_silence(folder):
    """Neither closed nor exhausted streams may hang the exit or write tracebacks."""
    program = textwrap.dedent(f"""
        from vatt.config import AugmentConfig, ClipConfig
        from vatt.data.pipeline import TrainStream, evaluation_batches
        from vatt.data.sources import open_source
        from vatt.data.text import Vocabulary
        clip = ClipConfig(frames=4, fps=8.0, size=32, sample_rate=8000, samples=4000)
        source = open_source({str(folder / "train")!r}, seconds=clip.seconds)
        how = dict(clip=clip, canvas=48, tokenizer=Vocabulary.build([], 2))
        stream = TrainStream([source], augment=AugmentConfig(), batch_size=4, seed=0, **how)
        closed = stream.iterate(0); next(closed); closed.close()
        left = stream.iterate(3); next(left)
        more = evaluation_batches(source, windows=2, batch_size=3, **how); next(more)
        unused = stream.iterate(0)
        processes = TrainStream([source], augment=AugmentConfig(), batch_size=4, seed=0, worker_kind="process", **how)
        apart = processes.iterate(0); next(apart)
        print("done")
    """)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


@pytest.mark.parametrize(("windows", "crops"), [(1, 1), (3, 1), (2, 3)])
def test_evaluation_sees_every_item_once_in_order(folder, vocabulary, windows, crops):
    source = open_source(str(folder / "heldout"), seconds=CLIP.seconds)
    items = [source[index] for index in range(len(source))]
    how = {"clip": CLIP, "canvas": 32, "tokenizer": vocabulary, "windows": windows, "crops": crops}
    batches = list(evaluation_batches(source, batch_size=3, **how))
    views = windows * crops
    assert [batch["valid"].tolist() for batch in batches] == [[True] * 3, [True] * 3, [True, False, False]]
    assert [name for batch in batches for name in batch["ids"]] == [item.id for item in items]
    for batch in batches:
        assert batch["video"].shape == (3, views, 4, 48, 32)
        assert batch["audio"].shape == (3, views, 4000)
        assert batch["text"].shape == (3, 6)
        for mask in ("text_mask", "audio_mask", "video_mask"):
            assert (batch[mask] == batch["valid"]).all()
    assert not batches[-1]["video"][1:].any()
    item = items[1]
    first, last = item.room(CLIP.seconds)
    starts = [(first + last) / 2] if windows == 1 else np.linspace(first, last, windows)
    for window, start in enumerate(starts):
        expected = decode_clip(item, float(start), CLIP, crop=centre, canvas=32)
        seen = window * crops + crops // 2  # the middle of three crops is the centre
        np.testing.assert_array_equal(batches[0]["video"][1, seen], expected["video"])
        np.testing.assert_array_equal(batches[0]["audio"][1, seen], expected["audio"])
    assert batches[0]["text"][1].tolist() == vocabulary.encode(item.captions[0].text, 6).tolist()


def test_evaluation_takes_the_caption_nearest_to_the_middle_of_the_item_and_none_from_outside_it(items, vocabulary):
    words = vocabulary.words
    talk = [Caption(start, start + 1.0, words[2 + n]) for n, start in enumerate((-9.0, 0.1, 0.5, 2.5))]
    silent = Caption(0.6, 0.8, "...")
    part = dataclasses.replace(items[0], start=0.0, end=1.4, captions=(*talk, silent))
    outside = dataclasses.replace(part, id="outside", captions=(talk[0], talk[3]))
    whole = dataclasses.replace(part, id="whole", captions=(Caption(0, np.inf, words[9]), Caption(0, np.inf, words[8])))
    source = Items([part, outside, whole])
    how = {"clip": CLIP, "canvas": 32, "tokenizer": vocabulary, "windows": 1}
    (batch,) = evaluation_batches(source, batch_size=3, **how)
    assert batch["text"][:, 0].tolist() == [3, 0, 9]
    assert batch["text_mask"].tolist() == [True, False, True]


def test_a_picture_with_sound_is_heard_from_anywhere_in_it(stream, items):
    frame = np.random.default_rng(0).integers(0, 255, (1, 40, 40, 3), np.uint8)
    tone = (8000 * np.sin(np.arange(80_000) / 9)).astype(np.int16)
    slide = Decoded(name="slide", video=frame, audio=tone, sample_rate=8000)
    item = dataclasses.replace(items[0], media=slide, start=0.0, end=10.0, still=True, has_video=True, has_audio=True)
    assert len(set(stream(items=[item], batch_size=20).batch(0)["starts"])) > 10


def test_evaluation_leaves_out_what_cannot_be_decoded_and_says_so(items, vocabulary, tmp_path):
    broken = dataclasses.replace(items[1], id="broken", media=str(tmp_path / "gone.mp4"))
    source = Items([items[0], broken, *items[2:5]])
    how = {"clip": CLIP, "canvas": 32, "tokenizer": vocabulary, "windows": 1}
    failed: list[MediaError] = []
    batches = list(evaluation_batches(source, batch_size=2, failed=failed, **how))
    assert [name for batch in batches for name in batch["ids"]] == [items[i].id for i in (0, 2, 3, 4)]
    assert all(batch["valid"].all() for batch in batches)
    assert [error.path for error in failed] == [str(tmp_path / "gone.mp4")]
    with pytest.raises(MediaError, match="gone"):
        list(evaluation_batches(source, batch_size=2, **how))
    assert list(evaluation_batches(Items([broken]), batch_size=2, failed=failed, **how)) == []
