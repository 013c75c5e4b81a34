"""What lies where: source strings, folders, and the ids of rows. No media is opened, so files here are empty."""

import os
import tarfile
import unicodedata

import pytest

from vatt.data.captions import Caption, throughout
from vatt.data.demo import make_demo
from vatt.data.listing.rows import absolute, list_rows, parse_source
from vatt.errors import DataError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def ids(listing):
    return [row.id for row in listing.rows]


def faults(listing):
    return [(fault.id, fault.reason) for fault in listing.faults]


def test_a_folder_as_downloads_leave_it(tmp_path):
    touch(
        tmp_path,
        "b/Two [dQw4w9WgXcQ].webm", "a/deep/один.M4V", "a/日本語 🎬.mov", "three.mkv", "sound.opus", "alone.jpg",
        "a/pic.PNG", "three.webp", "sound.jpg", "channel.jpg",  # the last three are thumbnails
        "three.mkv.part", "four.mp4.part", "four.part.mp4", "five.temp.mp4", "six.mp4.tmp", "seven.mp4.part-Frag3",
        ".hidden.mp4", ".git/eight.mp4", "a/._one.mp4", "notes.pdf", "notes.PDF", "three.description", "Makefile",
        "three.srt", "three.live_chat.json",
    )  # fmt: skip
    (tmp_path / "b/Two [dQw4w9WgXcQ].en.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nhello\n")
    (tmp_path / "channel.info.json").write_text("{}")
    (tmp_path / "sound.info.json").write_text('{"title": "A song"}')
    seen = []
    listing = list_rows(str(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert ids(listing) == [
        "a/deep/один.M4V", "a/pic.PNG", "a/日本語 🎬.mov", "alone.jpg",
        "b/Two [dQw4w9WgXcQ].webm", "sound.opus", "three.mkv",
    ]  # fmt: skip
    rows = {row.id: row for row in listing.rows}
    assert rows["b/Two [dQw4w9WgXcQ].webm"].captions == (Caption(1.0, 2.0, "hello"),)
    assert rows["sound.opus"].captions == (throughout("A song"),)
    assert rows["three.mkv"].captions == ()
    assert rows["a/deep/один.M4V"].media == str(tmp_path / "a/deep/один.M4V")
    assert (listing.faults, listing.name) == ([], str(tmp_path))
    assert listing.ignored == {
        "webp": 1, "jpg": 2, "part": 2, "mp4": 2, "tmp": 1, "part-frag3": 1, "pdf": 2, "description": 1, "": 1
    }  # fmt: skip
    assert seen == [(i, 7) for i in range(1, 8)]


def test_a_caption_file_that_cannot_be_read_costs_the_captions_only(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "a.srt").write_text("1\n00:00:02,000 --> 00:00:01,000\nbackwards\n")
    listing = list_rows(str(tmp_path))
    assert ids(listing) == ["a.mp4", "b.mp4"]
    assert faults(listing) == [("a.mp4", "bad_captions")]
    assert "a.srt, line 2" in listing.faults[0].detail


def test_a_live_photo_keeps_its_picture_and_a_film_has_a_thumbnail(tmp_path):
    touch(tmp_path, "IMG_1.JPG", "IMG_1.MOV", "film.jpg", "film.mp4", "clip.mov", "clip.webp", "clip.info.json")
    listing = list_rows(str(tmp_path))
    assert ids(listing) == ["IMG_1.JPG", "IMG_1.MOV", "clip.mov", "film.mp4"]
    assert listing.ignored == {"jpg": 1, "webp": 1}


def test_a_bad_caption_costs_itself_only_and_is_told_of(tmp_path):
    touch(tmp_path, "clips/a.mp4")
    (tmp_path / "clips/a.srt").write_text("00:02 --> 00:01\nbackwards\n00:03 --> 00:04\nfine\n")
    (tmp_path / "m.csv").write_text("path\nclips/a.mp4\n")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(tmp_path / "clips", "")
    for source in ("clips", "m.csv", "s.tar"):
        listing = list_rows(str(tmp_path / source))
        assert [[c.text for c in row.captions] for row in listing.rows] == [["fine"]]
        assert [fault.reason for fault in listing.faults] == ["bad_captions"]
        assert "1 caption left out" in listing.faults[0].detail
        assert "a.srt, line 1" in listing.faults[0].detail


def test_a_language_may_be_asked_for(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    for name in ("a.en.srt", "a.de.srt", "b.en.srt"):
        (tmp_path / name).write_text(f"00:01 --> 00:02\n{name}\n")
    said = [[c.text for c in row.captions] for row in list_rows(f"{tmp_path}?language=de").rows]
    assert said == [["a.de.srt"], []]
    assert [[c.text for c in row.captions] for row in list_rows(str(tmp_path)).rows] == [["a.en.srt"], ["b.en.srt"]]


def test_a_language_that_is_asked_for_comes_before_a_file_that_names_none(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    for name in ("a.srt", "a.de.srt", "a.de-AT.vtt", "b.srt"):
        (tmp_path / name).write_text(("WEBVTT\n\n" if name.endswith("vtt") else "") + f"00:01.0 --> 00:02.0\n{name}\n")

    def said(source):
        return [[c.text for c in row.captions] for row in list_rows(source).rows]

    assert said(f"{tmp_path}?language=de") == [["a.de.srt"], ["b.srt"]]
    assert said(f"{tmp_path}?language=de-at") == [["a.de-AT.vtt"], ["b.srt"]]
    assert said(f"{tmp_path}?language=fr") == [["a.srt"], ["b.srt"]]
    assert said(str(tmp_path)) == [["a.srt"], ["b.srt"]]


def test_ids_that_another_file_system_would_confuse_are_faults(tmp_path):
    composed, apart = unicodedata.normalize("NFC", "é.mp4"), unicodedata.normalize("NFD", "é.mp4")
    touch(tmp_path, composed, apart, "A.mp4", "a.mp4", "b/a.mp4")
    listing = list_rows(str(tmp_path))
    assert len(ids(listing)) == 3
    assert {fault.reason for fault in listing.faults} == {"duplicate_id"}
    assert {fault.id for fault in listing.faults} == {"a.mp4", composed}
    assert str(tmp_path / "A.mp4") in listing.faults[0].detail


def test_links_are_followed_and_do_not_run_in_circles(tmp_path):
    touch(tmp_path, "elsewhere/one.mp4", "here/two.mp4")
    (tmp_path / "here/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here/three.mp4").symlink_to(tmp_path / "elsewhere/one.mp4")
    (tmp_path / "here/gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "here")
    listing = list_rows(str(tmp_path / "here"))
    assert ids(listing) == ["linked/one.mp4", "three.mp4", "two.mp4"]
    assert faults(listing) == [("gone.mp4", "missing")]


def test_a_link_to_itself_costs_itself_only(tmp_path):
    touch(tmp_path, "one.mp4")
    for name in ("loop", "loop.mp4"):
        (tmp_path / name).symlink_to(name)
    listing = list_rows(str(tmp_path))
    assert ids(listing) == ["one.mp4"]
    assert faults(listing) == [("loop.mp4", "missing")]
    assert listing.ignored == {"": 1}


def test_a_name_that_is_not_unicode_is_a_fault(tmp_path):
    touch(tmp_path, "good.mp4")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.mp4", "wb"):
        pass
    listing = list_rows(str(tmp_path))
    assert ids(listing) == ["good.mp4"]
    assert faults(listing) == [(r"caf\xe9.mp4", "bad_name")]


def test_a_folder_that_cannot_be_read_costs_itself_only(tmp_path, monkeypatch):
    touch(tmp_path, "good.mp4", "locked/bad.mp4")
    scandir = os.scandir

    def forbid(path):  # the tests may run as root, whom nothing is forbidden
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbid)
    listing = list_rows(str(tmp_path))
    assert ids(listing) == ["good.mp4"]
    assert faults(listing) == [("locked", "unreadable")]


def test_what_holds_no_media_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"absent: no such folder"):
        list_rows(str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"no media files found \(mp4, mkv, webm, .*wav, .*jpg"):
        list_rows(str(tmp_path))
    touch(tmp_path, "film.mp4")
    with pytest.raises(DataError, match=r"film\.mp4: not a folder, a manifest .* or a \.tar"):
        list_rows(str(tmp_path / "film.mp4"))
    with pytest.raises(DataError, match="empty source"):
        list_rows("")
    with pytest.raises(DataError, match="a folder or shards have no splits"):
        list_rows(f"{tmp_path}@train")
    with pytest.raises(DataError, match=r"'root' means nothing here; .* language"):
        list_rows(f"{tmp_path}?root=x")
    with pytest.raises(DataError, match="records that are ready"):
        list_rows("tfds:mnist?image=image")


def test_source_strings_are_taken_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def parts(source):
        parsed = parse_source(source)
        return parsed.kind, parsed.place, parsed.split, parsed.query, parsed.name

    assert parts("clips") == ("folder", "clips", "", {}, "")
    assert parts("data/mine@val") == ("folder", "data/mine", "val", {}, "")
    assert parts("me@host/clips") == ("folder", "me@host/clips", "", {}, "")
    assert parts("a.csv@val?root=/x y/z") == ("manifest", "a.csv", "val", {"root": "/x y/z"}, "")
    assert parts("a.PARQUET") == ("manifest", "a.PARQUET", "", {}, "")
    assert parts("s-{000..010}.tar") == ("tars", "s-{000..010}.tar", "", {}, "")
    assert parts("demo:x/train") == ("demo", "x/train", "", {}, "")
    assert parts("kinetics400:/k@val") == ("builder", "/k", "val", {}, "kinetics400")
    assert parts("nosuchset:/k") == ("folder", "nosuchset:/k", "", {}, "")
    assert parts("tfds:mnist/x:3.0.1@test[:10%]?image=image&dir=d") == (
        "tfds", "mnist/x:3.0.1", "test[:10%]", {"image": "image", "dir": "d"}, "",
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["at 12:30", "me@home", "what?", "a=b?c=d", "kinetics400:k", "x.csv", "{1..3}", "é 🎬"]
)
def test_what_exists_is_what_its_name_says(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / name, "one.mp4")
    assert parse_source(name).place == name
    assert absolute(name) == f"{tmp_path}/{name}"
    assert ids(list_rows(absolute(name))) == ["one.mp4"]


def test_a_source_is_made_absolute_and_stays_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source, expected in {
        "": "",
        "clips": f"{tmp_path}/clips",
        "demo:x/train": f"demo:{tmp_path}/x/train",
        "msrvtt:m@test1k": f"msrvtt:{tmp_path}/m@test1k",
        "m.csv@val?root=r&language=de": f"{tmp_path}/m.csv@val?root={tmp_path}/r&language=de",
        "tfds:x:1.0.0@train?dir=d&video=a.b": f"tfds:x:1.0.0@train?dir={tmp_path}/d&video=a.b",
        "~/clips": os.path.expanduser("~/clips"),
    }.items():
        assert absolute(source) == expected
        monkeypatch.chdir("/")
        assert absolute(expected) == expected
        monkeypatch.chdir(tmp_path)


def test_demo_media_are_made_and_a_published_set_is_read(tmp_path):
    with pytest.raises(DataError, match=r"demo:somewhere: .*demo:somewhere/train"):
        list_rows("demo:somewhere")
    make_demo(tmp_path / "demo", clips=2, heldout=1)
    with pytest.raises(DataError, match="other demo media"):  # this one was made smaller than the demo is
        list_rows(f"demo:{tmp_path}/demo/train")
    touch(tmp_path, "esc/audio/1-100032-A-0.wav")
    (tmp_path / "esc/meta").mkdir()
    (tmp_path / "esc/meta/esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n1-100032-A-0.wav,1,0,dog,True,100032,A\n"
    )
    listing = list_rows(f"esc50:{tmp_path}/esc")
    assert [row.labels for row in listing.rows] == [("dog",)]
    assert listing.name == f"esc50:{tmp_path}/esc"
    with pytest.raises(DataError, match="no split 'nonsense'"):
        list_rows(f"esc50:{tmp_path}/esc@nonsense")
