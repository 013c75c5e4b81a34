import shutil

import pytest

from vatt.data.captions import Caption, write_srt
from vatt.data.demo import make_demo
from vatt.data.manifest import absolute, load_source, scan
from vatt.errors import DataError


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "media"
    make_demo(folder, clips=4, heldout=3)
    return folder


@pytest.fixture
def media(demo):
    return sorted((demo / "heldout").glob("*.mp4"))


def test_items_come_sorted_from_all_subfolders_with_their_captions(tmp_path, media):
    for name in ["b/two.mp4", "a/deep/one.M4V", "three.mov"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(media[0], tmp_path / name)
    write_srt(tmp_path / "b/two.srt", [Caption(0.0, 1.0, "hello")])
    (tmp_path / "notes.txt").write_text("not media")
    (tmp_path / ".hidden.mp4").write_text("not media either")
    seen = []
    items = scan(tmp_path, seconds=1.0, progress=lambda done, total: seen.append((done, total)))
    assert [item.id for item in items] == ["a/deep/one.M4V", "b/two.mp4", "three.mov"]
    assert [item.captions for item in items] == [(), (Caption(0.0, 1.0, "hello"),), ()]
    assert all(item.has_audio and 1.2 < item.duration < 1.8 for item in items)
    assert items[0].path == str(tmp_path / "a/deep/one.M4V")
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert scan(tmp_path, seconds=1.0, threads=1) == items


def test_a_folder_without_media_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"absent: no such folder"):
        scan(tmp_path / "absent", seconds=1.0)
    with pytest.raises(DataError, match=r"no media files found \(mp4, mkv, webm, avi, mov, m4v\)"):
        scan(tmp_path, seconds=1.0)


def test_broken_files_are_reported_together(tmp_path, media):
    shutil.copy(media[0], tmp_path / "good.mp4")
    for index in range(7):
        (tmp_path / f"bad_{index}.mp4").write_text("not a video")
    with pytest.raises(DataError) as error:
        scan(tmp_path, seconds=1.0)
    message = str(error.value)
    assert "7 of 8 media files cannot be used; remove or repair them" in message
    assert all(f"bad_{index}.mp4" in message for index in range(5))
    assert "bad_5.mp4" not in message
    assert "and 2 more" in message


def test_short_files_are_reported_with_the_remedy(tmp_path, media):
    for path in media:
        shutil.copy(path, tmp_path)
    with pytest.raises(DataError, match=r"3 of 3 media files are shorter than a clip \(9 s\).*clip\.frames"):
        scan(tmp_path, seconds=9.0)


def test_malformed_captions_are_an_error(tmp_path, media):
    shutil.copy(media[0], tmp_path / "talk.mp4")
    (tmp_path / "talk.srt").write_text("nonsense")
    with pytest.raises(DataError, match=r"talk\.srt, line 1"):
        scan(tmp_path, seconds=1.0)


def test_sources_are_folders_or_demo_media(demo, monkeypatch):
    assert [item.id for item in load_source(str(demo / "train"), seconds=1.0)] == [
        f"clip_{i:05d}.mp4" for i in range(4)
    ]
    with pytest.raises(DataError, match=r"demo:somewhere: .*demo:somewhere/train"):
        load_source("demo:somewhere", seconds=1.0)
    with pytest.raises(DataError, match="other demo media"):  # this one was made smaller than the demo is
        load_source(f"demo:{demo}/train", seconds=1.0)


def test_a_source_is_made_absolute_whatever_its_folder_is_called(tmp_path, monkeypatch, media):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "at 12:30").mkdir()
    shutil.copy(media[0], tmp_path / "at 12:30")
    assert absolute("demo:x/train") == f"demo:{tmp_path}/x/train"
    assert absolute("") == ""
    assert load_source(absolute("at 12:30"), seconds=1.0) == scan(tmp_path / "at 12:30", seconds=1.0)
