"""The page of `vatt serve`: what may be asked for and by whom, over real connections; and in a real browser."""

import contextlib
import dataclasses
import io
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.indexed import file_rows, tiny_index, write_rows
from tests.media import ROOT
from vatt import cli
from vatt.data.media.canvas import write_clip
from vatt.data.prepare.encode import Form, Part
from vatt.data.prepare.transcode import transcode
from vatt.data.text import Vocabulary
from vatt.errors import DataError
from vatt.evals.rows import open_index
from vatt.evals.search import Searcher

pytest.importorskip("starlette", reason="needs vatt[serve]")
pytest.importorskip("uvicorn", reason="needs vatt[serve]")

from vatt.serve.app import Answers, make_app
from vatt.serve.guard import host_name
from vatt.serve.library import Library
from vatt.serve.run import listen, serve, url_of

LIMIT = 300_000  # bytes of an upload


@pytest.fixture(scope="module")
def media(demo_media, tmp_path_factory):
    """A folder as users have them: demo clips, one of them under a link; one in Matroska; a link out of the folder;
    an archive; and files that are gone. All of them are in the index, and a file beside them is not."""
    folder = tmp_path_factory.mktemp("media")
    _, model = tiny_index(demo_media)
    clips = sorted((demo_media / "heldout").glob("*.mp4"))[:6]
    inside = folder / "inside"
    (inside / "deeper").mkdir(parents=True)
    for clip in clips[:3]:
        shutil.copy(clip, inside / clip.name)
    shutil.copy(clips[3], inside / "deeper" / "one.mp4")
    (inside / "link.mp4").symlink_to(inside / "deeper" / "one.mp4")
    shutil.copy(clips[4], folder / "secret.mp4")
    (inside / "leak.mp4").symlink_to(folder / "secret.mp4")
    (inside / "unlisted.txt").write_text("not in the index")
    _remux(clips[5], inside / "two.mkv")
    shutil.copy(clips[0], inside / "gone.mp4")
    rows = [row for path in sorted(inside.rglob("*.m??")) for row in file_rows(model, path)]
    (inside / "gone.mp4").unlink()
    Image.new("RGB", (32, 32), "red").save(folder / "still.png")
    with tarfile.open(inside / "box.tar", "w") as tar:
        tar.add(clips[5], "deep/packed.mp4")
        tar.add(folder / "still.png", "still.png")
    for member in ("deep/packed.mp4", "still.png", "taken out.mp4"):
        rows += [row | {"path": f"{inside / 'box.tar'}: {member}"} for row in file_rows(model, clips[5])]
    about = {"model": model.hash, "run": model.cfg.run, "step": model.step, "seconds": model.cfg.clip.seconds}
    return write_rows(folder / "emb.parquet", rows, **about), model, inside


def _remux(source: Path, target: Path) -> None:
    import av

    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        streams = {stream.index: written.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                written.mux(packet)


@dataclasses.dataclass
class Site:
    url: str
    files: list[str]
    rows: int
    scratch: Path

    def get(self, path: str, *, data: bytes | None = None, method: str | None = None, **headers):
        """Status, headers and body, whatever the status."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path.lstrip("/"), data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def told(self, path: str, **given):
        status, headers, body = self.get(path, **given)
        assert headers["Content-Type"] == "application/json"
        return status, json.loads(body)

    def number(self, name: str) -> int:
        return next(i for i, path in enumerate(self.files) if path.endswith(name))


@pytest.fixture(scope="module")
def site(media, tmp_path_factory):
    path, model, inside = media
    scratch = tmp_path_factory.mktemp("scratch")
    index = open_index(path)
    answers = Answers(Searcher(index, keep="memory"), model, Library(index, str(inside), scratch), scratch, limit=LIMIT)
    sock = listen("127.0.0.1", 0)
    # uvicorn takes signals in the main thread only; this thread ends with the tests
    ready = threading.Event()
    thread = threading.Thread(
        target=serve, args=(make_app(answers, host="127.0.0.1"), sock), kwargs={"ready": ready.set}, daemon=True
    )
    thread.start()
    assert ready.wait(30)
    return Site(url_of(sock), index.files, len(index), scratch)


def test_words_and_files_find_hits_with_something_to_play(site, media):
    status, told = site.told("/api/search?q=a%20red%20circle&k=20")
    assert status == 200
    hits = {hit["name"]: hit for hit in told["hits"]}
    assert len(hits) == len(site.files)
    assert [hit["rank"] for hit in told["hits"]] == list(range(1, len(hits) + 1))
    assert "not under" in hits["leak.mp4"]["why"]
    assert "not there" in hits["gone.mp4"]["why"]
    assert hits["two.mkv"]["transcoded"] is True
    for name in ("deeper/one.mp4", "link.mp4"):
        hit = hits[name]
        assert (hit["kind"], hit["transcoded"]) == ("video", False)
        assert hit["url"].endswith(f"#t={hit['start']:.3f},{hit['end']:.3f}")
    clip = media[2] / "deeper" / "one.mp4"
    for kind in ("video", "audio"):
        status, told = site.told(f"/api/search?name=my%20clip.mp4&kind={kind}&modality={kind}", data=clip.read_bytes())
        assert status == 200, told
        assert told["hits"][0]["name"] in ("deeper/one.mp4", "link.mp4")
        assert told["hits"][0]["score"] > 0.99
    assert list(site.scratch.glob("*.mp4")) == []


def test_ranges_of_files_are_served_to_the_byte(site):
    number = site.number("deeper/one.mp4")
    whole = Path(site.files[number]).read_bytes()
    status, headers, body = site.get(f"/media/{number}")
    assert (status, headers["Content-Type"], headers["Accept-Ranges"], body) == (200, "video/mp4", "bytes", whole)
    status, headers, body = site.get(f"/media/{number}", Range="bytes=100-299")
    assert (status, body, headers["Content-Range"]) == (206, whole[100:300], f"bytes 100-299/{len(whole)}")
    assert site.get(f"/media/{number}", Range="bytes=-10")[2] == whole[-10:]
    assert site.get(f"/media/{number}", Range=f"bytes={len(whole)}-")[0] == 416


def test_nothing_but_indexed_files_below_the_folder_can_be_had(site):
    for name, what in (("leak.mp4", "not under"), ("gone.mp4", "not there")):
        status, told = site.told(f"/media/{site.number(name)}")
        assert status == 400
        assert what in told["error"]
    for path in (
        f"/media/{len(site.files)}",
        "/media/-1",
        "/media/99999999999999999999",
        "/media/unlisted.txt",
        "/media/../../secret.mp4",
        "/media/%2e%2e%2f%2e%2e%2fsecret.mp4",
        "/media//etc/passwd",
        "/clip/99999",
        "/unlisted.txt",
        "/page.html",
        "/docs",
    ):
        status, told = site.told(path)
        assert status == 404, path
        assert told["error"]
    assert site.told("/media/0", method="DELETE")[0] == 405


def test_what_browsers_do_not_play_is_cut_and_converted(site, tmp_path):
    import av

    number = site.number("two.mkv")
    assert site.told(f"/media/{number}")[0] == 415
    hit = hit_of(site, "two.mkv")
    status, headers, body = site.get(hit["url"])
    assert (status, headers["Content-Type"]) == (200, "video/mp4")
    (tmp_path / "clip.mp4").write_bytes(body)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        assert [stream.codec_context.name for stream in clip.streams] == ["h264", "flac"]
        assert clip.duration / av.time_base == pytest.approx(hit["end"] - hit["start"], abs=0.05)
    part = Part(start=hit["start"], end=hit["end"])
    form = Form(size=480, fps=25.0)
    ((_, expected),) = transcode(site.files[number], [part], form=form, has_video=True, has_audio=True)
    assert body == expected
    assert site.get(hit["url"], Range="bytes=0-9")[2] == body[:10]


def hit_of(site, name: str) -> dict:
    _, told = site.told("/api/search?q=a&k=50")
    (hit,) = [hit for hit in told["hits"] if hit["name"] == name]
    return hit


def test_members_of_an_archive_are_played_and_shown(site):
    import av

    hit = hit_of(site, "box.tar: deep/packed.mp4")
    assert (hit["kind"], hit["transcoded"]) == ("video", True)
    status, headers, body = site.get(hit["url"])
    assert (status, headers["Content-Type"]) == (200, "video/mp4")
    with av.open(io.BytesIO(body)) as clip:
        assert [stream.type for stream in clip.streams] == ["video", "audio"]
        assert clip.duration / av.time_base == pytest.approx(hit["end"] - hit["start"], abs=0.05)
    assert site.told(f"/media/{site.number('packed.mp4')}")[0] == 415
    picture = hit_of(site, "box.tar: still.png")
    assert picture["kind"] == "picture"
    status, headers, body = site.get(picture["url"].partition("#")[0])
    assert (status, headers["Content-Type"], body[1:4]) == (200, "image/png", b"PNG")
    assert "not there any more" in hit_of(site, "box.tar: taken out.mp4")["why"]
    _, told = site.told("/api/index")
    assert (told["files"], told["rows"]) == (len(site.files), site.rows)


def test_a_window_whose_picture_begins_late_is_played_as_sound(tmp_path):
    import av

    rgb, sound = np.zeros((10, 64, 64, 3), np.uint8), np.zeros(20_000, np.int16)
    write_clip(tmp_path / "late.avi", rgb, 8.0, sound, 16_000)  # AVI has no time stamps: B frames delay the picture
    place = {"path": tmp_path / "late.avi", "modality": "audio", "space": "va", "start": 0.0, "end": 1.0}
    later = {**place, "start": 0.2}
    rows = [row | {"vector": [1.0, 0.0]} for row in (place, later)]
    library = Library(open_index(write_rows(tmp_path / "emb.parquet", rows)), "", tmp_path)
    found = []
    for row in range(2):
        with av.open(str(library.clip(row))) as clip:
            found.append([stream.type for stream in clip.streams])
            assert clip.duration / av.time_base == pytest.approx(1.0 - rows[row]["start"], abs=0.05)
    assert found == [["audio"], ["video", "audio"]]


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({"Host": "evil.example"}, "not called"),
        ({"Host": "evil.example:80"}, "not called"),
        ({"Host": "192.168.1.5"}, "not called"),
        ({"Host": "localhost.evil.example"}, "not called"),
        ({"Origin": "http://evil.example"}, "may not ask"),
        ({"Origin": "null"}, "may not ask"),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "video"}, "another site"),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, "another site"),
    ],
)
def test_pages_of_others_are_refused(site, headers, what):
    for path in ("/", "/api/search?q=red", f"/media/{site.number('one.mp4')}"):
        status, told = site.told(path, **headers)
        assert status == 403
        assert what in told["error"]


def test_the_servers_own_names_are_let_in(site):
    port = site.url.rsplit(":")[-1].strip("/")
    for host in ("localhost", f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "LOCALHOST"):
        assert site.get("/api/index", Host=host)[0] == 200
    own = site.url.rstrip("/")
    assert site.get("/api/index", Origin=own, Sec_Fetch_Site="same-origin")[0] == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    status, headers, _ = site.get("/", **link)  # somebody's link to the page
    assert status == 200
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert host_name("[::1]:80") == "::1"


def test_bad_questions_get_plain_answers_and_leave_nothing_behind(site):
    for path, data, status, what in (
        ("/api/search?q=", None, 400, "empty"),
        ("/api/search?q=flumph", None, 400, "holds no word that the model knows"),
        ("/api/search?q=red&k=0", None, 400, "from 1 to 200"),
        ("/api/search?q=red&k=1e9", None, 400, "from 1 to 200"),
        ("/api/search?q=red&modality=text", None, 400, "this index holds"),
        ("/api/search?q=" + "x" * 3_000, None, 400, "at most"),
        ("/api/search?name=a.exe", b"MZ", 415, "not called as"),
        ("/api/search", b"x", 415, "not called as"),
        ("/api/search?name=a.mp4", b"not a video at all", 400, "a.mp4: cannot be decoded"),
        ("/api/search?name=..%2F..%2Fa.mp4&kind=audio", b"no", 400, "a.mp4: cannot be decoded"),
        ("/api/search?name=a.mp4&kind=smell", b"no", 400, "neither audio nor video"),
        ("/api/search?name=a.mp4", bytes(LIMIT + 1), 413, "larger than"),
    ):
        found, told = site.told(path, data=data)
        assert (found, what in told["error"]) == (status, True), (path, told)
        assert str(site.scratch) not in told["error"]
    assert [path for path in site.scratch.iterdir() if path.name.startswith("tmp")] == []


def test_an_upload_without_a_stated_length_is_stopped_at_the_limit(site):
    host, port = site.url.split("//")[1].strip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.sendall(b"POST /api/search?name=a.mp4 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        for _ in range(LIMIT // 0x10000 + 1):
            sock.sendall(chunk)
        assert b" 413 " in sock.recv(100)
    assert [path for path in site.scratch.iterdir() if path.name.startswith("tmp")] == []


def test_an_upload_that_is_given_up_leaves_nothing_and_says_nothing(site, monkeypatch):
    said = []
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "handle", said.append)
    host, port = site.url.split("//")[1].strip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.sendall(b"POST /api/search?name=a.mp4 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n123")
        until(lambda: list(site.scratch.glob("tmp*")))
    until(lambda: not list(site.scratch.glob("tmp*")))
    assert site.get("/api/index")[0] == 200
    assert said == []


def test_questions_at_once_are_answered_alike(site):
    answers: list = []

    def ask():
        answers.append(site.told("/api/search?q=a%20red%20circle"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for status, _ in answers} == {200}
    assert len({json.dumps(told["hits"]) for _, told in answers}) == 1


def test_a_taken_port_and_a_missing_folder_are_told_before_the_model_is_loaded(media, capsys):
    path, _, _ = media
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", str(path), "--port", str(port)]) == 1
    assert f"port {port} is taken; --port 0" in capsys.readouterr().err
    assert cli.main(["serve", str(path), "--media", "/nowhere"]) == 1
    assert "/nowhere: no such folder" in capsys.readouterr().err
    with pytest.raises(DataError, match="no such folder"):
        Library(open_index(path), str(path), path.parent)


def test_the_command_serves_until_ctrl_c_and_ends_quietly(media, tmp_path):
    path, _, inside = media
    command = [sys.executable, "-m", "vatt", "serve", str(path), "--port", "0", "--no-open"]
    scratch, out, err = tmp_path / "scratch", tmp_path / "out", tmp_path / "err"
    scratch.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)}
    with out.open("w") as stdout, err.open("w") as stderr:  # pipes that nobody reads would fill up
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment, cwd=tmp_path)
    try:
        until(lambda: process.poll() is not None or out.read_text().count("\n") == 2, seconds=180)
        assert process.poll() is None, err.read_text()
        first, second = out.read_text().splitlines()
        assert f"below {inside}" in first
        url = second.split()[0]
        with urllib.request.urlopen(url + "api/search?q=red", timeout=60) as answer:
            assert json.load(answer)["hits"]
        assert list(scratch.iterdir())
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":")[-1].strip("/")))):  # one that says nothing
            process.send_signal(signal.SIGINT)
            process.wait(60)
    finally:
        process.kill()
        process.wait(60)
    assert process.returncode == 0
    assert out.read_text().splitlines() == [first, second]
    assert err.read_text().count("\n") == 1, err.read_text()  # loading ...
    assert list(scratch.iterdir()) == []


def test_a_model_of_any_vocabulary_is_served(media, monkeypatch, capsys):
    path, model, _ = media
    small = dataclasses.replace(model, tokenizer=Vocabulary.build(["red circle"], 9))
    monkeypatch.setattr("vatt.evals.query.load_model", lambda index, run: small)
    monkeypatch.setattr("vatt.serve.run.serve", lambda app, sock, *, ready: ready())
    assert cli.main(["serve", str(path), "--port", "0", "--no-open"]) == 0
    assert "Ctrl-C ends it" in capsys.readouterr().out


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def browser(tmp_path, monkeypatch):
    """Chromium by its driver. Whatever it waits for, it does not wait for ever; and both are gone at the end."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install 'vatt[browser]'"
    )
    if not (chromium() and shutil.which("chromedriver")):
        pytest.skip("no chromium with its driver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium()
    flags = (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync disable-dev-shm-usage window-size=1280,900"
    )
    for flag in (*flags.split(), f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    monkeypatch.setattr(socket, "getdefaulttimeout", lambda: 60)  # how long selenium waits for the driver's answers
    service = webdriver.ChromeService(shutil.which("chromedriver"), popen_kw={"start_new_session": True})
    driver = None
    try:
        driver = webdriver.Chrome(options=options, service=service)
        driver.set_page_load_timeout(60)
        driver.set_script_timeout(60)
        yield driver
    finally:
        with contextlib.suppress(Exception):  # a browser that answers no more
            if driver:
                driver.quit()
        with contextlib.suppress(ProcessLookupError, AttributeError):  # gone already, or never started
            os.killpg(service.process.pid, signal.SIGKILL)


def until(look, seconds: float = 30):
    """What `look` gives once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


@pytest.mark.timeout(240)
def test_in_a_browser_words_find_clips_that_play_and_a_file_finds_itself(site, media, browser):
    browser.get(site.url)
    words = browser.find_element("id", "words")
    words.send_keys("a red circle moves left\n")
    names = "return [...document.querySelectorAll('.hit .file')].map(name => name.textContent)"
    assert len(until(lambda: browser.execute_script(names))) == len(site.files)
    status = browser.find_element("id", "status")
    assert f"{len(site.files)} hits" in status.text

    playing = """return [...document.querySelectorAll('#hits video')].map(v => [v.src, v.currentTime, v.error])"""
    starts = {src: time for src, time, *_ in browser.execute_script(playing)}
    assert any("/clip/" in src for src in starts)  # the Matroska file, converted

    def moved():
        return {src for src, time, _ in browser.execute_script(playing) if abs(time - starts[src]) > 0.05}

    until(lambda: len(moved()) >= 2)
    browser.execute_script("document.querySelector('video[src*=\"/clip/\"]').scrollIntoView()")
    until(lambda: any("/clip/" in src for src in moved()))
    assert all(error is None for *_, error in browser.execute_script(playing))
    why = [element.text for element in browser.find_elements("css selector", ".why")]
    assert sum("not under" in text for text in why) == 1  # what cannot be shown says so

    def best_is(modality: str) -> bool:
        """Whether the first hit is of that modality, and the query itself."""
        first = browser.execute_script("return document.querySelector('#hits:not(.old) .hit')?.innerText") or ""
        same = any(name in first for name in ("one.mp4", "link.mp4"))
        return same and modality in first and float(first.split()[1]) > 0.99

    clip = media[2] / "deeper" / "one.mp4"
    browser.find_element("id", "file").send_keys(str(clip))
    until(lambda: best_is("video"))
    browser.find_element("css selector", "#by input[value=audio]").click()  # the same file, by its sound
    until(lambda: best_is("sound"))
    browser.find_element("id", "forget").click()
    words.send_keys("a red circle\n")
    until(lambda: not best_is("sound"))
    browser.execute_async_script(
        """
        const [url, done] = arguments, dropped = new DataTransfer();
        fetch(url).then(answer => answer.blob()).then(blob => {
          dropped.items.add(new File([blob], "dropped.mp4"));
          document.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true }));
          done();
        });
        """,
        f"/media/{site.number('deeper/one.mp4')}",
    )
    until(lambda: best_is("video"))

    words.send_keys("flumph\n")
    until(lambda: "'flumph' holds no word that the model knows" in status.text)
    assert browser.find_elements("css selector", ".hit") == []
    severe = [line["message"] for line in browser.get_log("browser") if "400 (Bad Request)" not in line["message"]]
    assert severe == []
