"""Published retrieval protocols on tiny copies of the official files, laid out as released, with a tiny trained run."""

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from tests.media import small_demo
from tests.oddfiles import picture, tone, write
from tests.protocol_copies import (
    STEPS,
    audiocaps,
    captions,
    clotho,
    jsfusion,
    milnce_csv,
    msrvtt_json,
    put,
    silence,
    strip,
    text,
    vggsound,
)
from tests.test_media import spoil
from vatt.cli import main
from vatt.config import MeshConfig, to_json
from vatt.data.crops import centre
from vatt.data.media.clip import decode_clip, probe
from vatt.data.sources import open_file
from vatt.errors import ConfigError, DataError
from vatt.evals import pretrained
from vatt.evals.protocols import NAMES, load, official
from vatt.evals.protocols.measure import measure
from vatt.evals.protocols.media import open_items
from vatt.evals.protocols.report import differences
from vatt.evals.run import evaluate_run
from vatt.metrics import chance, retrieval
from vatt.sharding import make_mesh
from vatt.tasks.pretrain import Pretrain
from vatt.train import loop
from vatt.train.checkpoint import Checkpoints, open_run, tokenizer_text
from vatt.train.pretrain import open_tokenizer
from vatt.train.step import make_state
from vatt.train.weights import read_weights

QUIET = Console(quiet=True)

# Whoever changes a protocol raises its version, and enters here what that gives.
FROZEN = {
    "youcook2": (2, "455d7e00b42b2660"),
    "youcook2-milnce": (2, "8e90ddc4d4028492"),
    "msrvtt-1ka": (2, "fb8ba38dd2774b97"),
    "msrvtt-full": (2, "9487a83d3aa6da6e"),
    "audiocaps": (2, "e79c376a6b205bdc"),
    "vggsound-av": (2, "3d903e3504a4aa56"),
    "clotho": (2, "d72d6f9f13fbaf56"),
}


@pytest.fixture(scope="module")
def run(demo_media, tmp_path_factory):
    """A run saved at step 2, as it was initialised: rankings need no learning. Its sound has a head into the text
    space."""
    cfg = small_demo(demo_media, tmp_path_factory.mktemp("protocols") / "run")
    cfg = replace(
        cfg,
        clip=replace(cfg.clip, fps=7.8125),  # so that pictures and sound of a window are equally long
        model=replace(cfg.model, heads=replace(cfg.model.heads, audio_text=True)),
        loss=replace(cfg.loss, audio_text=1.0),
    )
    sources, _ = loop.open_sources(cfg, QUIET)
    folder = open_run(cfg, sources, tokenizer_text(open_tokenizer(cfg, sources)))
    with Checkpoints(folder, cfg.checkpoint) as checkpoints:
        mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        checkpoints.save(2, make_state(cfg, Pretrain(cfg), mesh))
        checkpoints.wait()
    return cfg.run


@pytest.fixture(scope="module")
def model(run):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])  # which fills up fewer rows
    return pretrained.ready(run, read_weights(run, "latest", mesh), mesh)


@pytest.fixture(scope="module")
def films(demo_media):
    """Sixteen films of 1.3 to 1.7 s with sound; a window of the run lasts 1.024 s."""
    return sorted((demo_media / "heldout").glob("*.mp4"))


# The data structures


@pytest.mark.parametrize("name", NAMES)
def test_a_protocol_does_not_change_under_one_version(name):
    protocol = load(name)
    assert (protocol.name, protocol.version, protocol.hash) == (name, *FROZEN[name])
    assert replace(protocol, windows=protocol.windows + 1).hash != protocol.hash
    with pytest.raises(FrozenInstanceError):
        protocol.windows = 3
    assert (protocol.ties, protocol.post, protocol.crop) == ("expectation", "none", "centre")


def test_no_such_protocol():
    with pytest.raises(DataError, match=r"no protocol is called 'msrvtt'; there are youcook2, .*msrvtt-1ka"):
        load("msrvtt")


def test_an_official_file_is_read_in_its_order_with_all_captions(tmp_path, films):
    full = official("msrvtt-full", msrvtt_json(tmp_path / "full", films[:2], 3))
    assert [(entry.id, len(entry.captions)) for entry in full.entries] == [("video7010", 3), ("video7011", 3)]
    assert full.file.name == "test_videodatainfo.json"
    sounds = official("audiocaps", audiocaps(tmp_path / "ac", films))
    assert [entry.id for entry in sounds.entries] == [
        "tpDoZZc2R_4_30",
        "vfYTJq7nU_31",
        "-UAMgtMyPtI_32",
        "wRV8yMk886E_33",
    ]
    assert sounds.entries[1].captions == tuple(captions(20)[5:10])
    heard = official("clotho", clotho(tmp_path / "clotho"))
    assert [entry.id for entry in heard.entries][1:] == ["Radio Garble.01.wav", "20110121_NorthSeattle, rain.wav"]
    assert heard.entries[2].captions == tuple(captions(15)[10:])
    seen = official("vggsound-av", vggsound(tmp_path / "vgg", films[:3]))
    assert [entry.id for entry in seen.entries] == ["id0-_0_30", "id1-_1_31", "id2-_2_32"]


def test_items_hash_tells_other_lists_and_captions_apart_but_not_what_is_missing(tmp_path, films):
    folder = jsfusion(tmp_path, films[:3], captions(3))
    before = official("msrvtt-1ka", folder).hash
    (folder / "videos/all/video9770.mp4").unlink()
    assert official("msrvtt-1ka", folder).hash == before
    jsfusion(folder, [], [*captions(2), "another"])
    assert official("msrvtt-1ka", folder).hash != before


# Measuring


def test_it_gives_what_plain_retrieval_gives_on_the_same_clips(run, model, films, tmp_path):
    """All held-out clips as an MSR-VTT: another way through the house to the same numbers."""
    sentences = [film.with_suffix(".srt").read_text().strip().split("\n")[-1] for film in films]
    report = measure(model, "msrvtt-1ka", jsfusion(tmp_path, films, sentences))
    four = replace(model.cfg, evaluate=replace(model.cfg.evaluate, windows=load("msrvtt-1ka").windows))
    (Path(run) / "config.json").rename(tmp_path / "kept.json")
    try:
        (Path(run) / "config.json").write_text(to_json(four))
        plain = evaluate_run(run, "latest", "", QUIET)
    finally:
        (tmp_path / "kept.json").replace(Path(run) / "config.json")
    for direction in ("text_to_video", "video_to_text"):
        assert report.scores[direction] == pytest.approx(plain.metrics[direction])
        assert report.chance[direction] == pytest.approx(plain.chance[direction])
    assert (report.found, report.listed, report.share, report.queries, report.duplicates) == (16, 16, 1.0, 16, 0)
    assert list(report.scores) == ["text_to_video", "video_to_text"]


def embedded(model, path: Path, modality: str, space: str, windows: int, *, margin=0.0, norm="unit") -> np.ndarray:
    """The embedding of a file, by the library's own words."""
    item, clip = open_file(path, model.cfg.clip.seconds), model.cfg.clip
    first, last = 0.0, max(0.0, item.end - margin - clip.seconds)
    clips = [
        decode_clip(item, float(start), clip, crop=centre, canvas=model.cfg.canvas)
        for start in np.linspace(first, last, windows)
    ]
    names = [name for name in clips[0] if name.startswith(modality) and not name.endswith("mask")]
    z = model.embedder({name: np.stack([each[name] for each in clips]) for name in names})[space].mean(axis=0)
    return z / np.linalg.norm(z) if norm == "unit" else z


def test_duplicate_captions_are_single_queries_and_apart_shared_ones(model, films, tmp_path):
    sentences = ["a red circle moves left", "a blue square falls", "a red circle moves  left", "a circle", "a square"]
    report = measure(model, "msrvtt-1ka", jsfusion(tmp_path, films[:5], sentences))
    z = np.stack([embedded(model, film, "video", "z_vt", 4) for film in films[:5]])
    one_line = [" ".join(sentence.split()) for sentence in sentences]
    similarity = model.embed_text(one_line) @ z.T
    similarity[2] = similarity[0]
    assert report.scores["text_to_video"] == pytest.approx(retrieval(similarity))
    shared = [[0, 2], [1], [0, 2], [3], [4]]
    assert report.scores["text_to_video/multi_positive"] == pytest.approx(retrieval(similarity, shared))
    assert report.scores["video_to_text"] == pytest.approx(retrieval(similarity.T))
    assert report.scores["video_to_text/multi_positive"] == pytest.approx(retrieval(similarity.T, shared))
    assert report.scores["video_to_text"]["ties"] == 2  # their own caption and the other's are equal
    assert report.scores["video_to_text/multi_positive"]["ties"] == 0
    assert report.chance["text_to_video/multi_positive"] == chance(5, positives=[2, 1, 2, 1, 1])
    assert (report.queries, report.duplicates) == (5, 1)


def test_every_caption_asks_and_an_item_is_found_by_its_best(model, tmp_path):
    folder = clotho(tmp_path)
    report = measure(model, "clotho", folder)
    files = [folder / "evaluation" / entry.id for entry in report.official.entries]
    z = np.stack([embedded(model, path, "audio", "z_at", 10) for path in files])
    similarity = model.embed_text(captions(15)) @ z.T
    owner = np.repeat(np.arange(3), 5)
    assert report.scores["text_to_audio"] == pytest.approx(retrieval(similarity, owner))
    assert report.scores["audio_to_text"] == pytest.approx(retrieval(similarity.T, np.arange(15).reshape(3, 5)))
    assert report.chance["audio_to_text"] == chance(15, positives=[5, 5, 5])
    assert report.queries == 15


def test_audiocaps_hears_sounds_and_films_by_any_of_their_names(model, films, tmp_path):
    report = measure(model, "audiocaps", audiocaps(tmp_path, films))
    assert [(fault.id, fault.reason) for fault in report.missing] == [("wRV8yMk886E_33", "missing")]
    assert (report.found, report.listed, report.share, report.queries) == (3, 4, 0.75, 15)
    assert report.scores["text_to_audio"]["items"] == 3
    assert report.scores["audio_to_text"]["items"] == 15


def test_msrvtt_full_asks_by_all_twenty(model, films, tmp_path):
    report = measure(model, "msrvtt-full", msrvtt_json(tmp_path, films[:3], 20))
    assert (report.queries, report.found) == (60, 3)
    assert report.scores["text_to_video"]["queries"] == 60
    assert report.scores["video_to_text"]["items"] == 60


def test_vggsound_ranks_sound_and_video_by_each_other_and_names_what_lacks_one(model, films, tmp_path):
    folder = vggsound(tmp_path, films[:6])
    (folder / "id0-_0_000030.mp4").unlink()
    strip(films[1], folder / "id1-_1_000031.mp4", keep="video")
    strip(films[2], folder / "id2-_2_000032.mp4", keep="audio")
    silence(films[3], folder / "id3-_3_000033.mp4")
    report = measure(model, "vggsound-av", folder)
    reasons = {fault.id: fault.reason for fault in report.missing}
    assert reasons == {"id0-_0_30": "missing", "id1-_1_31": "no_audio", "id2-_2_32": "no_video", "id3-_3_33": "silent"}
    assert [fault.id for fault in report.missing] == sorted(reasons)  # in official order
    va = np.stack([embedded(model, film, "video", "z_va", 4) for film in films[4:6]])
    av = np.stack([embedded(model, film, "audio", "z_av", 4) for film in films[4:6]])
    assert report.scores["audio_to_video"] == pytest.approx(retrieval(av @ va.T))
    assert report.scores["video_to_audio"] == pytest.approx(retrieval(va @ av.T))


def test_what_is_missing_or_broken_is_named_and_the_score_is_that_of_the_rest(model, films, tmp_path):
    sentences = captions(8)
    whole = measure(model, "msrvtt-1ka", jsfusion(tmp_path / "rest", films[:5], sentences[:5]))
    folder = jsfusion(tmp_path / "all", films[:7], sentences)  # of the eighth there is no film
    videos = folder / "videos/all"
    (videos / "video9775.mp4").write_bytes(films[5].read_bytes()[:2000])
    spoil(films[6], videos / "video9776.mp4", "video", 0.0, 9.0)
    report = measure(model, "msrvtt-1ka", folder)
    assert [fault.id for fault in report.missing] == ["video9775", "video9776", "video9777"]
    assert [fault.reason for fault in report.missing][2] == "missing"
    assert all(fault.id in fault.detail for fault in report.missing)
    assert report.share == 5 / 8
    assert report.scores == whole.scores
    assert report.official.hash != whole.official.hash


def test_a_caption_without_words_is_no_query_but_its_item_stays(model, films, tmp_path):
    report = measure(model, "msrvtt-1ka", jsfusion(tmp_path, films[:3], ["a red circle", "?!", "a blue square"]))
    assert report.wordless == ["video9771: '?!'"]
    assert (report.queries, report.found) == (2, 3)
    assert (report.scores["text_to_video"]["queries"], report.scores["text_to_video"]["items"]) == (2, 3)
    assert (report.scores["video_to_text"]["queries"], report.scores["video_to_text"]["items"]) == (2, 2)


def test_youcook2_reads_the_list_of_milnce_and_cuts_steps_from_films(model, films, tmp_path):
    folder = milnce_csv(tmp_path, *STEPS)
    put(films[0], folder / "validation/226/xHr8X2Wpmno.mp4")
    put(films[1], folder / "validation/105/V53XmPeyjIU.mp4")
    items = official("youcook2", folder)
    assert [entry.id for entry in items.entries][:3] == ["xHr8X2Wpmno_0_1", "xHr8X2Wpmno_0_1#2", "V53XmPeyjIU_1_10"]
    seconds, ends = model.cfg.clip.seconds, probe(str(films[1])).span(("video",))[1]
    for name, rest, spans in (
        ("youcook2", "repeat", [(0.0, 1.0), (1.0, ends)]),
        ("youcook2-milnce", "leave_out", [(0.0, seconds), (ends - seconds, ends)]),
    ):
        rules = replace(load(name), margin=0.0)
        clip = rules.clip_of(model.cfg.clip)
        source = open_items(items, rules, folder, clip)
        first, again, moved = (source[index] for index in range(3))
        assert clip.short == rest
        assert (first.start, first.end) == (again.start, again.end) == pytest.approx(spans[0])
        assert (moved.start, moved.end) == pytest.approx(spans[1])
        assert not first.has_audio
        assert {fault.id: fault.reason for fault in source.faults} == {
            "V53XmPeyjIU_47_60": "too_short", "mZwK0TBI1iY_3_9": "missing",
        }  # fmt: skip
    cosine, dot = measure(model, "youcook2", folder), measure(model, "youcook2-milnce", folder)
    assert list(dot.scores) == ["text_to_video"]
    assert dot.official.hash == cosine.official.hash
    assert dot.hash != cosine.hash
    assert (dot.found, dot.listed) == (cosine.found, cosine.listed) == (3, 5)
    assert cosine.scores["text_to_video"]["ties"] >= 2  # two items are one step


def test_the_margin_keeps_the_end_of_a_step_free(model, films, tmp_path):
    folder = milnce_csv(tmp_path, "1.4,0.1,226,pick the ends off,a")
    put(films[0], folder / "validation/226/a.mp4")
    for protocol, end in ((load("youcook2"), 1.4), (replace(load("youcook2-milnce"), margin=0.2), 1.2)):
        (item,) = open_items(official(protocol.name, folder), protocol, folder, protocol.clip_of(model.cfg.clip))
        ends = probe(str(films[0])).span(("video",))[1]
        assert (item.start, item.end) == (pytest.approx(0.1), pytest.approx(min(end, ends), abs=1e-6))


def test_raw_dot_products_are_those_of_milnce(model, films, tmp_path):
    rows = [f"9,0,226,{said},v{i}" for i, said in enumerate(captions(16))]
    folder = milnce_csv(tmp_path, *rows)
    for i in range(16):
        put(films[i], folder / f"validation/226/v{i}.mp4")
    report = measure(model, "youcook2-milnce", folder)
    z = np.stack([embedded(model, film, "video", "z_vt", 10, margin=0.4, norm="raw") for film in films])
    ids = np.stack([model.tokenizer.encode(said, model.cfg.clip.words) for said in captions(16)])
    similarity = model.embedder({"text": ids})["z_tv"] @ z.T
    assert report.scores["text_to_video"] == pytest.approx(retrieval(similarity))
    cosine = similarity / np.linalg.norm(z, axis=1)
    assert retrieval(cosine) != pytest.approx(retrieval(similarity))  # else this shows nothing


def test_youcook2_falls_back_on_the_official_annotations(tmp_path):
    step = {"segment": [41, 54], "id": 0, "sentence": "pick the ends off\nthe verdalago"}
    database = {
        "GLd3aX16zBg": {"subset": "training", "recipe_type": "113", "annotations": [step]},
        "xHr8X2Wpmno": {"subset": "validation", "recipe_type": "101", "annotations": [step]},
    }
    path = text(tmp_path / "annotations/youcookii_annotations_trainval.json", json.dumps({"database": database}))
    found = official("youcook2", tmp_path)
    assert found.file == path
    (entry,) = found.entries
    assert (entry.id, entry.start, entry.end) == ("xHr8X2Wpmno_41_54", 41.0, 54.0)
    assert entry.captions == ("pick the ends off the verdalago",)


def test_dual_softmax_stands_apart(model, films, tmp_path):
    folder = jsfusion(tmp_path, films[:6], captions(6))
    plain, both = measure(model, "msrvtt-1ka", folder), measure(model, "msrvtt-1ka", folder, post="dual_softmax")
    assert {name: both.scores[name] for name in plain.scores} == plain.scores
    assert set(both.scores) - set(plain.scores) == {"text_to_video/dual_softmax", "video_to_text/dual_softmax"}
    assert both.hash == plain.hash
    with pytest.raises(ConfigError, match="youcook2-milnce ranks raw dot products"):
        measure(model, "youcook2-milnce", milnce_csv(tmp_path / "yc", *STEPS), post="dual_softmax")


def test_a_model_without_the_head_says_so(model, tmp_path):
    heads = replace(model.cfg.model.heads, audio_text=False)
    cfg = replace(model.cfg, model=replace(model.cfg.model, heads=heads), loss=replace(model.cfg.loss, audio_text=0))
    for name in ("audiocaps", "clotho"):
        with pytest.raises(ConfigError, match=rf"{name} ranks sounds by captions, .*--model.heads.audio-text True"):
            measure(replace(model, cfg=cfg), name, tmp_path)


def test_where_the_run_differs_from_the_publication_is_told(model):
    def told(name, cfg):
        return differences(load(name), load(name).clip_of(cfg.clip), cfg)

    assert "8 frames, published with 32" in told("msrvtt-1ka", model.cfg)
    assert "windows of 1.024 s, published with 2.56 s" in told("msrvtt-1ka", model.cfg)
    assert told("vggsound-av", model.cfg) == []  # nothing of its clips is published
    clip = replace(model.cfg.clip, frames=32, fps=10, size=224, samples=51_200, sample_rate=16_000, words=16)
    same = replace(model.cfg, clip=clip)
    assert load("msrvtt-1ka").clip_of(clip) == replace(clip, fps=12.5, samples=40_960, short="repeat")
    assert told("msrvtt-1ka", same) == []  # it was trained at another rate, and is measured at the published one
    assert told("youcook2-milnce", same) == [
        "32 frames, published with 16", "10 frames a second, published with 5", "16 words a caption, published with 30",
    ]  # fmt: skip
    untrained = replace(same, loss=replace(same.loss, audio_text=0.0, video_text=0.0))
    assert told("clotho", untrained) == ["the run trained with loss.audio_text 0: nothing brought the two together"]
    assert "loss.video_text 0" in told("msrvtt-1ka", untrained)[0]


def test_clips_are_cut_as_published_if_the_model_takes_as_many_frames(model, films, tmp_path, monkeypatch):
    """At four fifths of its frame rate the model sees windows of 1.28 s."""
    folder = jsfusion(tmp_path, films[:5], captions(5))
    slower = replace(load("msrvtt-1ka"), frames=8, fps=6.25)
    monkeypatch.setitem(measure.__globals__, "load", lambda name: slower)
    report = measure(model, "msrvtt-1ka", folder)
    assert not any("a second" in line or "windows" in line for line in report.differs)
    cut = replace(model, cfg=replace(model.cfg, clip=replace(model.cfg.clip, fps=6.25, samples=10_240)))
    z = np.stack([embedded(cut, film, "video", "z_vt", 4) for film in films[:5]])
    assert report.scores["text_to_video"] == pytest.approx(retrieval(model.embed_text(captions(5)) @ z.T))


def test_films_count_whose_sound_is_brief_or_which_are_shorter_than_a_window(model, films, tmp_path):
    folder = jsfusion(tmp_path, films[:1], captions(3))
    pictures = [picture(i) for i in range(50)]
    write(folder / "videos/all/video9771.mp4", pictures=pictures, sound=tone(0.3, 16_000), rate=16_000)
    write(folder / "videos/all/video9772.mp4", pictures=pictures[:15])
    report = measure(model, "msrvtt-1ka", folder)
    assert (report.found, report.listed) == (3, 3)
    source = open_items(report.official, report.protocol, folder, report.protocol.clip_of(model.cfg.clip))
    assert [round(source[index].end, 1) for index in (1, 2)] == [2.0, 0.6]


def test_a_video_of_msrvtt_without_sentences_is_named(films, tmp_path):
    folder = msrvtt_json(tmp_path, films[:2], 1)
    path = folder / "test_videodatainfo.json"
    content = json.loads(path.read_text())
    content["sentences"] = [each for each in content["sentences"] if each["video_id"] != "video7011"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no sentences for 1 videos of split test, first video7011"):
        official("msrvtt-full", folder)


# Bad input


@pytest.mark.parametrize(
    ("name", "path", "lines", "says"),
    [
        ("youcook2", "validation_youcook.csv", ["start,task,what"], "no column end, text, video_id; it has start"),
        ("youcook2", "validation_youcook.csv", ["end,start,task,text,video_id", "x,1,2,said,id"], "line 2: end is 'x'"),
        ("youcook2", "validation_youcook.csv", ["end,start,task,text,video_id"], "lists no items"),
        ("msrvtt-1ka", "MSRVTT_JSFUSION_test.csv", ["key,video_id,sentence"], "no column vid_key; it has key, video"),
        ("msrvtt-full", "MSRVTT_data.json", ['{"videos": [], "images": []}'], "no sentences in it"),
        ("msrvtt-full", "MSRVTT_data.json", ['{"videos": [], "sentences": []}'], "names no videos of split test"),
        ("audiocaps", "dataset/test.csv", ["youtube_id,start,caption"], "no column audiocap_id, start_time; it has"),
        ("vggsound-av", "vggsound.csv", ["youtube_id,30,dog"], "line 1: 3 fields, expected 4"),
        ("vggsound-av", "vggsound.csv", ["youtube_id,30,dog,val"], "split is 'val'; expected train or test"),
        ("clotho", "clotho_captions_evaluation.csv", ["file_name,caption_1"], "column caption_2.*; it has file_name"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_the_official_one_is_named_with_what_it_holds(tmp_path, name, path, lines, says):
    text(tmp_path / path, *lines)
    with pytest.raises(DataError, match=rf"{Path(path).name}.*{says}"):
        official(name, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_the_official_file_says_which_and_from_where(tmp_path, name):
    with pytest.raises(DataError, match=r"no .*(csv|json) there; looked for .* to be had from"):
        official(name, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        official(name, tmp_path / "gone")


def test_nothing_to_rank_says_why(model, films, tmp_path):
    folder = jsfusion(tmp_path, [], captions(2))
    with pytest.raises(DataError, match=r"none of the 2 items of .* looked for as video9770"):
        measure(model, "msrvtt-1ka", folder)
    put(films[0], folder / "video9770.mp4").write_bytes(b"not media")
    with pytest.raises(DataError, match="nothing in it can be used"):
        measure(model, "msrvtt-1ka", folder)
    spoil(films[0], folder / "video9770.mp4", "video", 0.0, 9.0)
    with pytest.raises(DataError, match=r"(none of the 2 items .* can be ranked|nothing in it)(.|\n)*video9770"):
        measure(model, "msrvtt-1ka", folder)
    put(films[0], folder / "video9770.mp4")
    jsfusion(folder, [], ["...", "!"])
    with pytest.raises(DataError, match="no caption of the items found holds a word"):
        measure(model, "msrvtt-1ka", folder)
    deaf = vggsound(tmp_path / "deaf", films[:1])
    strip(films[0], deaf / "id0-_0_000030.mp4", keep="video")
    with pytest.raises(DataError, match=r"none of the 1 items(.|\n)*has no audio"):
        measure(model, "vggsound-av", deaf)


# The command line


def test_the_command_prints_coverage_and_chance_and_writes_json(run, model, films, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pretrained, "load", lambda run, *, step: model)
    monkeypatch.setenv("COLUMNS", "80")
    folder = jsfusion(tmp_path, films[:4], ["a red circle", "a blue square", "a red circle", "a star", "never there"])
    assert main(["evaluate", run, "--retrieval", "msrvtt-1ka", "--data", str(folder), "--post", "dual-softmax"]) == 0
    out = capsys.readouterr().out
    for said in (
        "msrvtt-1ka version 2",
        "text → video, multi positive",
        "video → text, dual softmax",
        "4 of 5 items found, 1 missing: the scores are of 80.0 % of the protocol",
        "MSRVTT_JSFUSION_test.csv lists 5 items, the publication 1000",
        "1 x the file is not there",
        "video9774: no video9774.*",
        "1 of 4 captions repeat others",
        "8 frames, published with 32",
    ):
        assert said in out
    assert "…" not in out  # fits a terminal of 80 columns
    (path,) = (Path(run) / "evaluations").iterdir()
    assert path.name.startswith("msrvtt-1ka-2-")
    assert str(path) in out
    written = json.loads(path.read_text())
    assert written["hash"] in out
    assert (written["found"], written["listed"], written["share"]) == (4, 5, 0.8)
    assert written["missing"][0]["id"] == "video9774"
    assert written["protocol"]["windows"] == 4
    assert written["scores"].keys() == written["chance"].keys()
    assert written["chance"]["text_to_video"]["R@1"] == 25.0
    assert main(["evaluate", run, "--retrieval", "msrvtt-1ka", "--data", str(folder)]) == 0
    assert len(list(path.parent.iterdir())) == 2  # beside it, not in its place


def test_what_the_command_refuses_before_it_reads_weights(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pretrained, "load", None)
    with pytest.raises(SystemExit) as usage:
        main(["evaluate", run, "--retrieval", "msrvtt-1ka"])
    assert usage.value.code == 2
    assert "--retrieval needs --data DIR" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", run, "--retrieval", "msrvtt", "--data", str(tmp_path)])
    assert "msrvtt-1ka" in capsys.readouterr().err
    assert main(["evaluate", run, "--retrieval", "clotho", "--data", str(tmp_path)]) == 1
    assert "clotho_captions_evaluation.csv" in capsys.readouterr().err
