"""Prepared sets as sources: what was written comes back, and what cannot be read says so."""

import json
import math
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vatt.config import ClipConfig
from vatt.data.captions import Caption
from vatt.data.demo import make_demo
from vatt.data.items import Encoded
from vatt.data.prepare.plan import PrepareConfig
from vatt.data.prepare.run import prepare
from vatt.data.records import PreparedSource, Record, is_prepared, parse, serialise
from vatt.data.sources import open_clips
from vatt.errors import DataError, MediaError

time = st.floats(-1e6, 1e6) | st.just(math.inf)


@settings(max_examples=50, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=("Cs",))),
    media=st.binary(),
    start=st.floats(0, 1e6),
    end=time,
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    captions=st.lists(st.builds(Caption, time, time, st.text(st.characters(exclude_categories=("Cs",))))),
    labels=st.lists(st.text(st.characters(exclude_categories=("Cs",)))),
)
def test_a_record_comes_back_as_it_was(text, media, start, end, flags, captions, labels):
    record = Record(
        id=text,
        media=media,
        path=text,
        start=start,
        end=end,
        has_video=flags[0],
        has_audio=flags[1],
        still=flags[2],
        captions=tuple(captions),
        labels=tuple(labels),
    )
    assert vars(parse(serialise(record))) == vars(record)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    make_demo(folder / "demo", clips=6, heldout=1)
    prepare(str(folder / "demo/train"), folder / "out", config=PrepareConfig(seconds=1.0, min_seconds=1.0), workers=1)
    return folder / "out"


def test_a_still_lasts_as_long_as_is_asked(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (90, 60), "red").save(tmp_path / "in/still.png")
    prepare(str(tmp_path / "in"), tmp_path / "out", workers=1)
    item = PreparedSource(tmp_path / "out", seconds=3.2)[0]
    assert (item.still, item.end, item.room(3.2)) == (True, 3.2, (0.0, 0.0))


@pytest.mark.parametrize(
    ("asks", "says"),
    [
        ({"fps": 10.0, "sample_rate": 48_000, "candidates": 5}, ""),
        ({"fps": 25.0}, r"fps 10, less than the clip asks for; .* NEW_FOLDER --fps 25$"),
        ({"sample_rate": 96_000, "candidates": 9}, r"NEW_FOLDER --sample-rate 96000 --candidates 9$"),
    ],
)
def test_a_set_that_holds_less_than_the_clip_asks_for_is_refused(prepared, asks, says):
    clip = replace(ClipConfig(frames=8, samples=8000), **asks)
    if not says:
        open_clips(str(prepared), clip, max_bad=0.0)
        return
    with pytest.raises(DataError, match=says):
        open_clips(str(prepared), clip, max_bad=0.0)


@pytest.fixture
def copy(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "copy")


def test_items_are_encoded_media_of_their_own(prepared):
    source = PreparedSource(prepared)
    assert len(source) >= 6
    assert is_prepared(prepared)
    item = source[0]
    assert isinstance(item.media, Encoded)
    assert item.id in str(item.media)
    assert item.media.data[4:8] == b"ftyp"
    assert item.start == 0
    assert item.end == source.record(0).duration > 0


def test_tfds_reads_the_folder_without_tensorflow(prepared):
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        f"builder = tfds.builder_from_directory({str(prepared)!r})\n"
        "source = builder.as_data_source(split='train')\n"
        "print(len(source), source[0]['id'].decode(), 'tensorflow' in sys.modules, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    source = PreparedSource(prepared)
    assert done.stdout.split() == [str(len(source)), source[0].id, "False", "False"]


def test_it_pickles_and_threads_read_at_once(prepared):
    source = PreparedSource(prepared)
    media = [source[i].media.data for i in range(len(source))]
    other = pickle.loads(pickle.dumps(source))
    assert (other.fingerprint(), other.name, len(other)) == (source.fingerprint(), source.name, len(source))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: other[i].media.data, range(len(other)))) == media


def test_word_counts_need_no_media(copy):
    counts = PreparedSource(copy).word_counts()
    assert counts
    assert all(isinstance(word, str) and count > 0 for word, count in counts.items())


def test_records_too_short_for_a_clip_are_left_out_and_named(prepared):
    whole = PreparedSource(prepared)
    lengths = [whole[i].end for i in range(len(whole))]
    limit = sorted(lengths)[len(lengths) // 2]
    source = PreparedSource(prepared, seconds=limit)
    assert len(source) == sum(length >= limit for length in lengths) < len(whole)
    assert all(source[i].end >= limit for i in range(len(source)))
    assert [fault.id for fault in source.faults] == [whole[i].id for i, length in enumerate(lengths) if length < limit]
    assert {fault.reason for fault in source.faults} == {"too_short"}
    assert source.fingerprint() != whole.fingerprint()
    with pytest.raises(DataError, match=r"none of its .* records lasts a clip of 99 s"):
        PreparedSource(prepared, seconds=99)


def test_short_records_are_named_rightly_whatever_is_in_names(tmp_path):
    make_demo(tmp_path / "demo", clips=3, heldout=1)
    films = sorted((tmp_path / "demo/train").glob("*.mp4"))
    (tmp_path / "in").mkdir()
    names = ["a\u2028b.mp4", "c\x85d.mp4", "e.mp4"]
    for film, name in zip(films, names, strict=True):
        shutil.copy(film, tmp_path / "in" / name)
    prepare(str(tmp_path / "in"), tmp_path / "out", workers=1)
    whole = PreparedSource(tmp_path / "out")
    lengths = {whole[i].id: whole[i].end for i in range(3)}
    limit = max(lengths.values())
    faults = PreparedSource(tmp_path / "out", seconds=limit).faults
    assert {fault.id for fault in faults} == {name for name, length in lengths.items() if length < limit}


def test_a_set_made_at_another_rate_is_another(prepared, tmp_path):
    source = str(prepared.parent / "demo/train")
    config = PrepareConfig(seconds=1.0, min_seconds=1.0, fps=5.0)
    prepare(source, tmp_path / "out", config=config, workers=1)
    assert PreparedSource(tmp_path / "out").fingerprint() != PreparedSource(prepared).fingerprint()


def test_the_fingerprint_is_of_what_is_said_not_of_the_place(prepared, copy):
    assert PreparedSource(prepared).fingerprint() == PreparedSource(copy).fingerprint()


def test_another_format_says_which_version_made_it(copy):
    path = copy / "prepared.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99, "vatt": "7.8"}))
    with pytest.raises(DataError, match=r"prepared by vatt 7\.8 in format 99.*Prepare it again"):
        PreparedSource(copy)


def test_an_unfinished_set_says_so(copy):
    (copy / "prepared.json").unlink()
    (copy / ".staging").mkdir()
    assert is_prepared(copy)
    with pytest.raises(DataError, match="was not finished; type the command"):
        PreparedSource(copy)


def test_a_folder_of_something_else_is_not_prepared(tmp_path):
    assert not is_prepared(tmp_path)
    with pytest.raises(DataError, match="not a prepared set"):
        PreparedSource(tmp_path)


def test_unknown_splits_name_those_there_are(prepared):
    with pytest.raises(DataError, match="no split 'val' in it; there are train"):
        PreparedSource(prepared, "val")


def test_a_shard_that_is_gone_or_cut_is_told_at_once(copy):
    (shard,) = copy.glob("*.array_record-*")
    data = shard.read_bytes()
    shard.write_bytes(data[:-1000])
    with pytest.raises(DataError, match=f"has {len(data) - 1000} bytes instead of {len(data)}"):
        PreparedSource(copy)
    shard.unlink()
    with pytest.raises(DataError, match="is not there"):
        PreparedSource(copy)


def test_a_damaged_record_is_a_media_error(copy):
    (shard,) = copy.glob("*.array_record-*")
    data = bytearray(shard.read_bytes())
    data[1000 : len(data) // 2] = bytes(len(data) // 2 - 1000)
    shard.write_bytes(bytes(data))
    source = PreparedSource(copy)
    with pytest.raises(MediaError, match=r"cannot be read.*copy or prepare the set again"):
        [source[index] for index in range(len(source))]
