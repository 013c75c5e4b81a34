import gzip
import io
import json
import os
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vatt.data.captions import Caption, throughout
from vatt.data.items import Slice
from vatt.data.listing.archives import expand, list_tars
from vatt.data.listing.rows import list_rows
from vatt.errors import DataError


def pack(path, members, form=tarfile.PAX_FORMAT):
    """Writes a tar: name -> bytes, or a TarInfo of another type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(content, tarfile.TarInfo) else content
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def reasons(listing):
    return [(fault.id, fault.reason) for fault in listing.faults]


def texts(row):
    return [caption.text for caption in row.captions]


SAMPLES = {
    "0001.mp4": b"video one",
    "0001.txt": b"a dog",
    "0001.cls": b"7\n",
    "sub/0002.jpg": b"picture",
    "sub/0002.opus": b"sound two",
    "sub/0002.json": json.dumps({"caption": "two", "fps": 25}).encode(),
    "sub/0003.front.webm": b"video three",
    "sub/0003.en.vtt": b"WEBVTT\n\n00:01.000 --> 00:02.000\nthree\n",
    "sub/0003.json": b'{"fps": 25}',
    "0004.txt": b"no medium",
    "._0005.mp4": b"hidden",
    "0006.png": b"",
}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_are_members_with_one_key(tmp_path, form):
    path = pack(tmp_path / "a.tar", SAMPLES, form)
    listing = list_rows(path)
    assert listing.faults == []
    assert [row.id for row in listing.rows] == [
        "a.tar/0001.mp4", "a.tar/sub/0002.opus", "a.tar/sub/0003.webm", "a.tar/0006.png"
    ]  # fmt: skip
    one, two, three, six = listing.rows
    assert (one.captions, one.labels) == ((throughout("a dog"),), ("7",))
    assert (texts(two), texts(six)) == (["two"], [])
    assert three.captions == (Caption(1.0, 2.0, "three"),)
    assert [row.media.name for row in listing.rows] == ["0001.mp4", "sub/0002.opus", "sub/0003.front.webm", "0006.png"]
    for row in listing.rows:
        assert isinstance(row.media, Slice)
        assert row.media.read() == SAMPLES[row.media.name]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(tmp_path, form):
    members = {f"{'folder/' * 30}{'x' * 90}.mp4": b"long", "日本語 🎬.mp4": b"foreign", "./dotted.mp4": b"dotted"}
    rows = list_tars(pack(tmp_path / "a.tar", members, form)).rows
    assert [row.media.read() for row in rows] == [b"long", b"foreign", b"dotted"]
    assert rows[2].id == "a.tar/dotted.mp4"


def test_shards_in_braces_and_in_folders(tmp_path):
    for shard in range(12):
        pack(tmp_path / f"x{shard % 2}/s-{shard:03d}.tar", {"1.mp4": b"x", f"{shard}.wav": b"y"})
    (tmp_path / "x0/README.md").write_text("hi")
    assert len(list_rows(f"{tmp_path}/x0").rows) == 12
    listing = list_rows(f"{tmp_path}/x{{0,1}}/s-{{009..011}}.tar")
    assert [row.id for row in listing.rows] == [
        "x0/s-010.tar/1.mp4", "x0/s-010.tar/10.wav", "x1/s-009.tar/1.mp4", "x1/s-009.tar/9.wav", "x1/s-011.tar/1.mp4",
        "x1/s-011.tar/11.wav",
    ]  # fmt: skip
    assert reasons(listing) == [("x0/s-009.tar", "missing"), ("x0/s-011.tar", "missing"), ("x1/s-010.tar", "missing")]
    with pytest.raises(DataError, match="no such shards"):
        list_rows(f"{tmp_path}/y-{{00..10}}.tar")


def test_braces():
    assert list(expand("a-{8..10}{x,y}.tar")) == [f"a-{i}{j}.tar" for i in (8, 9, 10) for j in "xy"]
    assert list(expand("a-{08..10}.tar")) == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert list(expand("{a,}{}.tar")) == ["a{}.tar", "{}.tar"]
    for much in ("{0..999999999}.tar", "{0..9999}{0..9999}{0..9999}.tar", "{5..4}.tar"):
        with pytest.raises(DataError, match="shards; it should be 1 to 1000000"):
            list(expand(much))


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_members_that_leave_the_archive_are_faults(tmp_path):
    members = {
        "good.mp4": b"good", "/abs.mp4": b"x", "../up.mp4": b"x", "a/../../up.mp4": b"x", "..": b"x",
        "link.mp4": special("link.mp4", tarfile.SYMTYPE, "/etc/passwd"),
        "hard.mp4": special("hard.mp4", tarfile.LNKTYPE, "good.mp4"),
        "dev.mp4": special("dev.mp4", tarfile.CHRTYPE), "pipe.mp4": special("pipe.mp4", tarfile.FIFOTYPE),
        "folder": special("folder", tarfile.DIRTYPE), "last.mp4": b"last",
    }  # fmt: skip
    listing = list_rows(pack(tmp_path / "a.tar", members))
    assert [row.media.read() for row in listing.rows] == [b"good", b"last"]
    bad = ["/abs.mp4", "../up.mp4", "a/../../up.mp4", "..", "link.mp4", "hard.mp4", "dev.mp4", "pipe.mp4"]
    assert reasons(listing) == [(f"a.tar/{name}", "outside") for name in bad]


def test_a_member_with_holes_is_a_fault(tmp_path):
    members = {"a.mp4": b"a", "holes.mp4": special("holes.mp4", tarfile.GNUTYPE_SPARSE), "b.mp4": b"b"}
    listing = list_tars(pack(tmp_path / "a.tar", members, tarfile.GNU_FORMAT))
    assert [row.id for row in listing.rows] == ["a.tar/a.mp4", "a.tar/b.mp4"]
    assert reasons(listing) == [("a.tar/holes.mp4", "unreadable")]


def test_a_header_that_leads_back_ends_the_walk(tmp_path):
    """A size of -512 bytes would lead to the same header again, for ever."""
    header = bytearray(tarfile.TarInfo("a.mp4").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-512).to_bytes(12, "big", signed=True)
    with open(pack(tmp_path / "a.tar", {"first.mp4": b"x"}), "r+b") as file:
        file.seek(1024)
        file.write(sealed(header))
    listing = list_tars(str(tmp_path / "a.tar"))
    assert [row.id for row in listing.rows] == ["a.tar/first.mp4"]
    assert reasons(listing) == [("a.tar", "unreadable")]


def sealed(header: bytearray) -> bytes:
    """The header with a checksum that fits."""
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * ord(" "))
    return bytes(header)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("size", [1 << 45, (1 << 20) + 1])
def test_a_name_that_claims_to_be_huge_is_not_read(tmp_path, first, kind, size):
    header = bytearray(special("a.mp4", kind).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\x80" + size.to_bytes(11, "big")
    path = pack(tmp_path / "a.tar", {"first.mp4": b"x"})
    with open(path, "r+b") as file:
        file.seek(0 if first else 1024)
        file.write(sealed(header))
        file.truncate(1 << 31)  # holes, which would really be read
    listing = list_tars(path)
    assert len(listing.rows) == (0 if first else 1)
    assert reasons(listing) == [("a.tar", "unreadable")]
    assert f"{size} bytes" in listing.faults[0].detail


def test_a_list_of_holes_that_ends_early_is_told_of(tmp_path):
    header = bytearray(special("a.mp4", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # its list goes on in the next block
    (tmp_path / "a.tar").write_bytes(sealed(header))
    assert reasons(list_tars(str(tmp_path / "a.tar"))) == [("a.tar", "unreadable")]


def test_a_shard_cut_short_gives_what_is_whole_in_it(tmp_path):
    path = pack(tmp_path / "a.tar", {f"{i}.mp4": bytes([i]) * 1000 for i in range(4)})
    with open(path, "r+b") as file:
        for size, whole, cut in ((3 * 1536 + 900, 3, True), (2 * 1536 + 100, 2, True), (2 * 1536, 2, False)):
            file.truncate(size)
            listing = list_tars(path)
            assert [row.media.read() for row in listing.rows] == [bytes([i]) * 1000 for i in range(whole)]
            assert [fault.reason for fault in listing.faults] == ["truncated"] * cut  # some writers add no end


def test_a_damaged_header_is_told_of(tmp_path):
    path = pack(tmp_path / "a.tar", {f"{i}.mp4": b"x" * 1000 for i in range(4)})
    with open(path, "r+b") as file:
        file.seek(2 * 1536)
        file.write(b"\xff" * 300)
    listing = list_tars(path)
    assert len(listing.rows) == 2
    assert reasons(listing) == [("a.tar", "unreadable")]
    assert "damaged at byte 3072" in listing.faults[0].detail


def test_what_is_no_tar_is_told_of(tmp_path):
    (tmp_path / "text.tar").write_text("not a tar" * 100)
    (tmp_path / "empty.tar").write_bytes(b"")
    with gzip.open(tmp_path / "zipped.tar", "wb") as file, open(pack(tmp_path / "a.tar", SAMPLES), "rb") as tar:
        file.write(tar.read())
    listing = list_tars(str(tmp_path))
    assert len(listing.rows) == 4
    assert reasons(listing) == [(f"{name}.tar", "unreadable") for name in ("empty", "text", "zipped")]
    assert "gunzip" in listing.faults[2].detail


def test_captions_and_labels_that_cannot_be_read_cost_themselves_only(tmp_path):
    members = {
        "1.mp4": b"x",
        "1.srt": b"nonsense",
        "2.mp4": b"x",
        "2.cls": b"\xff",
        "3.mp4": b"x",
        "3.cls": b"9" * 9999,
    }
    listing = list_tars(pack(tmp_path / "a.tar", members))
    assert [(row.captions, row.labels) for row in listing.rows] == [((), ())] * 3
    assert reasons(listing) == [
        ("a.tar/1.mp4", "bad_captions"),
        ("a.tar/2.mp4", "bad_label"),
        ("a.tar/3.mp4", "bad_label"),
    ]
    assert "a.tar: 1.srt, line 1" in listing.faults[0].detail


def test_an_empty_caption_file_leaves_the_word_to_others(tmp_path):
    members = {"1.mp4": b"x", "1.srt": b"", "1.en.vtt": b"WEBVTT\n\n00:01.000 --> 00:02.000\nhi\n"}
    assert texts(list_tars(pack(tmp_path / "a.tar", members)).rows[0]) == ["hi"]


def test_media_are_not_read_to_list_them(tmp_path):
    """A shard of 40 GB, of which the file system stores the headers only."""
    with open(tmp_path / "a.tar", "wb") as file:
        for i in range(40):
            info = tarfile.TarInfo(f"{i:04d}.mp4")
            info.size = 1 << 30
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.seek(1 << 30, os.SEEK_CUR)
        file.write(b"\0" * 1024)
    listing = list_rows(str(tmp_path / "a.tar"))
    assert (len(listing.rows), listing.faults) == (40, [])
    assert listing.rows[39].media.offset == 39 * ((1 << 30) + 512) + 512


@st.composite
def tars(draw):
    """A tar as someone may have packed it, some of whose bytes were then changed, dropped or repeated."""
    names = st.sampled_from(
        ["a.mp4", "a.txt", "a.srt", "b.webm", "../c.mp4", "/d.mp4", "é" * 80 + ".mp4", "e" * 150 + ".wav"]
    )
    form = draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name in draw(st.lists(names, max_size=4)):
            info = tarfile.TarInfo(name if form != tarfile.USTAR_FORMAT else name[-20:].replace("é", "e"))
            info.type = draw(
                st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.SYMTYPE, tarfile.GNUTYPE_SPARSE, b"x", b"L"])
            )
            data = draw(st.sampled_from([b"", b"1 --> 2", b"20 path=../x.mp4\n", b"19 size=-1000000\n\n", b"y" * 600]))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = bytearray(file.getvalue()[: draw(st.sampled_from([512, 1000, 1536, 3000, 10240]))])
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(data) - 12)))
        piece = draw(
            st.sampled_from([b"\0", b"7", b"9" * 11, b"\xff" * 12, b"\x80" + b"\0" * 11, b" ", b"-0000001", b"x", b"S"])
        )
        data[at : at + len(piece)] = piece
        if at % 512 < 500 and draw(st.booleans()):  # so that the header is believed
            block = at // 512 * 512
            header = data[block : block + 512].ljust(512, b"\0")
            total = sum(header) - sum(header[148:156]) + 8 * 32
            data[block + 148 : block + 156] = b"%06o\0 " % total
    return bytes(data)


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(data=tars())
def test_any_tar_gives_rows_within_it_and_faults(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.tar"
    path.write_bytes(data)
    listing = list_tars(str(path))
    for row in listing.rows:
        assert 0 <= row.media.offset <= row.media.offset + row.media.size <= len(data)
        assert ".." not in row.media.name.split("/")
        assert not row.media.name.startswith("/")
        assert len(row.media.read()) == row.media.size
