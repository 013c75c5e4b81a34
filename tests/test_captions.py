import itertools
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vatt.data.captions import Bad, Caption, nearest, parse_captions, read_captions, read_srt, throughout, write_srt
from vatt.errors import DataError

EXPECTED = (Caption(1.0, 2.5, "hello there"), Caption(3.0, 4.25, "two lines"))
PLAIN = "1\n00:00:01,000 --> 00:00:02,500\nhello there\n\n2\n00:00:03,000 --> 00:00:04,250\ntwo\nlines\n"


def read(tmp_path, content: str | bytes):
    path = tmp_path / "talk.srt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_srt(path)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace(",", "."),
        PLAIN.replace("1\n00", "00").replace("2\n00", "00"),  # no index lines
        PLAIN.replace("hello", "<i>hello</i>").replace("two", "{\\an8}two"),
        PLAIN.replace("02,500", "02,500 X1:10 Y1:20"),
        "\n\n" + PLAIN.replace("\n\n", "\n\n\n") + "\n\n",
        PLAIN.replace("\n\n", "\n"),  # no blank line
    ],
    ids=["plain", "bom", "crlf", "dots", "no index", "markup", "position", "blank lines", "no blank line"],
)
def test_the_forms_that_srt_files_take(tmp_path, content):
    assert read(tmp_path, content) == EXPECTED


def test_a_text_may_be_a_number_or_hold_a_blank_line(tmp_path):
    captions = read(
        tmp_path,
        "1\n00:00:01,000 --> 00:00:02,000\n42\n\nis the answer\n\n2\n00:01:00,000 --> 00:01:01,000\n7\n",
    )
    assert [caption.text for caption in captions] == ["42 is the answer", "7"]


def test_an_empty_file_has_no_captions_and_an_empty_caption_is_kept(tmp_path):
    assert read(tmp_path, "") == ()
    assert read(tmp_path, "1\n00:00:01,000 --> 00:00:02,000\n\n") == (Caption(1.0, 2.0, ""),)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("just a text\n", 1),
        ("1\n00:00:01,000 -> 00:00:02,000\nhi\n", 2),
        ("1\n00:00:01,000 --> later\nhi\n", 2),
        (PLAIN + "\n3\n00:00:09,000 --> 00:00:08,000\nbackwards\n", 11),
        (PLAIN + "\n3\n00:00:xx,000 --> 00:00:08,000\n", 11),
    ],
)
def test_malformed_captions_name_file_and_line(tmp_path, content, line):
    with pytest.raises(DataError, match=rf"talk\.srt, line {line}: "):
        read(tmp_path, content)


def test_a_file_that_is_missing_or_not_utf8_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.srt"):
        read_srt(tmp_path / "absent.srt")
    with pytest.raises(DataError, match=r"talk\.srt: .*not UTF-8 \(line 3\).*iconv"):
        read(tmp_path, PLAIN.replace("hello", "h\xe9llo").encode("latin-1"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_say_what_they_are_are_read(tmp_path, encoding):
    assert read(tmp_path, PLAIN.replace("hello", "héllo ☺").encode(encoding))[0].text == "héllo ☺ there"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32", "cp1252", "shift-jis"])
def test_encodings_that_would_have_to_be_guessed_are_refused(tmp_path, encoding):
    text = {"cp1252": "café", "shift-jis": "こんにちは"}.get(encoding, "hello")
    with pytest.raises(DataError, match=r"talk\.srt.*UTF-8.*iconv"):
        read(tmp_path, PLAIN.replace("hello", text).encode(encoding))


def test_a_file_too_large_to_be_captions_is_refused_unread(tmp_path):
    with open(tmp_path / "talk.srt", "wb") as file:
        file.truncate(200 << 20)
    with pytest.raises(DataError, match=r"talk\.srt: larger than 64 MiB"):
        read_captions(tmp_path / "talk.mp4")


times = st.integers(0, 10**8)
# Markup aside, any text of one line and single spaces survives.
texts = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Zs"], blacklist_characters="<>{}-&"),
    min_size=1,
)
captions = st.lists(
    st.builds(
        lambda start, length, words: Caption(start / 1000, (start + length) / 1000, " ".join(words)),
        times,
        st.integers(0, 10**5),
        st.lists(texts, min_size=1, max_size=4),
    ),
    max_size=6,
)


@given(captions=captions.filter(lambda found: len({c.text for c in found}) == len(found)))
def test_what_is_written_is_read_back(tmp_path_factory, captions):
    path = tmp_path_factory.getbasetemp() / "round.srt"
    write_srt(path, captions)
    assert list(read_srt(path)) == captions


def caption(start, end):
    return Caption(start, end, f"{start}")


def test_nearest_captions_come_in_time_order():
    talk = [caption(float(i), i + 1.0) for i in range(10)]
    assert nearest(talk, 4.2, 5.2, 3) == talk[3:6]
    assert nearest(talk, 0.0, 1.0, 3) == talk[:3]
    assert nearest(talk, 50.0, 51.0, 2) == talk[8:]
    assert nearest(talk, 4.0, 5.0, 20) == talk
    assert nearest([], 0.0, 1.0, 5) == []


def test_ties_are_broken_by_order():
    same = [Caption(1.0, 2.0, name) for name in "abcd"]
    assert nearest(same, 1.0, 2.0, 2) == same[:2]
    around = [caption(0.0, 1.0), caption(4.0, 5.0)]
    assert nearest(around, 2.0, 3.0, 1) == around[:1]


def test_of_captions_that_span_the_clip_equally_some_are_drawn():
    said = [throughout(f"caption {i}") for i in range(20)] + [caption(1.0, 2.0)]
    assert nearest(said, 1.0, 2.0, 3) == [*said[:2], said[20]]  # without rng, as they stand
    draws = [nearest(said, 1.0, 2.0, 4, np.random.default_rng(seed)) for seed in range(200)]
    assert all(said[20] in draw and len(draw) == 4 for draw in draws)
    counts = [sum(one in draw for draw in draws) for one in said[:20]]
    assert min(counts) > 10  # 30 of 200 each, if drawn alike
    assert max(counts) < 60
    assert nearest(said, 1.0, 2.0, 4, np.random.default_rng(7)) == draws[7]


def test_captions_that_do_not_span_the_clip_are_never_drawn():
    talk = [Caption(1.0, 2.0, name) for name in "abcd"]
    assert nearest(talk, 1.0, 2.5, 2, np.random.default_rng(0)) == talk[:2]


def test_a_long_caption_that_spans_the_clip_is_nearest():
    talk = [caption(0.0, 100.0), caption(5.0, 5.5)]
    assert nearest(talk, 6.0, 7.0, 1) == talk[:1]


# As YouTube writes them. A line is spoken at the bottom, moves up, and stays.
ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.310 align:start position:0%
_
hello<00:00:00.480><c> and</c><00:00:00.719><c> welcome</c>

00:00:02.310 --> 00:00:02.320 align:start position:0%
hello and welcome
_

00:00:02.320 --> 00:00:04.950 align:start position:0%
hello and welcome
to<00:00:02.560><c> my</c><00:00:02.800><c> channel</c>

00:00:04.950 --> 00:00:04.960 align:start position:0%
to my channel
_

00:00:04.960 --> 00:00:06.500 align:start position:0%
to my channel
okay

00:00:06.500 --> 00:00:06.510 align:start position:0%
okay
_

00:00:06.510 --> 00:00:08.000 align:start position:0%
okay
okay

00:00:08.000 --> 00:00:08.010 align:start position:0%
okay
_

00:00:19.000 --> 00:00:21.000 align:start position:0%
okay
let&#39;s<00:00:19.560><c.colorE5E5E5> see</c>
""".replace("_", " ")
SPOKEN = (
    Caption(0.16, 2.31, "hello and welcome"),
    Caption(2.32, 4.95, "to my channel"),
    Caption(4.96, 6.5, "okay"),
    Caption(6.51, 8.0, "okay"),  # said twice
    Caption(19.0, 21.0, "let's see"),
)


def parse(content, name="talk.vtt"):
    return parse_captions(name, content.encode("utf-8", "surrogatepass"), name)


def as_srt(vtt: str) -> str:
    """What ffmpeg makes of it: the tags and spaces are gone, the repeats stay."""
    blocks = vtt.split("\n\n")[1:]
    lines = [block.replace(" align:start position:0%", "").replace("&#39;", "'").split("\n") for block in blocks]
    untagged = [[line if "-->" in line else re.sub("<[^>]*>", "", line) for line in b] for b in lines]
    return "\n\n".join(f"{i}\n" + "\n".join(block) for i, block in enumerate(untagged, 1)) + "\n"


def test_youtube_captions_say_each_line_once_at_its_time():
    assert parse(ROLLING) == SPOKEN


def test_and_so_they_do_when_converted_to_srt():
    assert "<" not in as_srt(ROLLING)
    assert parse(as_srt(ROLLING), "talk.srt") == SPOKEN


def test_a_short_video_rolls_as_well():
    assert parse("\n\n".join(ROLLING.split("\n\n")[:3])) == SPOKEN[:1]


def test_words_with_times_are_being_spoken_and_no_repeat():
    cues = [f"00:0{i}.000 --> 00:0{i + 1}.000\nla <00:0{i}.500>la" for i in range(3)]
    assert [c.text for c in parse("WEBVTT\n\n" + "\n\n".join(cues))] == ["la la"] * 3


def test_television_captions_roll_three_lines():
    said = ["line one", "line two", "line three", "line four", "line five"]
    cues = [f"00:0{i}.000 --> 00:0{i + 1}.000\n" + "\n".join(said[max(0, i - 2) : i + 1]) for i in range(5)]
    assert [c.text for c in parse("WEBVTT\n\n" + "\n\n".join(cues))] == said


@pytest.mark.parametrize("name", ["song.vtt", "song.srt"])
def test_a_refrain_is_not_a_repeat(name):
    said = ["la la la", "la la la", "la la la", "hey\nla la la", "la la la", "hey", "hey"]
    cues = "\n\n".join(f"00:0{i}:00.000 --> 00:0{i + 1}:00.000\n{text}" for i, text in enumerate(said))
    found = parse(("WEBVTT\n\n" if name == "song.vtt" else "") + cues, name)
    assert [c.text for c in found] == [text.replace("\n", " ") for text in said]


def test_what_webvtt_files_hold_besides():
    content = """\ufeffWEBVTT - a title
X-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0

STYLE
::cue { color: red }

NOTE a comment
over lines

intro
01:02.500 --> 01:03.000 line:0 align:center
<v Ann>Tom &amp; <i>Jerry</i>&nbsp;run</v>
and <lang fr>fin</lang>

1
1:00:00.000 --> 1:00:01.000
3 < 4 &lt;5&gt;
{spaces}
2
1:00:01.000 --> 1:00:02.000
more
""".replace("{spaces}", "  ")
    expected = (
        Caption(62.5, 63.0, "Tom & Jerry run and fin"),
        Caption(3600.0, 3601.0, "3 < 4 <5>"),
        Caption(3601.0, 3602.0, "more"),
    )
    assert parse(content) == expected
    assert parse(content.replace("\n", "\r\n")) == expected
    assert parse("WEBVTT\n00:01.000 --> 00:02.000\nhi") == (Caption(1.0, 2.0, "hi"),)
    assert parse("WEBVTT") == ()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "line 1: .*begins with WEBVTT"),
        ("1\n00:00:01,000 --> 00:00:02,000\nhi\n", "line 1: .*begins with WEBVTT"),
        ("WEBVTT\n\n00:01.000 --> soon\nhi", "line 3: malformed time"),
        ("WEBVTT\n\n00:03.000 --> 00:02.000\nhi", r"line 3: .*ends \(2 s\) before it starts \(3 s\)"),
        ("WEBVTT\n\n-1:03.000 --> 00:02.000\nhi", "line 3: malformed time"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nhi\n\nlost text", "line 6: expected a time"),
    ],
)
def test_malformed_webvtt_names_file_and_line(content, complaint):
    with pytest.raises(DataError, match=rf"talk\.vtt, {complaint}"):
        parse(content)


GOOD = [caption.text for caption in EXPECTED]


@pytest.mark.parametrize(
    ("name", "content", "said", "complaint"),
    [
        ("a.srt", PLAIN + "\n3\n00:00:05,000 --> 00:00:04,990\nlost\nwords\n\n4\n00:00:06,0 --> 00:00:07,0\nend\n",
         [*GOOD, "end"], "1 caption left out: a.srt, line 11: the caption ends"),
        ("a.srt", "title\nby me\n\n" + PLAIN + "\n00:00:xx --> 0\nlost\n", GOOD,
         "2 captions left out: a.srt, line 1: expected a time"),
        ("a.vtt", "WEBVTT\n\n00:01.0 --> 00:02.0\nhi\n\nlost\n\n00:03.0 --> 00:02.0\nx\n\n00:04.0 --> 00:05.0\nend",
         ["hi", "end"], "2 captions left out: a.vtt, line 6: expected a time"),
        ("a.json", '{"chunks": [{"timestamp": [0, 1.5], "text": "hi"}, {"timestamp": [29.0, 3.0], "text": "x"}, 7]}',
         ["hi"], "2 captions left out: a.json, chunks, entry 2: the caption ends"),
    ],
)  # fmt: skip
def test_a_bad_caption_costs_itself_only(name, content, said, complaint):
    bad = Bad()
    assert [c.text for c in parse_captions(name, content.encode(), name, bad) or ()] == said
    assert str(bad).startswith(complaint)
    with pytest.raises(DataError, match=re.escape(complaint.partition(": ")[2])):
        parse(content, name)


@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.json"])
def test_a_file_without_one_good_caption_is_an_error(name):
    content = {
        "a.srt": "00:00:05,000 --> 00:00:04,990\nx\n",
        "a.vtt": "WEBVTT\n\n00:05.000 --> 00:04.990\nx\n",
        "a.json": '{"segments": [{"text": "x", "start": 5, "end": 4.99}]}',
    }[name]
    with pytest.raises(DataError, match=rf"{name}.*before it starts"):
        parse_captions(name, content.encode(), name, Bad())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a\n" * 200_001),
        ("a.srt", "0:0 --> 0:0\n" * 200_001),
        ("a.srt", "0:0 -->\n" * 200_001),
        ("a.vtt", "WEBVTT\n\n" + "0:0 --> 0:0\n" * 200_001),
        ("a.json", "[" + '"a",' * 200_000 + '"a"]'),
    ],
)
def test_more_captions_than_a_file_can_have_are_refused(name, content):
    with pytest.raises(DataError, match=rf"^{name}.*: more than 200,000 captions"):
        parse_captions(name, content.encode(), name, Bad())
    assert len(parse("a\n" * 200_000, "a.txt") or ()) == 200_000


@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
def test_markup_and_entities_are_the_same_everywhere(name):
    text = "Tom &amp;&nbsp;<c.yellow>Jerry</c> &#39;run&#x27; {\\an8}<v Ann>if 3 < 4 & 5 > 4</v> R&D &copy2"
    cue = f"00:00:01.000 --> 00:00:02.000\n{text}\n"
    found = parse(("WEBVTT\n\n" if name == "a.vtt" else "") + cue, name)
    assert [c.text for c in found] == ["Tom & Jerry 'run' if 3 < 4 & 5 > 4 R&D &copy2"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("caf\xe9".encode("latin-1"), "WINDOWS-1252"),
        ("hello".encode("utf-16-le"), "UTF-16LE"),
        ("hello".encode("utf-32"), "UTF-32"),
    ],
)
def test_the_remedy_fits_the_bytes_and_names_no_path_that_is_none(data, code):
    with pytest.raises(DataError, match=rf"iconv -f {code} -t UTF-8$"):
        parse_captions("1.txt", data, "shard.tar: 1.txt")


WHISPER = {
    "openai-whisper": {
        "text": " hi there",
        "language": "en",
        "segments": [
            {"id": 0, "seek": 0, "start": 0, "end": 1.5, "text": " hi", "tokens": [1], "no_speech_prob": 0.1},
            {"id": 1, "seek": 0, "start": 1.5, "end": 2.5, "text": " there"},
        ],
    },
    "whisperX": {
        "segments": [
            {"start": 0.0, "end": 1.5, "text": " hi", "words": [{"word": "hi", "start": 0.1, "end": 0.3}]},
            {"start": 1.5, "end": 2.5, "text": "there", "words": [{"word": "there"}]},
        ],
        "word_segments": [],
    },
    "faster-whisper, as a list": [
        {"start": 0.0, "end": 1.5, "text": "hi"},
        {"start": 1.5, "end": 2.5, "text": "there"},
    ],
    "transformers": {
        "text": "hi there",
        "chunks": [{"timestamp": [0.0, 1.5], "text": " hi"}, {"timestamp": [1.5, 2.5], "text": "there"}],
    },
    "whisper.cpp": {
        "transcription": [
            {"timestamps": {"from": "00:00:00,000"}, "offsets": {"from": 0, "to": 1500}, "text": " hi"},
            {"timestamps": {"from": "00:00:01,500"}, "offsets": {"from": 1500, "to": 2500}, "text": " there"},
        ]
    },
}


@pytest.mark.parametrize("kind", WHISPER)
def test_whispers_json(kind):
    assert parse(json.dumps(WHISPER[kind]), "a.json") == (Caption(0.0, 1.5, "hi"), Caption(1.5, 2.5, "there"))


def test_other_json():
    assert parse('{"text": "silence", "segments": []}', "a.json") == ()
    assert parse('{"caption": "a\\n dog"}', "a.json") == (throughout("a dog"),)
    assert parse('{"captions": ["a dog", {"text": "barks", "start": 1, "end": 2}]}', "a.json") == (
        throughout("a dog"),
        Caption(1.0, 2.0, "barks"),
    )
    assert parse('{"chunks": [{"timestamp": [3, null], "text": "cut"}]}', "a.json") == (Caption(3.0, math.inf, "cut"),)
    for other in ('{"width": 3}', "[]", "[1, 2]", "3", '{"captions": null}'):  # says nothing about captions
        assert parse(other, "a.json") is None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"segments": [}', "line 1: not JSON"),
        ('{"segments": [\n{"start": 1 "end"}]}', "line 2: not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"segments": [{"text": "a", "start": ' + "9" * 5000 + "}]}", "not JSON"),
        ('{"segments": [{"text": "a", "start": 0, "end": 1}, {"text": "b", "start": 3, "end": 2}]}', "entry 2: .*ends"),
        ('{"segments": [{"text": "a", "start": -1, "end": 2}]}', "segments, entry 1: .*before the file"),
        ('{"segments": [{"text": "a", "start": NaN, "end": 2}]}', "entry 1: times must be numbers"),
        ('{"segments": [{"text": "a", "start": 1e999, "end": 1e999}]}', "entry 1: times must be numbers"),
        ('{"segments": [{"text": "a", "start": "soon", "end": 2}]}', "entry 1: .*'soon'"),
        ('{"segments": [{"text": "a", "end": 2}]}', "entry 1: .*no start"),
        ('{"segments": [{"text": 7, "start": 1, "end": 2}]}', "entry 1: the text is 7"),
        ('{"segments": [7]}', "entry 1: expected text"),
        ('{"caption": 7}', "caption: expected a caption"),
    ],
)
def test_malformed_json_names_file_and_place(content, complaint):
    with pytest.raises(DataError, match=rf"a\.json.*{complaint}"):
        parse(content, "a.json")


def test_a_title_and_a_text_hold_throughout():
    assert parse('{"title": "How to  bake", "description": "links"}', "a.info.json") == (throughout("How to bake"),)
    assert parse('{"title": null}', "a.info.json") is None
    assert parse("a dog\n\n  barks\n", "a.txt") == (throughout("a dog"), throughout("barks"))
    assert throughout("x") == Caption(0.0, math.inf, "x")


def write(folder, *names):
    for name in names:
        text = name.replace(".", " ")
        content = {
            "srt": f"00:00:01,000 --> 00:00:02,000\n{text}\n",
            "vtt": f"WEBVTT\n\n00:01.000 --> 00:02.000\n{text}\n",
            "txt": text,
            "json": json.dumps({"title": text} if ".info." in name else {"caption": text}),
        }.get(name.rpartition(".")[2], "")
        (folder / name).write_text(content)


ORDER = (
    "talk.mp4.srt", "talk.srt", "talk.vtt", "talk.en.srt", "talk.en.vtt", "talk.en-US.vtt", "talk.en-orig.vtt",
    "talk.de-orig.vtt", "talk.de.srt", "talk.zh-Hans.vtt", "talk.json", "talk.txt", "talk.info.json",
)  # fmt: skip


@pytest.mark.parametrize(("better", "worse"), list(itertools.pairwise(ORDER)))
def test_of_several_files_the_choice_is_always_the_same(tmp_path, better, worse):
    write(tmp_path, worse, better, "talk.live_chat.json", "talk.jpg", "other.srt", "talk")
    assert read_captions(tmp_path / "talk.mp4")[0].text == better.replace(".", " ")


@pytest.mark.parametrize("name", ORDER)
def test_captions_are_found_by_each_name(tmp_path, name):
    write(tmp_path, name, "talkative.srt", "tal.srt", "talk.live_chat.json", ".talk.srt")
    assert [c.text for c in read_captions(tmp_path / "talk.mp4")] == [name.replace(".", " ")]
    assert read_captions(tmp_path / "none.mp4") == ()
    assert read_captions(tmp_path / "absent" / "talk.mp4") == ()


def test_captions_of_a_file_whose_name_ends_like_a_language_are_its_own(tmp_path):
    write(tmp_path, "talk.one.srt", "talk.one.mp4", "talk.mp4")
    assert read_captions(tmp_path / "talk.mp4") == ()
    assert [c.text for c in read_captions(tmp_path / "talk.one.mp4")] == ["talk one srt"]


def test_json_that_says_nothing_leaves_the_word_to_others(tmp_path):
    write(tmp_path, "talk.txt")
    (tmp_path / "talk.json").write_text('{"fps": 25}')
    assert [c.text for c in read_captions(tmp_path / "talk.mp4")] == ["talk txt"]


@pytest.mark.parametrize("empty", ["", "\n\n", "\ufeff"])
def test_an_empty_file_leaves_the_word_to_others(tmp_path, empty):
    write(tmp_path, "talk.en.vtt")
    (tmp_path / "talk.srt").write_text(empty)
    assert [c.text for c in read_captions(tmp_path / "talk.mp4")] == ["talk en vtt"]


@pytest.mark.parametrize("name", ["talk.mkv", "talk.mp4", "talk.aac"])
def test_a_whole_name_is_no_language(tmp_path, name):
    write(tmp_path, f"{name}.srt", "talk.fr.srt")
    assert [c.text for c in read_captions(tmp_path / name)] == [f"{name}.srt".replace(".", " ")]
    assert read_captions(tmp_path / "talk.webm")[0].text == "talk fr srt"


# Fuzzing: whatever lies in a file, captions come of it, or an error that names it.
PIECES = {
    "srt": ["1", "", " ", "00:00:01,000 --> 00:00:02,000", "00:00:05 --> 00:00:04", "-->", "<i>a</i>", "{\\an8}"],
    "vtt": [
        "WEBVTT", "", " ", "NOTE", "STYLE", "00:01.000 --> 00:02.000 align:start", "00:02.000 --> 00:02.010", "hello",
        "hello<00:00:01.500><c> you</c>", "<c", "&amp;&#0;&#x110000;", "-->", "99:99:99.999 --> 0:0", "<v", "1",
    ],
    "json": ["[", "]", "{", "}", '"segments"', '"text"', '"start"', ":", ",", "1", "-1", "1e999", "NaN", "null", '"a"'],
    "info.json": ["{", "}", '"title"', ":", '"a"', "null", "[", "]", "\\ud800", '"\\ud800"'],
    "txt": ["a", "\n", "\x0b", "\u2028"],
}  # fmt: skip
ANY = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
ENTRY = st.dictionaries(
    st.sampled_from(["text", "caption", "start", "end", "timestamp", "offsets", "x"]),
    ANY | st.lists(ANY, max_size=3),
    max_size=4,
)
DOCUMENT = st.dictionaries(
    st.sampled_from(["segments", "chunks", "transcription", "captions", "caption", "text", "title"]),
    ANY | st.lists(ENTRY | ANY, max_size=3) | ENTRY,
    max_size=3,
)


def pieces(kind):
    separator = "" if "json" in kind else "\n"
    lines = st.lists(st.sampled_from(PIECES[kind]) | st.text(max_size=8), max_size=14).map(separator.join)
    head = st.just("WEBVTT\n\n") if kind == "vtt" else st.just("")
    return st.tuples(head, lines).map("".join)


@st.composite
def files(draw):
    kind = draw(st.sampled_from(sorted(PIECES)))
    texts = pieces(kind) if "json" not in kind else pieces(kind) | DOCUMENT.map(json.dumps)
    data = draw(texts).encode("utf-8", "surrogatepass")
    data = draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe"])) + data
    return f"talk.{kind}", draw(
        st.sampled_from([data, data[: len(data) // 2], data + b"\xc3", data.replace(b"\n", b"\r\n")])
    )


@settings(max_examples=500)
@given(file=files())
def test_any_file_gives_captions_or_an_error_that_names_it(file):
    name, data = file
    bad = Bad()
    try:
        found, message = parse_captions(name, data, name, bad), name
        assert not bad or name in str(bad)
    except DataError as error:
        found, message = (), str(error)
    assert name in message
    for one in found or ():
        assert 0 <= one.start <= one.end
        assert "\n" not in one.text


@pytest.mark.parametrize("kind", ["srt", "vtt"])
@pytest.mark.parametrize(
    "text", ["<" * 200_000, "{\\" * 100_000, "<c>" * 70_000, "&" * 200_000, " " * 200_000 + "x", "1:" * 99_999]
)
def test_a_long_line_takes_no_longer_than_it_should(kind, text):
    parse(("WEBVTT\n\n" if kind == "vtt" else "") + f"00:01.000 --> 00:02.000\n{text}\n", f"talk.{kind}")
    with pytest.raises(DataError):
        parse(f"WEBVTT\n\n{text} --> {text}\n", f"talk.{kind}")


def test_many_cues_take_no_longer_than_they_should():
    cue = "00:01.000 --> 00:02.000\n" + "a\n" * 5
    assert len(parse("WEBVTT\n\n" + "\n".join([cue] * 20_000))) == 20_000
    cue = "00:01.000 --> 00:02.000\n" + "a\n" * 100_000
    assert len(parse(f"WEBVTT\n\n{cue}b\n\n{cue}c\n")) == 2
