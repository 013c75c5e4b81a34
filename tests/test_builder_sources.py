"""The published data sets: HowTo100M's large file, use as sources, what goes wrong, and what is said of them."""

import json
import os
import pickle
import shutil
from functools import partial

import av
import numpy as np
import pytest

from tests.releases import COOK, HOWTO, KINETICS, SPOKEN, listing, media, names, write_copy
from vatt.cli import main
from vatt.data import builders
from vatt.data.builders import howto100m
from vatt.data.captions import Caption, nearest
from vatt.data.sources import open_source
from vatt.errors import DataError


@pytest.fixture
def copy(tmp_path):
    return partial(write_copy, tmp_path)


# HowTo100M


@pytest.mark.parametrize("chunk", [7, 64, 1 << 24])
@pytest.mark.parametrize("escaped", [True, False])
def test_howto100m_reads_the_captions_of_the_videos_there_are(copy, monkeypatch, chunk, escaped):
    monkeypatch.setattr(howto100m, "CHUNK", chunk)
    folder = copy(
        tables={
            "HowTo100M_v1.csv": HOWTO,
            "raw_caption.json": json.dumps(SPOKEN, ensure_ascii=escaped),
            "caption.json": "not read where the raw ones are",
        },
        media=media("videos/nVbIUDjzWY4.webm", "videos/gkjnR3-ZVts.mkv"),
    )
    found = listing("howto100m", folder)
    spoken, silent = found.rows
    assert [fault.id for fault in found.faults] == ["CTPAZ2euJ2Q"]
    expected = (Caption(0.5, 2.0, 'größer {"}]你'), Caption(3.25, 5.0, "two lines"))
    assert spoken.captions == expected
    assert (len(spoken.captions), spoken.captions[-1], list(spoken.captions)) == (2, expected[1], list(expected))
    assert nearest(spoken.captions, 4.0, 5.0, 1) == [expected[1]]
    assert (spoken.start, spoken.end, spoken.labels) == (0.0, None, ("Cars & Other Vehicles", "Motorcycles"))
    assert (len(silent.captions), silent.labels) == (0, ("Food and Entertaining",))
    assert pickle.loads(pickle.dumps(spoken)) == spoken
    assert len(pickle.dumps(spoken.captions)) < 400  # where they lie, not what they say
    assert str(folder) not in repr(spoken.captions)  # a copy elsewhere is the same source
    howto100m._read.cache_clear()
    (folder / "raw_caption.json").write_text(json.dumps(SPOKEN).replace("two", "six"), encoding="utf-8")
    with pytest.raises(DataError, match=r"raw_caption\.json: was changed while it was in use"):
        list(spoken.captions)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (json.dumps(SPOKEN)[:200], r"raw_caption\.json, byte \d+: damaged or cut short"),
        ('["a list"]', r"byte 0: damaged or cut short"),
        ("", r"byte 0: damaged or cut short"),
        ('{"nVbIUDjzWY4": {"text": ["a"], "start": [], "end": []}}', r"byte 16: the captions of nVbIUDjzWY4 are malf"),
        ('{"nVbIUDjzWY4": {"text": ["a"], "start": ["x"], "end": [1]}}', r"nVbIUDjzWY4 are malformed: TypeError"),
        ('{"nVbIUDjzWY4": {"text": ["a"], "start": [0], "end": [NaN]}}', r"ValueError\('times that are not finite'\)"),
        ('{"nVbIUDjzWY4": {"text": ["a"]}}', r"the captions of nVbIUDjzWY4 are malformed: KeyError"),
        ('{"nVbIUDjzWY4": [1]}', r"the captions of nVbIUDjzWY4 are malformed: TypeError"),
    ],
)
def test_howto100m_says_where_its_captions_are_damaged(copy, text, complaint):
    folder = copy(tables={"HowTo100M_v1.csv": HOWTO, "raw_caption.json": text}, media=media("nVbIUDjzWY4.mp4"))
    with pytest.raises(DataError, match=complaint):
        listing("howto100m", folder)


def test_howto100m_gives_up_on_damage_before_it_has_the_whole_file_in_memory(copy, monkeypatch):
    monkeypatch.setattr(howto100m, "CHUNK", 100)
    monkeypatch.setattr(howto100m, "LONGEST", 300)
    read = []
    text = '{"nVbIUDjzWY4": {"text": ' + "!" * 100_000
    folder = copy(tables={"HowTo100M_v1.csv": HOWTO, "caption.json": text}, media=media("nVbIUDjzWY4.mp4"))
    decode = json.JSONDecoder.raw_decode

    def watched(self, s, idx=0):
        read.append(len(s))
        return decode(self, s, idx)

    monkeypatch.setattr(json.JSONDecoder, "raw_decode", watched)
    with pytest.raises(DataError, match="damaged"):
        listing("howto100m", folder)
    assert max(read) <= 500


# As sources


def test_sounds_and_steps_of_videos_become_items(copy, demo_media):
    table = "filename,fold,target,category\n1-1-A-0.wav,1,0,dog\n1-2-A-0.wav,1,0,dog\n"
    steps = json.dumps(COOK).replace("[90, 102]", "[0.2, 1.4]")  # the other step lies beyond the end of the video
    folder = copy(
        tables={
            "meta/esc50.csv": table,
            "annotations/youcookii_annotations_trainval.json": steps,
            "label_foodtype.csv": "113,grilled cheese\n",
        }
    )
    (folder / "audio").mkdir()
    with av.open(str(folder / "audio/1-1-A-0.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=44100, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.full((1, 5 * 44100), 99, np.int16), format="s16", layout="mono")
        sound.sample_rate = 44100
        container.mux([*stream.encode(sound), *stream.encode(None)])
    (folder / "raw_videos/training/113").mkdir(parents=True)
    shutil.copy(demo_media / "train/clip_00000.mp4", folder / "raw_videos/training/113/GLd3aX16zBg.mp4")

    sounds = open_source(f"esc50:{folder}@fold1", seconds=1.0, workers=1)
    assert [(item.id, item.end, item.has_video, item.labels) for item in sounds] == [("1-1-A-0", 5.0, False, ("dog",))]
    assert [(fault.id, fault.reason) for fault in sounds.faults] == [("1-2-A-0", "missing")]
    cooking = open_source(f"youcook2:{folder}", seconds=1.0, workers=1)
    assert [(item.id, item.start, item.end) for item in cooking] == [("GLd3aX16zBg_0", 0.2, 1.4)]
    assert cooking[0].captions == (Caption(0.2, 1.4, "spread margarine on two slices of white bread"),)
    assert [(fault.id, fault.reason) for fault in cooking.faults] == [("GLd3aX16zBg_1", "too_short")]
    assert "spread" in cooking.word_counts()


def test_narrations_stay_where_they_are_in_a_source(copy, demo_media):
    folder = copy(tables={"HowTo100M_v1.csv": HOWTO, "raw_caption.json": json.dumps(SPOKEN)})
    shutil.copy(demo_media / "train/clip_00000.mp4", folder / "nVbIUDjzWY4.mp4")
    source = open_source(f"howto100m:{folder}", seconds=1.0, workers=1)
    assert isinstance(source[0].captions, howto100m.Narration)
    assert source.word_counts() == {"größer": 1, "你": 1, "two": 1, "lines": 1}
    moved = folder.with_name("moved")
    folder.rename(moved)
    assert open_source(f"howto100m:{moved}", seconds=1.0, workers=1).fingerprint() == source.fingerprint()
    (moved / "raw_caption.json").write_text(json.dumps(SPOKEN).replace("two", "six"), encoding="utf-8")
    assert open_source(f"howto100m:{moved}", seconds=1.0, workers=1).fingerprint() != source.fingerprint()


# What goes wrong


@pytest.mark.parametrize("name", builders.NAMES)
def test_a_missing_annotation_file_is_named_with_where_to_get_it(name, tmp_path):
    module = builders.load(name)
    for split in module.SPLITS:
        with pytest.raises(DataError, match=r"no \S+ .*there.*It is to be had from https?://"):
            module.rows(tmp_path, split)
    with pytest.raises(DataError, match=r"absent: no "):
        module.rows(tmp_path / "absent", module.DEFAULT_SPLIT)
    with pytest.raises(DataError, match=rf"has no split 'dev'; it has {module.SPLITS[0]}"):
        module.rows(tmp_path, "dev")
    assert module.DEFAULT_SPLIT in module.SPLITS


@pytest.mark.parametrize(
    ("name", "table", "text", "complaint"),
    [
        ("kinetics400", "train.csv", "id,start\n", r"train\.csv: no column label, youtube_id, .*; it has id, start"),
        ("kinetics400", "train.csv", "", r"train\.csv: is empty; expected the columns label"),
        ("kinetics400", "train.csv", KINETICS + "yoga,a,x,9,train,0\n", r"train\.csv, line 2: time_start is 'x'; exp"),
        ("kinetics400", "train.csv", KINETICS + "yoga,a,-1,9,train,0\n", r"line 2: time_start is '-1'; exp"),
        ("kinetics400", "train.csv", KINETICS + "\nyoga,a\n", r"train\.csv, line 3: 2 fields, expected 6 \(label"),
        ("kinetics400", "train.csv", KINETICS + '"yoga,a,1,2,train,0\n', r"train\.csv, line 2: malformed: unexpected"),
        ("esc50", "meta/esc50.csv", "filename,fold\n", r"esc50\.csv: no column category; it has filename, fold"),
        ("vggsound", "vggsound.csv", "a,30,skiing\n", r"vggsound\.csv, line 1: 3 fields, expected 4"),
        ("vggsound", "vggsound.csv", "a,30,skiing,dev\n", r"vggsound\.csv, line 1: split is 'dev'"),
        ("moments", "trainingSet.csv", "a.mp4\n", r"trainingSet\.csv, line 1: 1 fields, expected 2 \(filename, label"),
        ("ucf101", "trainlist01.txt", "v_Yoga_g1.avi 1\n", r"trainlist01\.txt, line 1: expected Class/v_Class_g01"),
        ("hmdb51", "brush_hair_test_split1.txt", "a.avi 1\nb.avi 7\n", r"split1\.txt, line 2: expected NAME\.avi and"),
        ("msrvtt", "MSRVTT_data.json", "{", r"MSRVTT_data\.json, line 1: not JSON"),
        ("msrvtt", "MSRVTT_data.json", '{"videos": []}', r"MSRVTT_data\.json: no sentences in it"),
        (
            "msrvtt",
            "MSRVTT_data.json",
            '{"videos": [{}], "sentences": []}',
            r"malformed: KeyError\('split'\) in its videos",
        ),
        ("youcook2", "youcookii_annotations_trainval.json", "[]", r"trainval\.json: no database in it"),
    ],
)
def test_malformed_annotations_name_file_and_line(copy, name, table, text, complaint):
    folder = copy(table={table: text})
    with pytest.raises(DataError, match=complaint):
        listing(name, folder)


def test_annotations_that_are_not_utf8_are_an_error(copy):
    folder = copy(table={"meta/esc50.csv": ""})
    (folder / "meta/esc50.csv").write_bytes("filename,fold,category\nä.wav,1,dog\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"esc50\.csv: is not UTF-8"):
        listing("esc50", folder)


def test_annotations_cannot_name_files_outside_and_links_do_not_go_round(copy, tmp_path_factory, monkeypatch):
    outside = tmp_path_factory.mktemp("outside") / "secret.wav"
    outside.write_text("not theirs")
    relative = "../" * 12 + str(outside.relative_to("/"))
    table = f"filename,fold,category\n{relative},1,dog\n{outside},1,dog\nin.wav,1,dog\n"
    folder = copy(table={"meta/esc50.csv": table}, media=media("audio/in.wav", "audio/.secret.wav"))
    for name in ("round", "and_round"):  # followed, they would be 2^40 folders
        (folder / "audio" / name).symlink_to(folder, target_is_directory=True)
    walk, seen = os.walk, []

    def counted(*args, **kwargs):
        for entry in walk(*args, **kwargs):
            seen.append(entry)
            assert len(seen) < 10
            yield entry

    monkeypatch.setattr(os, "walk", counted)
    found = listing("esc50", folder)
    assert names(found, folder) == {"in": "audio/in.wav"}
    assert [fault.id for fault in found.faults] == ["secret"]


# What is said of them


def test_every_name_loads_and_an_unknown_one_is_an_error():
    assert all(builders.load(name) for name in builders.NAMES)
    with pytest.raises(DataError, match=r"no data set is called 'kinetics'; there are howto100m, audioset, "):
        builders.load("kinetics")


@pytest.mark.parametrize("name", builders.NAMES)
def test_docstrings_say_what_the_list_prints(name):
    module = builders.load(name)
    facts = builders.facts(module)
    assert {"what", "source", "licence", "size", "splits", "layout", "to get it"} <= facts.keys()
    assert all(len(text) > 5 for text in facts.values())
    assert "https://" in facts["source"]
    assert "FOLDER/" in facts["layout"]
    assert "(default" in facts["splits"] or len(module.SPLITS) == 1
    stated = facts["splits"].replace(" to ", ", ")
    assert all(split in stated or split[:-1] in stated for split in module.SPLITS)


def test_list_prints_all_and_one(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in builders.NAMES)
    assert "CC BY-NC 3.0" in printed
    assert main(["data", "list", "msrvtt"]) == 0
    assert "MSRVTT_JSFUSION_test.csv" in capsys.readouterr().out
    assert main(["data", "list", "nonesuch"]) == 1
    assert "there are howto100m" in capsys.readouterr().err
