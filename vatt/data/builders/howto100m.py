"""HowTo100M: narrated instructional videos from YouTube, with what is said in them as YouTube recognised it.

source    Miech, Zhukov, Alayrac, Tapaswi, Laptev and Sivic, "HowTo100M: Learning a Text-Video Embedding by Watching
          Hundred Million Narrated Video Clips", ICCV 2019, https://arxiv.org/abs/1906.03327;
          https://www.di.ens.fr/willow/research/howto100m/
licence   unconfirmed (the publisher's page could not be read); each video is its uploader's
size      1.2 million videos (15 years), 136 million captions, 23,000 tasks. Copies are smaller: links rot
splits    train: there is no other
layout    FOLDER/HowTo100M_v1.csv                    video_id,category_1,category_2,rank,task_id
          FOLDER/raw_caption.json, or caption.json   {video_id: {"text": [...], "start": [...], "end": [...]}}
                                                     (caption.json lacks stop words; where both are there, raw is read)
          and anywhere below FOLDER the whole videos: ID.mp4, ID.webm or ID.mkv
to get it HowTo100M.zip and raw_caption.zip from the page above, which has a form to ask for the videos
cost      the captions are many GB: they are gone through once, piece by piece, and not kept. A row knows where in the
          file its own are, and reads them when asked
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from math import isfinite
from pathlib import Path
from zlib import crc32

from vatt.data.builders.shared import Catalogue, check_split, find, read_csv
from vatt.data.captions import Caption
from vatt.data.items import VIDEO, Listing
from vatt.errors import DataError

GET = "https://www.di.ens.fr/willow/research/howto100m/"
SPLITS = ("train",)
DEFAULT_SPLIT = "train"
CHUNK = 1 << 24  # bytes read at once
OPENING = re.compile(r"(?:\xef\xbb\xbf)?\s*\{")
HEAD = re.compile(r'\s*,?\s*(?:"(?P<video>[^"\\]*)"\s*:\s*|(?P<end>\}))')
LONGEST = 1 << 26  # bytes that the captions of one video may take: more means that the file is damaged


def rows(folder: Path, split: str) -> Listing:
    """The videos, each whole, with its timed captions. Labels are its two categories."""
    check_split("howto100m", split, SPLITS)
    table = find(folder, "HowTo100M_v1.csv", get=GET)
    texts = find(folder, "raw_caption.json", "caption.json", get=GET)
    catalogue = Catalogue("howto100m", folder, split, VIDEO)
    lines = list(read_csv(table, ("video_id", "category_1", "category_2")))
    there = {line["video_id"] for _, line in lines} & catalogue.files.keys()
    narrations = _scan(texts, there)
    for _, line in lines:
        video = line["video_id"]
        labels = filter(None, (line["category_1"], line["category_2"]))
        catalogue.add(video, [video], captions=narrations.get(video, ()), labels=tuple(labels))
    return catalogue.listing()


class Narration(Sequence[Caption]):
    """The captions of one video, which lie in the file of all captions: read when asked for, and not kept."""

    __slots__ = ("checksum", "length", "offset", "path", "size")

    def __init__(self, path: str, offset: int, size: int, length: int, checksum: int):
        self.path, self.offset, self.size, self.length, self.checksum = path, offset, size, length, checksum

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index):
        return self._read()[index]

    def __iter__(self) -> Iterator[Caption]:
        return iter(self._read())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        """Tells what is said from what else might be, wherever the file lies: sources are told apart by it."""
        return f"Narration({self.length} captions, {self.size} bytes, CRC {self.checksum:08x})"

    def _read(self) -> tuple[Caption, ...]:
        return _read(self.path, self.offset, self.size, self.checksum)


@lru_cache(maxsize=256)  # for those who go through a narration by index
def _read(path: str, offset: int, size: int, checksum: int) -> tuple[Caption, ...]:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            piece = file.read(size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if crc32(piece) != checksum:
        raise DataError(f"{path}: was changed while it was in use; start again")
    return _captions(json.loads(piece))


def _captions(entry: dict[str, list]) -> tuple[Caption, ...]:
    """Those that have words, in the order of the file."""
    timed = zip(entry["start"], entry["end"], entry["text"], strict=True)
    spoken = (line for line in timed if _is_spoken(line[2]))
    return tuple(Caption(float(start), float(end), " ".join(text.split())) for start, end, text in spoken)


def _is_spoken(text: object) -> bool:
    return isinstance(text, str) and text != "" and not text.isspace()


def _scan(path: Path, wanted: Collection[str]) -> dict[str, Narration]:
    """Where the captions of the wanted videos lie.

    One piece of the file is in memory at a time. It is decoded as Latin-1, in which a character is a byte, so that
    places in the text are places in the file; what structures JSON is ASCII, in UTF-8 as well.
    """
    decoder, found = json.JSONDecoder(), {}
    try:
        with path.open("rb") as file:
            text, base = file.read(CHUNK).decode("latin-1"), 0  # text[0] is the byte `base` of the file
            at = opening.end() if (opening := OPENING.match(text)) else 0
            while True:
                head = HEAD.match(text, at) if opening else None
                if head and head["end"]:
                    return found
                try:
                    end = decoder.raw_decode(text, head.end())[1] if head else 0
                except json.JSONDecodeError:
                    end = 0
                if head is None or not end:  # perhaps the piece ends within the entry
                    more = file.read(CHUNK)
                    if not opening or not more or len(text) - at > LONGEST:
                        raise DataError(
                            f"{path}, byte {base + at}: damaged or cut short; download it again, from {GET}"
                        )
                    text, base, at = text[at:] + more.decode("latin-1"), base + at, 0
                    continue
                if head["video"] in wanted:
                    piece = text[head.end() : end].encode("latin-1")
                    found[head["video"]] = _narration(path, base + head.end(), piece, head["video"])
                at = end
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _narration(path: Path, offset: int, piece: bytes, video: str) -> Narration:
    try:
        entry = json.loads(piece)
        start, end, text = (entry[key] for key in ("start", "end", "text"))
        if not len(start) == len(end) == len(text):
            raise ValueError(f"{len(text)} texts, {len(start)} starts and {len(end)} ends")
        if not isfinite(sum(start) + sum(end)):  # that they are numbers, and quickly: there are hundreds of millions
            raise ValueError("times that are not finite")
        count = sum(_is_spoken(words) for words in text)
        return Narration(str(path.absolute()), offset, len(piece), count, crc32(piece))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}, byte {offset}: the captions of {video} are malformed: {error!r}") from error
