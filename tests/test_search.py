"""Search: the ranking against brute force, what queries mean, the approximate index, and the command line."""

import argparse
import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.indexed import tiny_index, unit_rows, write_rows
from vatt import cli
from vatt.cli import search as cli_search
from vatt.errors import CheckpointError, DataError, MediaError
from vatt.evals import nearest as nearest_module
from vatt.evals import rows as rows_module
from vatt.evals.nearest import exact_nearest, open_nearest
from vatt.evals.query import Query, embed_query, load_model, query_kind, wanted_pairs
from vatt.evals.rows import open_index
from vatt.evals.search import Searcher, cosines

WIDTHS = {"va": 6, "vt": 4}
VT = [("vt", "video"), ("vt", "audio")]


def some_rows(files=30, windows=4, seed=0) -> list[dict]:
    """Rows as an index holds them: each file's sound in va, its video in both spaces; a caption for every third."""
    rng, found = np.random.default_rng(seed), []
    for number in range(files):
        for modality, spaces in (("audio", ("va", "vt")), ("text", ("vt",)), ("video", ("va", "vt"))):
            if modality == "text" and number % 3:
                continue
            for space in spaces:
                for i in range(1 if modality == "text" else windows):
                    vector = rng.standard_normal(WIDTHS[space]).astype(np.float32)
                    row = {"path": f"/m/{number:03d}.mp4", "modality": modality, "space": space, "start": float(i)}
                    row |= {"end": i + 1.0, "vector": vector / np.linalg.norm(vector)}
                    found.append(row | ({"text": f"caption {number}"} if modality == "text" else {}))
    return found


def words(*vector: float) -> Query:
    return Query("text", {"vt": np.array(vector, np.float32)})


@pytest.fixture
def small_blocks(monkeypatch):
    """Vectors are read a few at a time, so that small indexes are read in many blocks."""
    monkeypatch.setattr(rows_module, "BATCH", 37)


@pytest.mark.parametrize("keep", ["disk", "memory"])
@pytest.mark.parametrize("per_file", [1, 3])
def test_hits_are_those_of_brute_force_whatever_the_blocks(tmp_path, small_blocks, keep, per_file):
    rows = some_rows()
    index = open_index(write_rows(tmp_path / "emb.parquet", rows))
    searcher = Searcher(index, keep=keep)
    for query in (words(0.5, 0.5, 0.5, 0.5), words(0, 1, 0, 0), words(0.6, 0, -0.8, 0)):
        scores = [
            float(row["vector"].astype(np.float64) @ query.vectors["vt"])
            if row["space"] == "vt" and row["modality"] in ("audio", "video")
            else -np.inf
            for row in rows
        ]
        expected, taken = [], {}
        for i in sorted(range(len(rows)), key=lambda i: -scores[i]):
            mine = taken.setdefault(rows[i]["path"], set())
            if len(mine) < per_file and rows[i]["start"] not in mine:  # the other modality of a window overlaps it
                mine.add(rows[i]["start"])
                expected.append(i)
        hits = searcher.search(query, VT, k=7, per_file=per_file)
        assert [hit.row for hit in hits] == expected[:7]
        for hit in hits:
            row = rows[hit.row]
            assert (hit.path, hit.modality, hit.space, hit.start, hit.end, hit.text) == (
                *(row[name] for name in ("path", "modality", "space", "start", "end")),
                None,
            )
            assert hit.score == pytest.approx(scores[hit.row], abs=1e-6)


def test_ties_go_to_the_earlier_row_wherever_blocks_end(tmp_path, small_blocks):
    near, far = unit_rows(2, 131)
    place = {"modality": "audio", "space": "va", "start": 0.0, "end": 1.0}
    rows = [{"path": f"/m/{i:03d}.wav", "vector": (near, far)[i % 3 == 1]} | place for i in range(300)]
    index = open_index(write_rows(tmp_path / "emb.parquet", rows))
    query = Query("audio", {"va": (near + unit_rows(1, 131, seed=1)[0]) / 2})
    hits = Searcher(index).search(query, [("va", "audio")], k=300)
    assert [hit.row for hit in hits] == sorted(range(300), key=lambda i: (i % 3 == 1, i))
    assert len({hit.score for hit in hits}) == 2


def test_windows_that_overlap_by_more_than_half_are_one_hit(tmp_path):
    vectors = {0.0: [1, 0, 0, 0], 0.4: [0.9, 0.436, 0, 0], 1.0: [0.8, 0.6, 0, 0], 1.5: [0.7, 0.714, 0, 0]}
    rows = [
        {"path": "/m/a.mp4", "modality": "video", "space": "vt", "start": start, "end": start + 1.0, "vector": vector}
        for start, vector in vectors.items()
    ]
    searcher = Searcher(open_index(write_rows(tmp_path / "emb.parquet", rows)))
    found = [hit.start for hit in searcher.search(words(1, 0, 0, 0), VT, k=5, per_file=5)]
    assert found == [0.0, 1.0, 1.5]
    assert [hit.start for hit in searcher.search(words(1, 0, 0, 0), VT, k=5)] == [0.0]


def test_what_a_query_is_compared_with(tmp_path):
    index = open_index(write_rows(tmp_path / "emb.parquet", some_rows(3)))
    assert wanted_pairs(index, "text") == [("vt", "video"), ("vt", "audio")]
    assert wanted_pairs(index, "audio") == [("va", "video"), ("va", "audio")]
    assert wanted_pairs(index, "video") == [("va", "video")]
    assert wanted_pairs(index, "video", ["text", "audio"]) == [("vt", "text"), ("va", "audio")]
    sounds = [row for row in some_rows(3) if row["modality"] == "audio" and row["space"] == "va"]
    index = open_index(write_rows(tmp_path / "sounds.parquet", sounds))
    with pytest.raises(DataError, match=r"a query by text is compared with video in vt or audio in vt, .* audio in va"):
        wanted_pairs(index, "text")
    with pytest.raises(DataError, match=r"video in va, and this index holds audio in va"):
        wanted_pairs(index, "video")


def test_words_files_and_what_only_looks_like_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.MP4", "c.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = [query_kind(query) for query in ("a dog barks", "a.wav", "b.MP4", "c.png", "x" * 5000, "a\0b")]
    assert found == ["text", "audio", "video", "video", "text", "text"]
    for query, what in (("", "is empty"), ("  ", "is empty"), ("d.mp4", "no such file"), ("notes.txt", "say what it")):
        with pytest.raises(DataError, match=what):
            query_kind(query)


def test_what_is_no_index_is_told(tmp_path):
    (tmp_path / "text.parquet").write_text("no")
    write_rows(tmp_path / "empty.parquet", [])
    shutil.copy(write_rows(tmp_path / "cut.parquet", some_rows(9)), tmp_path / "whole.parquet")
    os.truncate(tmp_path / "cut.parquet", 900)
    table = pq.read_table(tmp_path / "whole.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    newer = table.schema.metadata | {b"vatt.version": b"2"}
    pq.write_table(table.replace_schema_metadata(newer), tmp_path / "newer.parquet")
    pq.write_table(table.drop_columns(["text"]), tmp_path / "lacking.parquet")
    for name, what in (
        ("none.parquet", "no such index"),
        ("text.parquet", "cannot be read as Parquet"),
        ("cut.parquet", "cannot be read as Parquet"),
        ("empty.parquet", "holds no rows"),
        ("other.parquet", "no index that vatt embed made"),
        ("newer.parquet", "an index of version 2"),
        ("lacking.parquet", "has no column 'text'"),
        (".", "cannot be read as Parquet"),
    ):
        with pytest.raises(DataError, match=what):
            open_index(tmp_path / name)
    rows = some_rows(2)
    rows[-1]["vector"] = rows[-1]["vector"] * np.nan
    index = open_index(write_rows(tmp_path / "nan.parquet", rows))
    with pytest.raises(DataError, match=r"nan.parquet: holds vectors that are NaN"):
        Searcher(index).search(words(1, 0, 0, 0), VT, k=1)
    with pytest.raises(DataError, match="4 wide, and the query's 3"):
        Searcher(open_index(tmp_path / "whole.parquet")).search(words(1, 0, 0), VT, k=1)


@pytest.fixture
def approximate(tmp_path):
    """An index, its approximate index, and what was said while that was built."""
    index, said = open_index(write_rows(tmp_path / "emb.parquet", some_rows(300, windows=2))), []
    return index, open_nearest(index, said.append), said


def test_approximate_hits_have_exact_scores_in_order_and_recall_is_what_was_said(approximate):
    """Which rows are found may differ from one building to the next: several threads build."""
    index, nearest, said = approximate
    vectors = {
        row: x for pair in VT for rows, block in index.blocks([pair]) for row, x in zip(rows, block, strict=True)
    }
    searcher = Searcher(index, nearest=nearest)
    for vector in unit_rows(20, 4):
        hits = searcher.search(words(*vector), VT, k=20)
        assert len({hit.path for hit in hits}) == 20
        assert [hit.score for hit in hits] == [
            cosines(vectors[hit.row][None], vector.astype(np.float32), index)[0] for hit in hits
        ]
        order = [(-hit.score, hit.row) for hit in hits]
        assert order == sorted(order)
    told = [re.search(r"recall@10 against exact search: ([0-9.]+) %", line) for line in said]
    assert [float(match[1]) for match in told if match] == [round(100 * x, 1) for x in nearest.recall.values()]
    assert nearest.recall.keys() == set(index.pairs)
    for pair, recall in nearest.recall.items():
        queries, _ = nearest_module._queries(index, *pair)
        best = exact_nearest(index, pair, queries)
        found = [nearest.find(query, pair, 10)[0] for query in queries]
        assert np.mean([np.isin(*rows) for rows in zip(best, found, strict=True)]) == pytest.approx(recall, abs=1e-9)
        assert recall > 0.5  # ten rows by chance would be one in thirty


def test_all_rows_and_few_rows_are_searched_exactly(approximate, tmp_path):
    index, nearest, _ = approximate
    searcher, query = Searcher(index, nearest=nearest), words(1, 0, 0, 0)
    assert searcher.search(query, VT, k=400) == Searcher(index).search(query, VT, k=400)
    few = open_index(write_rows(tmp_path / "few.parquet", some_rows(9)))
    searcher = Searcher(few, nearest=open_nearest(few, print))
    assert searcher.search(query, VT, k=3) == Searcher(few).search(query, VT, k=3)


def test_an_approximate_index_is_built_once_and_known_again_after_a_copy(approximate, monkeypatch):
    index, _, _ = approximate
    folder = index.path.with_name("emb.parquet.usearch")
    graphs = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.usearch")}
    os.utime(index.path)  # another time, the same content
    digests, real, said = [], nearest_module._digest, []
    monkeypatch.setattr(nearest_module, "_digest", lambda path: digests.append(path) or real(path))
    for _ in range(2):
        open_nearest(open_index(index.path), said.append)
    assert said == []
    assert digests == [index.path]  # read once more, and not at every start from then on
    assert {file.name: file.stat().st_mtime_ns for file in folder.glob("*.usearch")} == graphs


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: bytes(len(data)), None])
def test_a_damaged_approximate_index_is_built_again(approximate, damage):
    index, _, _ = approximate
    (graph,) = index.path.with_name("emb.parquet.usearch").glob("*-vt-video.usearch")
    data = graph.read_bytes()
    graph.unlink()  # another file of that name: this one is mapped into memory
    if damage:
        graph.write_bytes(damage(data))
    said = []
    nearest = open_nearest(index, said.append)
    assert "damaged; building it again" in said[0]
    assert len(Searcher(index, nearest=nearest).search(words(1, 0, 0, 0), VT, k=3)) == 3
    (index.path.with_name("emb.parquet.usearch") / "about.json").write_text("[]")
    open_nearest(index, said.append)
    assert sum("building video in vt" in line for line in said) == 2


def test_the_approximate_index_is_named_where_rows_are_many_for_how_they_are_kept(tmp_path, monkeypatch, capsys):
    index = open_index(write_rows(tmp_path / "emb.parquet", some_rows(9)))
    monkeypatch.setattr(cli_search, "LARGE", {"disk": len(index) - 1, "memory": len(index)})
    options = argparse.Namespace(approximate=False)
    assert cli_search.make_searcher(index, options, keep="memory").nearest is None
    assert capsys.readouterr().err == ""
    assert cli_search.make_searcher(index, options, keep="disk").nearest is None
    assert "--approximate would be faster" in capsys.readouterr().err


def test_one_files_many_windows_do_not_hide_the_files_behind_it(tmp_path):
    rows = []
    for number, count in enumerate((400, 1, 1)):
        for i in range(count):
            vector = np.array([1 - 0.3 * number, 0.001 * i, 0.1, 0.3 * number])
            row = {"path": f"/m/{number}.mp4", "modality": "video", "space": "vt", "start": float(i), "end": i + 1.0}
            rows.append(row | {"vector": vector / np.linalg.norm(vector)})
    index = open_index(write_rows(tmp_path / "emb.parquet", rows))
    hits = Searcher(index, nearest=open_nearest(index, print)).search(words(1, 0, 0, 0), [("vt", "video")], k=3)
    assert [hit.path for hit in hits] == ["/m/0.mp4", "/m/1.mp4", "/m/2.mp4"]


def test_an_approximate_index_of_other_content_is_built_again(tmp_path):
    path = write_rows(tmp_path / "emb.parquet", some_rows(50))
    open_nearest(open_index(path), print)
    path = write_rows(path, some_rows(50, seed=1))
    index, said = open_index(path), []
    nearest = open_nearest(index, said.append)
    assert "building it again" in said[0]
    rows, scores = nearest.find(np.array([0, 0, 1, 0], np.float32), ("vt", "video"), 3)
    ((held, vectors),) = index.blocks([("vt", "video")])
    assert scores.tolist() == vectors[np.searchsorted(held, rows), 2].tolist()
    assert len(list((tmp_path / "emb.parquet.usearch").iterdir())) == 1 + len(index.pairs)  # nothing old is left


def test_a_building_that_is_killed_leaves_nothing_that_is_believed(tmp_path, monkeypatch):
    index = open_index(write_rows(tmp_path / "emb.parquet", some_rows(20)))
    replaced = os.replace

    def killed(source, target):
        if str(target).endswith("about.json"):
            raise KeyboardInterrupt
        replaced(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        open_nearest(index, print)
    monkeypatch.setattr(os, "replace", replaced)
    said = []
    open_nearest(index, said.append)
    assert any("building" in line for line in said)


def test_a_clip_finds_itself_by_its_pictures_and_by_its_sound(demo_media):
    path, model = tiny_index(demo_media)
    index = open_index(path)
    clip = index.files[3]
    for kind in ("video", "audio"):
        hits = Searcher(index).search(embed_query(model, clip, kind), [("va", kind)], k=3)
        assert hits[0].path == clip
        assert hits[0].score > 0.99
    words = embed_query(model, "A red flumph circle", "text")
    assert words.notes == ("the model does not know 'flumph'",)
    notes = embed_query(model, " ".join(["red"] * model.cfg.clip.words + ["flumph"]), "text").notes
    assert notes == (f"the model reads the first {model.cfg.clip.words} words only",)
    with pytest.raises(DataError, match="'flumph!' holds no word that the model knows"):
        embed_query(model, "flumph!", "text")
    with pytest.raises(DataError, match="holds no words"):
        embed_query(model, "?!", "text")


def test_long_files_are_seen_through_few_windows_and_poor_ones_are_refused(demo_media, tmp_path):
    import av

    _, model = tiny_index(demo_media)
    seconds, rate = 40, 8_000
    noise = (8_000 * np.random.default_rng(0).standard_normal(seconds * rate)).clip(-32_000, 32_000).astype(np.int16)
    for name, samples in (("long.wav", noise), ("short.wav", noise[:800]), ("silent.wav", 0 * noise)):
        with av.open(str(tmp_path / name), "w") as file:
            stream = file.add_stream("pcm_s16le", rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
            frame.sample_rate = rate
            file.mux(stream.encode(frame))
    assert embed_query(model, str(tmp_path / "long.wav"), "audio").notes == (
        "the query is the mean of 16 windows of the file",
    )
    for name, kind, what in (
        ("short.wav", "audio", "a clip lasts"),
        ("silent.wav", "audio", "silent; search by its video instead"),
        ("long.wav", "video", "has no video; search by its audio instead"),
    ):
        with pytest.raises(MediaError, match=f"{name}: .*{what}"):
            embed_query(model, str(tmp_path / name), kind)


def test_the_command_line_prints_hits_and_the_remedy(demo_media, tmp_path, capsys):
    path, _ = tiny_index(demo_media)
    assert cli.main(["search", str(path), "a red circle moves left", "-k", "3"]) == 0
    out, err = capsys.readouterr()
    assert "loading" in err
    assert out.count(".mp4") == 3
    assert cli.main(["search", str(path), "a red circle", "-k", "4", "--json", "--approximate"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert "recall@10" in err
    assert [hit["rank"] for hit in told["hits"]] == [1, 2, 3, 4]
    scores = [hit["score"] for hit in told["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert {hit["space"] for hit in told["hits"]} == {"vt"}
    clip = open_index(path).files[0]
    os.rename(clip, f"{clip}.away")
    try:
        assert cli.main(["search", str(path), "red", "-k", "9", "--json"]) == 0
        hits = json.loads(capsys.readouterr().out)["hits"]
        assert {hit["path"] for hit in hits if hit["missing"]} == {clip}
        assert len(hits) == 6
        assert cli.main(["search", str(path), "red", "-k", "9"]) == 0
        assert capsys.readouterr().out.count("gone") == 1
    finally:
        os.rename(f"{clip}.away", clip)
    for args, what in (
        ([""], "the query is empty"),
        (["flumph"], "holds no word that the model knows"),
        (["none.mp4"], "no such file"),
        (["red", "--modalities", "text"], "this index holds"),
        (["red", "--run", str(tmp_path / "gone")], "give that run with --run"),
    ):
        assert cli.main(["search", str(path), *args]) == 1
        assert what in capsys.readouterr().err


def test_an_index_of_another_model_is_refused_by_both_hashes(demo_media, tmp_path):
    path, model = tiny_index(demo_media)
    index = open_index(path)
    shutil.copytree(model.cfg.run, tmp_path / "moved")
    assert load_model(index, str(tmp_path / "moved")).hash == model.hash
    with pytest.raises(CheckpointError, match=rf"feedfacefeedface, and .*moved at step 1 is {model.hash}: .*--run"):
        load_model(replace(index, model="feedfacefeedface"), str(tmp_path / "moved"))
