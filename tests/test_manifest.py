import csv
import json
import math
import os
from decimal import Decimal

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vatt.data.captions import Caption, throughout
from vatt.data.faults import FAULTS
from vatt.data.items import Row
from vatt.data.listing import tables
from vatt.data.listing.rows import list_rows
from vatt.errors import DataError

FORMATS = ("csv", "tsv", "jsonl", "parquet")


def write(path, records):
    """Writes records of one format or another, all with the same columns."""
    columns = list(dict.fromkeys(key for record in records for key in record))
    suffix = path.suffix[1:]
    if suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if suffix == "tsv" else ",")
            writer.writerow(columns)
            for record in records:
                cells = [record.get(column) for column in columns]
                writer.writerow(json.dumps(c, ensure_ascii=False) if isinstance(c, list) else c for c in cells)
    return str(path)


def rows(source):
    listing = list_rows(str(source))
    assert listing.faults == []
    return listing.rows


def reasons(listing):
    return [(fault.id, fault.reason) for fault in listing.faults]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_says_the_same(tmp_path, suffix):
    timed = [{"text": "a dog", "start": 1.5, "end": 2}, {"text": "barks", "start": 2.0, "end": 3.5}]
    columns = ("Path", "id", "start", "end", "captions", "label", "split")
    path = write(
        tmp_path / f"clips.{suffix}",
        [
            dict(zip(columns, ("a b/é, 🎬.mp4", "one", 1.5, 20.0, timed, "dog", "train"), strict=True)),
            dict(zip(columns, ("/elsewhere/c.mp4", "two", None, None, timed[:1], "7", "val"), strict=True)),
        ],
    )
    expected = [
        Row(
            id="one",
            media=str(tmp_path / "a b/é, 🎬.mp4"),
            start=1.5,
            end=20.0,
            captions=(Caption(1.5, 2.0, "a dog"), Caption(2.0, 3.5, "barks")),
            labels=("dog",),
            split="train",
        ),
        Row(id="two", media="/elsewhere/c.mp4", captions=(Caption(1.5, 2.0, "a dog"),), labels=("7",), split="val"),
    ]
    assert rows(path) == expected
    assert rows(f"{path}@val") == expected[1:]
    with pytest.raises(DataError, match=rf"clips\.{suffix}: no rows of split 'test'; it has train, val"):
        list_rows(f"{path}@test")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_lacking_path_column_is_named_with_those_found(tmp_path, suffix):
    path = write(tmp_path / f"clips.{suffix}", [{"file": "a.mp4", "caption": "x"}])
    with pytest.raises(DataError, match=rf"clips\.{suffix}: no column 'path'; it has 'file', 'caption'"):
        list_rows(path)


def test_captions_may_be_said_in_many_ways(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text(
        "path,caption,captions,caption_2,captions_en,text\n"
        'a.mp4,one,"[""two"", ""three""]",four,,five\n'
        "b.mp4,[music],\"['it''s', 'pandas']\",,,\n".replace("''", "\\'").replace("\\'pandas", "'pandas")
        + "c.mp4,,[],  ,,\n"
    )
    found = {row.id: [c.text for c in row.captions] for row in rows(path)}
    assert found == {
        "a.mp4": ["one", "two", "three", "four", "five"],
        "b.mp4": ["[music]", "it's", "pandas"],
        "c.mp4": [],
    }
    assert all(c.start == 0 and c.end == math.inf for row in rows(path) for c in row.captions)


def test_captions_lie_beside_the_files_of_a_manifest_without_any(tmp_path):
    for name in ("a.srt", "b.srt"):
        (tmp_path / name).write_text("00:01 --> 00:02\nhi\n" if name == "a.srt" else "nonsense")
    path = write(tmp_path / "m.jsonl", [{"path": p, "start": s} for p in ("a.mp4", "b.mp4") for s in (0, 5)])
    listing = list_rows(path)
    assert [row.captions for row in listing.rows] == [(Caption(1.0, 2.0, "hi"),)] * 2 + [()] * 2
    assert reasons(listing) == [("b.mp4#0-", "bad_captions")]


def test_lines_that_name_the_same_part_are_one_row(tmp_path):
    records = [{"path": "a.mp4", "caption": f"{i}"} for i in range(20)] + [
        {"path": "a.mp4", "caption": "x", "start": 3}
    ]
    found = rows(write(tmp_path / "m.csv", records))
    assert [row.id for row in found] == ["a.mp4", "a.mp4#3-"]
    assert [c.text for c in found[0].captions] == [str(i) for i in range(20)]


def test_many_rows_may_cut_one_file_and_an_id_may_not_come_twice(tmp_path):
    records = [{"path": "a.mp4", "id": id, "start": i, "end": i + 1} for i, id in enumerate("abAc")]
    listing = list_rows(write(tmp_path / "m.csv", records))
    assert [(row.id, row.start, row.end) for row in listing.rows] == [("a", 0.0, 1.0), ("b", 1.0, 2.0), ("c", 3.0, 4.0)]
    assert reasons(listing) == [("A", "duplicate_id")]
    listing = list_rows(write(tmp_path / "n.csv", [{"path": "a.mp4", "label": x} for x in "xy"]))
    assert (len(listing.rows), reasons(listing)) == (1, [("a.mp4", "duplicate_id")])  # which label holds?


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_line_that_cannot_be_used_costs_itself_and_is_named(tmp_path, suffix):
    bad = [
        ({"path": "a.mp4", "start": "5", "end": "4"}, r"ends \(4 s\) before it starts \(5 s\)"),
        ({"path": "b.mp4", "start": "-1", "end": "4"}, "start: -1 s is not a time"),
        ({"path": "c.mp4", "start": "soon", "end": ""}, "start: .*'soon'"),
        ({"path": "d.mp4", "start": "inf", "end": ""}, "start: inf"),
        ({"path": "", "start": "", "end": ""}, "no path: ''"),
        ({"path": "e.mp4", "start": "2", "end": "2"}, "ends"),
        ({"path": "..", "start": "", "end": ""}, "path '..' names no file"),
        ({"path": "folder/", "start": "", "end": ""}, "names no file"),
    ]
    good = {"path": "good.mp4", "start": "00:01:02.5", "end": "70"}
    path = write(tmp_path / f"m.{suffix}", [record for record, _ in bad] + [good])
    listing = list_rows(path)
    assert [(row.start, row.end) for row in listing.rows] == [(62.5, 70.0)]
    assert {fault.reason for fault in listing.faults} == {"bad_row"}
    for number, ((_, complaint), fault) in enumerate(
        zip(bad, listing.faults, strict=True), 2 if suffix == "csv" else 1
    ):
        with pytest.raises(AssertionError, match=rf"m\.{suffix}, line {number}: .*{complaint}"):
            raise AssertionError(fault.detail)


def test_lines_of_json_that_are_no_records_are_named(tmp_path):
    path = tmp_path / "m.jsonl"
    lines = ['{"path": "a.mp4"}', "", "{", "[1]", "[" * 50_000, '{"path": 3}', '{"path": "b.mp4", "captions": {}}',
             '{"path": "c.mp4", "captions": [{"text": "t", "start": 2, "end": 1}]}', '{"path": "d\\u0000.mp4"}',
             '{"path": "e.mp4", "label": {}}', '{"path": "\\ud800.mp4"}']  # fmt: skip
    path.write_text("\n".join(lines))
    listing = list_rows(str(path))
    assert [row.id for row in listing.rows] == ["a.mp4"]
    assert [fault.detail.split(", ")[1].split(":")[0] for fault in listing.faults] == [
        f"line {i}" for i in range(3, 12)
    ]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("m.csv", b"", "no column 'path'; it has none at all"),
        ("m.csv", "path\ncafé.mp4\n".encode("latin-1"), "not UTF-8.*iconv"),
        ("m.jsonl", '{"path": "café.mp4"}\n'.encode("latin-1"), "not UTF-8.*iconv"),
        ("m.csv", b'path,caption\na.mp4,"left open\n' + b"x,y\n" * 9, "line 11: .*quote"),
        ("m.csv", b"path,caption\na.mp4," + b"x" * 2_000_000, "line 2: field larger"),
        ("m.csv", b"path,path\na,b\n", "two columns are called 'path'"),
        ("m.csv", b"path;start\na;1\n", "no column 'path'; it has 'path;start'"),
        ("m.parquet", b"PAR1 and then nothing", "not Parquet"),
        ("m.parquet", b"", "not Parquet"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(tmp_path, name, content, complaint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"m\.\w+.*{complaint}"):
        list_rows(str(tmp_path / name))


def test_a_missing_manifest_is_named(tmp_path):
    for suffix in FORMATS:
        with pytest.raises(DataError, match=rf"absent\.{suffix}: cannot read the manifest"):
            list_rows(str(tmp_path / f"absent.{suffix}"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_that_say_what_they_are(tmp_path, encoding):
    (tmp_path / "m.csv").write_bytes("path,caption\r\né.mp4,hé\r\n".encode(encoding))
    assert [(row.id, row.captions) for row in rows(tmp_path / "m.csv")] == [("é.mp4", (throughout("hé"),))]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_column_called_almost_like_the_times_is_an_error(tmp_path, suffix):
    for column, name in [("start_time", "start"), ("End Time", "end"), ("begin", "start"), ("t_end", "end"),
                         ("start_sec", "start"), ("stop", "end"), ("clip_start", "start")]:  # fmt: skip
        path = write(tmp_path / f"m.{suffix}", [{"path": "a.mp4", column: 1.0}])
        with pytest.raises(
            DataError, match=rf"m\.{suffix}: the column '{column.lower()}' is not read; call it '{name}'"
        ):
            list_rows(path)
    listing = list_rows(write(tmp_path / f"m.{suffix}", [{"path": "a.mp4", "start": 1.0, "start_time": "1 s"}]))
    assert (listing.rows[0].start, reasons(listing)) == (1.0, [(f"m.{suffix}", "unread_columns")])


@pytest.mark.parametrize("suffix", FORMATS)
def test_columns_that_are_not_read_are_told_of_and_text_is_read(tmp_path, suffix):
    listing = list_rows(write(tmp_path / f"m.{suffix}", [{"path": "a.mp4", "text": "a dog", "Fps": 3, "views": 1}] * 2))
    assert [c.text for c in listing.rows[0].captions] == ["a dog"] * 2
    assert reasons(listing) == [(f"m.{suffix}", "unread_columns")]
    assert listing.faults[0].detail == "'fps', 'views'"
    assert not FAULTS["unread_columns"].fatal


def test_columns_without_names_are_left_out(tmp_path):
    """As Excel adds them behind, and pandas before."""
    (tmp_path / "m.csv").write_text(",path,caption,,\n0,a.mp4,a dog,,\n1,b.mp4,a cat,,,,\n2,c.mp4\n")
    assert [(row.id, len(row.captions)) for row in rows(tmp_path / "m.csv")] == [
        ("a.mp4", 1), ("b.mp4", 1), ("c.mp4", 0)
    ]  # fmt: skip


def test_decimals_are_numbers(tmp_path):
    timed = [{"text": "a dog", "start": Decimal("1.5"), "end": Decimal("2.0")}]
    record = {
        "path": "a.mp4",
        "start": Decimal("0.50"),
        "end": Decimal("9.25"),
        "captions": timed,
        "label": Decimal("7.00"),
    }
    (row,) = rows(write(tmp_path / "m.parquet", [record]))
    assert (row.start, row.end, row.captions, row.labels) == (0.5, 9.25, (Caption(1.5, 2.0, "a dog"),), ("7",))


def test_fields_beyond_the_columns_are_a_fault(tmp_path):
    (tmp_path / "m.csv").write_text('path,caption\na.mp4,a dog, barking\nb.mp4,"a cat, sleeping\nsoundly"\nc.mp4\n')
    listing = list_rows(str(tmp_path / "m.csv"))
    assert [row.id for row in listing.rows] == ["b.mp4", "c.mp4"]
    assert listing.rows[0].captions == (throughout("a cat, sleeping soundly"),)
    assert "line 2: more fields" in listing.faults[0].detail


def test_paths_that_leave_the_folder_are_faults(tmp_path):
    home = tmp_path / "set"
    for folder in ("set/media", "other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "other/x.mp4").write_bytes(b"")
    (home / "media/link.mp4").symlink_to(tmp_path / "other/x.mp4")
    (home / "media/inside.mp4").symlink_to(home / "media/real.mp4")
    (home / "door").symlink_to(tmp_path / "other")
    paths = ["../other/x.mp4", "media/../../other/x.mp4", "media/link.mp4", "door/x.mp4", "../set-2/x.mp4", "../x.mp4"]
    fine = ["media/inside.mp4", "media/../media/real.mp4", "./media/real.mp4", str(tmp_path / "other/x.mp4"), "..x.mp4"]
    listing = list_rows(write(home / "m.csv", [{"path": path} for path in paths + fine]))
    assert reasons(listing) == [(path, "outside") for path in paths]
    assert [row.id for row in listing.rows] == fine
    assert all("leaves" in fault.detail for fault in listing.faults)
    os.rename(home / "m.csv", tmp_path / "m.csv")
    assert len(list_rows(f"{tmp_path}/m.csv?root={home}").rows) == len(fine)


def test_parquet_reads_no_columns_of_bytes_and_numbers_become_labels(tmp_path):
    records = [{"path": "a.mp4", "media": b"x" * 100, "id": 7, "label": 3.0, "labels": ["x", "y"]}]
    path = write(tmp_path / "m.parquet", records)
    assert [list(record) for _, record in tables.records(path)] == [["path", "id", "label", "labels"]]
    assert rows(path) == [Row(id="7", media=str(tmp_path / "a.mp4"), labels=("3", "x", "y"))]


def test_many_captions_of_one_file_take_no_longer_than_they_should(tmp_path):
    path = write(tmp_path / "m.csv", [{"path": "a.mp4", "caption": "x"}] * 50_000)
    assert len(rows(path)[0].captions) == 50_000


ODD = ["a.mp4", "../a.mp4", "/a.mp4", "1", "-1", "nan", "1e999", "00:01:00", '["a"]', "['a'", "[[[", '"', ""]
CELL = st.sampled_from(ODD) | st.text(max_size=6)
VALUE = st.recursive(
    CELL | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "start"]), inner, max_size=2),
    max_leaves=6,
)
COLUMN = st.sampled_from(["path", "id", "start", "end", "caption", "captions", "label", "labels", "split", "x"])


@st.composite
def manifests(draw):
    if draw(st.booleans()):
        columns = ["path", *draw(st.lists(COLUMN, max_size=4))]
        lines = [columns, *draw(st.lists(st.lists(CELL, max_size=5), max_size=6))]
        quote = draw(st.booleans())
        cells = [[json.dumps(c) if quote else c for c in line] for line in lines]
        return "m.csv", "\n".join(",".join(line) for line in cells).encode("utf-8", "surrogatepass")
    lines = draw(st.lists(st.dictionaries(COLUMN, VALUE, max_size=5).map(json.dumps) | CELL, max_size=6))
    return "m.jsonl", "\n".join(lines).encode("utf-8", "surrogatepass")


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(manifest=manifests())
def test_any_manifest_gives_rows_and_faults_or_an_error_that_names_it(tmp_path_factory, manifest):
    check_any(tmp_path_factory, *manifest)


def check_any(tmp_path_factory, name, data):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    try:
        listing, message = list_rows(str(path)), name
    except DataError as error:
        listing, message = None, str(error)
    assert name in message
    if listing:
        assert len({row.id for row in listing.rows}) == len(listing.rows)
        for row in listing.rows:
            assert isinstance(row.media, str)
            assert os.path.isabs(row.media)
            assert row.start >= 0
            assert row.end is None or row.start < row.end < math.inf
        assert all(
            fault.reason in ("bad_row", "outside", "duplicate_id", "bad_name", "unread_columns")
            for fault in listing.faults
        )


@settings(max_examples=200)
@given(data=st.data())
def test_any_damage_to_parquet_gives_rows_and_faults_or_an_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "whole.parquet"
    if not path.exists():
        captions = [{"text": "a dog", "start": 1.0, "end": 2.0}]
        write(path, [{"path": f"{i}.mp4", "start": float(i), "captions": captions, "label": "x"} for i in range(9)])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    check_any(tmp_path_factory, "m.parquet", bytes(content[: data.draw(st.sampled_from([None, None, -1, 99]))]))
