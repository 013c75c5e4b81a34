import pickle
import struct
from collections import Counter

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from vatt.data.text import Subwords, Vocabulary, load_tokenizer, load_word2vec, words
from vatt.errors import DataError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A red circle, moving LEFT!", ["a", "red", "circle", "moving", "left"]),
        ("Don’t stop -- it's 'quoted' rock'n'roll", ["don't", "stop", "it's", "quoted", "rock'n'roll"]),
        ("  tabs\tand\nlines  ", ["tabs", "and", "lines"]),
        ("snake_case and-dash e.g. 3.5", ["snake", "case", "and", "dash", "e", "g", "3", "5"]),
        ("Привет, мир! ÄÖÜ straße", ["привет", "мир", "äöü", "straße"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("你好 世界。OK", ["你", "好", "世", "界", "ok"]),
        ("カメラを見る人々", ["カ", "メ", "ラ", "を", "見", "る", "人", "々"]),
        ("か\u3099き", ["が", "き"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("안녕 하세요", ["안녕", "하세요"]),
        ("cafe\u0301 café", ["café", "café"]),
        ("♪ [music] ♪ ...", ["music"]),
        ("", []),
        ("' ’ -- !?", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@given(st.text())
def test_words_of_words_are_the_same(text):
    assert words(" ".join(words(text))) == words(text)


def test_the_most_frequent_words_come_first_and_ties_alphabetically():
    vocabulary = Vocabulary.build(["the red cat", "The dog", "a cat, the end"], size=6)
    assert vocabulary.words == ["<pad>", "<unk>", "the", "cat", "a", "dog"]
    assert len(Vocabulary.build(["one two"], size=100)) == 4


def test_encoding_cuts_pads_and_marks_unknown_words():
    vocabulary = Vocabulary.build(["red circle"], size=10)
    ids = vocabulary.encode("Red unheard CIRCLE", 5)
    assert ids.dtype == np.int32
    assert ids.tolist() == [3, 1, 2, 0, 0]
    assert vocabulary.encode("red circle red circle", 3).tolist() == [3, 2, 3]
    assert vocabulary.encode("!?", 2).tolist() == [0, 0]
    assert vocabulary.encode("<pad> <unk>", 2).tolist() == [1, 1]


def test_saving_and_loading(tmp_path):
    vocabulary = Vocabulary.build(["red circle don't नमस्ते"], size=10)
    vocabulary.save(tmp_path / "words.txt")
    assert Vocabulary.load(tmp_path / "words.txt").words == vocabulary.words
    (tmp_path / "plain.txt").write_text("red\r\nblue\r\n", newline="")
    assert Vocabulary.load(tmp_path / "plain.txt").words == ["<pad>", "<unk>", "red", "blue"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "empty"),
        (b"<pad>\n<unk>\n", "empty"),
        (b"red\nblue\nred\n", "line 3: 'red' stands on line 1"),
        (b"<pad>\n<unk>\nred\n<unk>\n", "line 4"),
        (b"red\n\nblue\n", "line 2"),
        (b"red circle\n", "line 1"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_named(tmp_path, content, complaint):
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"words\.txt.*{complaint}"):
        Vocabulary.load(path)


def test_a_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.txt"):
        Vocabulary.load(tmp_path / "absent.txt")


VECTORS = {
    "Red": [9, 9, 9],
    "red": [1, 2, 3],
    "other": [4, 4, 4],
    "Circle": [5.5, -6, 7],
    "CIRCLE": [0, 0, 1],
}


def write_vectors(path, count=5, width=3):
    if path.suffix == ".bin":
        body = b"".join(word.encode() + b" " + struct.pack("<3f", *row) + b"\n" for word, row in VECTORS.items())
    else:
        body = "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in VECTORS.items()).encode()
    path.write_bytes(f"{count} {width}\n".encode() + body)
    return path


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.bin"])
def test_word_vectors(tmp_path, name):
    vocabulary = Vocabulary.build(["red circle unheard"], size=10)
    vectors, found = load_word2vec(write_vectors(tmp_path / name), vocabulary, 3)
    assert found == 2
    assert vectors.dtype == np.float32
    by_word = dict(zip(vocabulary.words, vectors.tolist(), strict=True))
    assert by_word["red"] == [1, 2, 3]  # its own spelling wins
    assert by_word["circle"] == [5.5, -6, 7]  # else the first with capitals
    assert by_word["unheard"] == by_word["<pad>"] == by_word["<unk>"] == [0, 0, 0]


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.bin"])
def test_word_vectors_that_cannot_be_used_are_named(tmp_path, name):
    vocabulary = Vocabulary.build(["red"], size=10)
    path = write_vectors(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: vectors have width 3, but model.text.embed_width is 300"):
        load_word2vec(path, vocabulary, 300)
    with pytest.raises(DataError, match=rf"{name}.* cut short"):
        load_word2vec(write_vectors(path, count=9), vocabulary, 3)
    path.write_bytes(b"red 1 2 3\n")
    with pytest.raises(DataError, match=rf"{name}: not a word2vec file"):
        load_word2vec(path, vocabulary, 3)
    with pytest.raises(DataError, match=rf"absent{name}"):
        load_word2vec(tmp_path / f"absent{name}", vocabulary, 3)


def test_a_vocabulary_from_counts_is_that_of_the_texts():
    texts = ["the red cat", "The dog", "a cat, the end"]
    counts = Counter(word for text in texts for word in words(text))
    assert Vocabulary.from_counts(counts, 6).words == Vocabulary.build(texts, 6).words


TEXTS = ["a red circle moves left", "the blue square moves right", "你好 世界", "Привет, мир"] * 5


def trained(specials=(), **options):
    """A byte-level BPE, as GPT-2's and CLIP's are, trained on the spot."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(specials),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    for name, value in options.items():
        getattr(tokenizer, name)(**value)
    return tokenizer


@pytest.mark.parametrize(
    ("specials", "shift"),
    [((), 1), (("[PAD]", "[UNK]"), 0), (("<s>", "<pad>"), 1), (("<s>",), 1)],
    ids=["without padding", "padding is 0", "padding is 1", "another special token is 0"],
)
@pytest.mark.parametrize("text", ["a red circle", "你好 世界", "Привет 🎬"])
def test_subwords_keep_row_0_for_padding(specials, shift, text):
    tokenizer = trained(specials)
    subwords = Subwords(tokenizer)
    expected = [id + shift for id in tokenizer.encode(text, add_special_tokens=False).ids]
    ids = subwords.encode(text, 40)
    assert (ids.dtype, ids.shape) == (np.int32, (40,))
    assert ids.tolist() == expected + [0] * (40 - len(expected))
    assert len(subwords) == tokenizer.get_vocab_size() + shift
    assert 0 < ids[: len(expected)].min() <= ids.max() < len(subwords)
    assert subwords.decode(ids) == text
    assert subwords.encode(text, 2).tolist() == expected[:2]
    assert subwords.encode("", 2).tolist() == [0, 0]


def test_subwords_pay_no_heed_to_the_tokenizers_own_padding_and_ends():
    tokenizer = trained(
        ("[PAD]", "[CLS]", "[SEP]"),
        enable_padding={"length": 50, "pad_id": 0, "pad_token": "[PAD]"},
        enable_truncation={"max_length": 3},
    )
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    ids = Subwords(tokenizer).encode("a red circle moves left", 20).tolist()
    assert {0, 1, 2}.isdisjoint(ids[: ids.index(0)])
    assert ids.index(0) > 3
    assert Subwords(tokenizer).encode("[PAD] [PAD]", 3).tolist()[1:] == [0, 0]  # what remains is the space


def test_padding_by_a_name_of_its_own_is_known():
    tokenizer = trained(("<nothing>",), enable_padding={"pad_id": 0, "pad_token": "<nothing>"})
    assert len(Subwords(tokenizer)) == tokenizer.get_vocab_size()


def test_a_tokenizer_is_told_by_its_content(tmp_path):
    Subwords(trained(("[PAD]",))).save(tmp_path / "one")
    (tmp_path / "two").write_bytes(b"\xef\xbb\xbf\n" + (tmp_path / "one").read_bytes())
    Vocabulary.build(TEXTS, 20).save(tmp_path / "three.json")
    one, two, three = (load_tokenizer(tmp_path / name) for name in ("one", "two", "three.json"))
    assert isinstance(one, Subwords)
    assert isinstance(three, Vocabulary)
    for text in TEXTS:
        assert one.encode(text, 9).tolist() == two.encode(text, 9).tolist()
        assert pickle.loads(pickle.dumps(one)).encode(text, 9).tolist() == one.encode(text, 9).tolist()
    one.save(tmp_path / "again")
    assert (tmp_path / "again").read_text() == (tmp_path / "one").read_text()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", "not a tokenizer.json"),
        (b'{"model": {"type": "Nonsense"}}', "not a tokenizer.json"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"", "empty"),
    ],
)
def test_a_tokenizer_that_cannot_be_used_is_named(tmp_path, content, complaint):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"tokenizer\.json.*{complaint}"):
        load_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(DataError, match=r"absent\.json: cannot read"):
        load_tokenizer(tmp_path / "absent.json")
