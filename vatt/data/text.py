"""Words and their numbers: the vocabulary, subwords, the encoding of captions, and pretrained word vectors."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from vatt.errors import DataError

if TYPE_CHECKING:
    import tokenizers

PAD, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")
PADDINGS = ("[PAD]", "<pad>", "<PAD>", "<|pad|>", "<|padding|>")  # what tokenizers call it


class _Letters(dict):
    """A table for `str.translate`: keeps letters, marks, digits and apostrophes; all else becomes a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)
        if character in "'’ʼ":
            kept = "'"
        elif kind == "Cf":  # joiners and soft hyphens stand within words
            kept = ""
        else:
            kept = character if kind[0] in "LMN" else " "
        return self.setdefault(code, kept)


LETTERS = _Letters()

# Chinese, Japanese, Thai, Lao, Burmese and Khmer are written without spaces. Where their words end is known to
# dictionaries only: here a character, with the marks on it, is a word. A trained tokenizer (`Subwords`) does better.
SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana, with what repeats and lengthens
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
MARKS = "".join(
    chr(code)
    for first, last in ((0x0E00, 0x1100), (0x1780, 0x1800), (0x3000, 0x3100))
    for code in range(first, last)
    if unicodedata.category(chr(code)).startswith("M")
)
WORD = re.compile(f"[{SPACELESS}][{MARKS}]*|[^\\s{SPACELESS}]+")


def words(text: str) -> list[str]:
    """The words of a text of any script, in lower case: `Don’t STOP!` gives `don't`, `stop`.

    Apostrophes stay within words only. Accents are composed (NFC), so that either way of writing one is one
    word. In scripts without spaces each character is a word: `你好` gives `你`, `好`.
    """
    kept = unicodedata.normalize("NFC", text.lower()).translate(LETTERS)
    return [word for word in (word.strip("'") for word in WORD.findall(kept)) if word]


class Vocabulary:
    """Words and their ids: 0 pads, 1 is any unknown word, then the words by falling frequency.

    Attributes:
      words: every row, specials first.
      ids: word -> row.
    """

    def __init__(self, words: Sequence[str]):
        self.words = list(words)
        self.ids = {word: row for row, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def build(cls, texts: Iterable[str], size: int) -> "Vocabulary":
        """The most frequent words of `texts`, ties by alphabet; at most `size` rows, specials included."""
        return cls.from_counts(Counter(word for text in texts for word in words(text)), size)

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], size: int) -> "Vocabulary":
        """As `build`, from how often each word occurs."""
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls([*SPECIAL, *ranked[: max(0, size - len(SPECIAL))]])

    def save(self, path: str | Path) -> None:
        """Writes one word a line, specials first."""
        Path(path).write_text(self.to_text(), encoding="utf-8", newline="\n")

    def to_text(self) -> str:
        """What `save` writes."""
        return "".join(f"{word}\n" for word in self.words)

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Reads one word a line. A plain list of words, without the specials, will do.

        Raises:
          DataError: the file is missing, not UTF-8 or empty, or a line is empty, holds several words or
            repeats one.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
        except OSError as error:
            raise DataError(f"{path}: cannot read the vocabulary: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: the vocabulary is not UTF-8") from error
        if lines[-1] == "":
            lines.pop()
        if all(line in SPECIAL for line in lines):
            raise DataError(f"{path}: the vocabulary is empty; it should hold one word a line")
        first: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            if len(line.split()) != 1:
                raise DataError(f"{path}, line {number}: expected one word, found {line[:60]!r}")
            if first.setdefault(line, number) != number:
                raise DataError(f"{path}, line {number}: {line!r} stands on line {first[line]} already")
        return cls(lines if tuple(lines[:2]) == SPECIAL else [*SPECIAL, *lines])

    def encode(self, text: str, length: int) -> np.ndarray:
        """The ids of a text's first `length` words, padded with 0. [L] int32"""
        ids = [self.ids.get(word, UNKNOWN) for word in words(text)[:length]]
        return np.array(ids + [PAD] * (length - len(ids)), np.int32)

    def unknown(self, text: str) -> list[str]:
        """The words of a text that have no id of their own."""
        return [word for word in words(text) if word not in self.ids]

    def decode(self, ids: np.ndarray) -> str:
        """The words of ids [L], without padding."""
        return " ".join(self.words[id] for id in ids if id != PAD)


class Subwords:
    """A Hugging Face tokenizer (`tokenizer.json`), with the interface of a Vocabulary.

    Row 0 is padding. The tokenizer's ids keep their numbers if its own padding is 0, as BERT's is; otherwise each is
    one higher. Special tokens, such as [CLS], are not added: captions are pooled, and an empty one is padding alone.
    """

    def __init__(self, tokenizer: "tokenizers.Tokenizer"):
        names = {*PADDINGS, (tokenizer.padding or {}).get("pad_token")}
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        ids = tokenizer.get_vocab(with_added_tokens=True)
        self._pads = {ids[name] for name in names if name in ids}  # said in a caption, they are not words
        self._shift = 0 if PAD in self._pads else 1
        self._size = max(ids.values(), default=-1) + 1 + self._shift

    def __len__(self) -> int:
        return self._size

    @classmethod
    def load(cls, path: str | Path) -> "Subwords":
        """Raises DataError if the file is missing or not a tokenizer."""
        import tokenizers

        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise DataError(f"{path}: cannot read the tokenizer: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: the tokenizer is not UTF-8") from error
        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the library raises no other class
            raise DataError(f"{path}: not a tokenizer.json of Hugging Face's tokenizers: {error}") from error

    def save(self, path: str | Path) -> None:
        """Writes a tokenizer.json."""
        Path(path).write_text(self.to_text(), encoding="utf-8", newline="\n")

    def to_text(self) -> str:
        """What `save` writes."""
        return self._tokenizer.to_str(pretty=True)

    def encode(self, text: str, length: int) -> np.ndarray:
        """The ids of a text's first `length` subwords, padded with 0. [L] int32"""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        kept = [id + self._shift for id in ids if id not in self._pads][:length]
        return np.array(kept + [PAD] * (length - len(kept)), np.int32)

    def unknown(self, text: str) -> list[str]:
        """The words of a text that have no ids of their own: none, where a tokenizer can spell any word."""
        name = getattr(self._tokenizer.model, "unk_token", None)
        id = None if name is None else self._tokenizer.token_to_id(name)
        spelt = ((word, self._tokenizer.encode(word, add_special_tokens=False).ids) for word in words(text))
        return [word for word, ids in spelt if ids and all(found == id for found in ids)]

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids [L], without padding."""
        return self._tokenizer.decode([int(id) - self._shift for id in ids if id != PAD], skip_special_tokens=False)

    def __getstate__(self) -> str:  # so that worker processes can have it
        return self._tokenizer.to_str()

    def __setstate__(self, text: str) -> None:
        import tokenizers

        self.__init__(tokenizers.Tokenizer.from_str(text))


Tokenizer = Vocabulary | Subwords


def load_tokenizer(path: str | Path) -> Tokenizer:
    """A tokenizer.json, or a list of words: told by what is in the file. Raises DataError if it is neither."""
    try:
        with open(path, "rb") as file:
            start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise DataError(f"{path}: cannot read the vocabulary: {error.strerror}") from error
    return Subwords.load(path) if start.startswith(b"{") else Vocabulary.load(path)


def load_word2vec(path: str | Path, vocabulary: Vocabulary, width: int) -> tuple[np.ndarray, int]:
    """Reads the vectors of a vocabulary's words from a word2vec file, `.bin` or text, of any size.

    A word that the file has only with capitals takes the first of those vectors. Rows of words that the file
    lacks are zero.

    Returns:
      vectors: [V width] float32.
      found: how many words have one.

    Raises:
      DataError: the file is missing, malformed or cut short, or its vectors have another width.
    """
    vectors = np.zeros((len(vocabulary), width), np.float32)
    exact: set[int] = set()
    found: set[int] = set()
    try:
        with open(path, "rb") as file:
            header = file.readline().split()
            if len(header) != 2 or not all(field.isdigit() for field in header):
                raise DataError(
                    f"{path}: not a word2vec file: the first line should give the number of words and "
                    "the width of their vectors"
                )
            count, stored = map(int, header)
            if stored != width:
                raise DataError(f"{path}: vectors have width {stored}, but model.text.embed_width is {width}")
            entries = _binary if str(path).endswith(".bin") else _text
            for word, vector in entries(file, count, width, str(path)):
                row = vocabulary.ids.get(word, vocabulary.ids.get(word.lower(), PAD))
                if row <= UNKNOWN or row in exact or (row in found and word != vocabulary.words[row]):
                    continue
                vectors[row] = vector()
                found.add(row)
                if word == vocabulary.words[row]:
                    exact.add(row)
    except OSError as error:
        raise DataError(f"{path}: cannot read the word vectors: {error.strerror}") from error
    return vectors, len(found)


def _text(file: BinaryIO, count: int, width: int, path: str) -> Iterator:
    """Yields (word, function that gives its vector): only vectors that are wanted are parsed."""
    for number in range(2, count + 2):
        word, _, rest = file.readline().decode("utf-8", "replace").rstrip().partition(" ")
        if not rest:
            raise DataError(f"{path}, line {number}: cut short; {count} words were announced")

        def vector(rest=rest, number=number) -> np.ndarray:
            try:
                values = np.array(rest.split(), np.float32)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: {error}") from error
            if len(values) != width:
                raise DataError(f"{path}, line {number}: {len(values)} values, expected {width}")
            return values

        yield word, vector


def _binary(file: BinaryIO, count: int, width: int, path: str) -> Iterator:
    """Yields (word, function that gives its vector). A word ends at a space; 32-bit floats follow."""
    for number in range(count):
        word = bytearray()
        while (byte := file.read(1)) not in (b" ", b""):
            word += byte
        data = file.read(4 * width)
        if len(data) < 4 * width:
            raise DataError(f"{path}: cut short after {number} of {count} words")
        yield word.strip().decode("utf-8", "replace"), lambda data=data: np.frombuffer(data, "<f4")
