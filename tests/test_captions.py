import pytest
from hypothesis import given
from hypothesis import strategies as st

from vatt.data.captions import Caption, nearest, read_srt, write_srt
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
    with pytest.raises(DataError, match=r"talk\.srt: .*UTF-8"):
        read(tmp_path, PLAIN.encode("utf-16"))


times = st.integers(0, 10**8)
# Markup aside, any text of one line and single spaces survives.
texts = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Zs"], blacklist_characters="<>{}-"),
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


@given(captions=captions)
def test_what_is_written_is_read_back(tmp_path_factory, captions):
    path = tmp_path_factory.getbasetemp() / "round.srt"
    write_srt(path, captions)
    assert list(read_srt(path)) == captions


@given(
    lines=st.lists(
        st.one_of(
            st.text(max_size=20),
            st.sampled_from(["1", "", "00:00:01,000 --> 00:00:02,000", "00:00:05 --> 00:00:04", "-->"]),
        ),
        max_size=12,
    )
)
def test_any_text_is_read_or_refused_with_a_data_error(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any.srt"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    try:
        found = read_srt(path)
    except DataError as error:
        message = str(error)
    else:
        message = path.name
        assert all(caption.start <= caption.end for caption in found)
    assert path.name in message


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


def test_a_long_caption_that_spans_the_clip_is_nearest():
    talk = [caption(0.0, 100.0), caption(5.0, 5.5)]
    assert nearest(talk, 6.0, 7.0, 1) == talk[:1]
