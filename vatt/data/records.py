"""Prepared sets: records in ArrayRecord files under a TFDS description, read at random, without TensorFlow.

    FOLDER/clips-train.array_record-00000-of-00004   the records of a split, in a fixed order
    FOLDER/dataset_info.json, features.json          so that `tfds.builder_from_directory(FOLDER)` reads it
    FOLDER/prepared.json                             what it was made from and how, and a digest of each split
    FOLDER/index/SPLIT.jsonl                         id, length and kind of each record, without the media
    FOLDER/index/SPLIT.seconds                       their lengths again, as float64, which a large set reads sooner
    FOLDER/index/SPLIT.words.json                    how often each word occurs in the captions
    FOLDER/errors.jsonl                              what could not be prepared, and why

`vatt.data.prepare.run` writes them.
"""

import functools
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from vatt.config import ClipConfig
from vatt.data.captions import Caption
from vatt.data.items import Encoded, Fault, Item, absolute_path
from vatt.errors import DataError, MediaError

FORMAT = 1  # of the folder; raised when a reader of the old format could not read the new
NAME = "clips"  # of the set, as its files are named
PREPARED, STAGING, INDEX, ERRORS = "prepared.json", ".staging", "index", "errors.jsonl"
SHORT = 1e-3  # seconds that a record may lack of a clip; Matroska rounds time stamps to milliseconds


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """A part of a media file, encoded anew.

    media: the bytes of a file: MP4, or JPEG for a still.
    path: the medium it was cut from.
    start, end: where in that (seconds). A still has start 0 and end inf.
    captions: those that can be among the nearest to a clip of the record; times from the record's start, so that
      they may lie before it or behind its end.
    """

    id: str
    media: bytes
    path: str
    start: float
    end: float
    has_video: bool
    has_audio: bool
    still: bool
    captions: tuple[Caption, ...]
    labels: tuple[str, ...]

    @property
    def duration(self) -> float:
        return self.end - self.start

    def says(self) -> dict:
        """All but the media and where they came from: what `PreparedSource.fingerprint` is a digest of."""
        captions = [[c.start, c.end, c.text] for c in self.captions]
        kind = [self.has_video, self.has_audio, self.still]
        return {
            "id": self.id,
            "span": [self.start, self.end],
            "kind": kind,
            "captions": captions,
            "labels": self.labels,
        }


@functools.cache
def features():
    """The `tfds.features.FeaturesDict` of a record. Media are plain bytes: TFDS's own Video needs TensorFlow."""
    import tensorflow_datasets as tfds

    text = tfds.features.Text
    # As bytes, because a tf.train.Example knows no floats but those of 32 bits: a quarter of a millisecond in an hour.
    instant = tfds.features.Tensor(shape=(), dtype=np.float64, encoding="bytes")
    return tfds.features.FeaturesDict(
        {
            "id": text(),
            "media": tfds.features.Tensor(shape=(), dtype=np.bytes_),
            "path": text(),
            "start": instant,
            "end": instant,
            "duration": instant,
            "has_video": np.bool_,
            "has_audio": np.bool_,
            "still": np.bool_,
            "captions": tfds.features.Sequence({"text": text(), "start": instant, "end": instant}),
            "labels": tfds.features.Sequence(text()),
        }
    )


def serialise(record: Record) -> bytes:
    """The record as TFDS stores it (a serialised tf.train.Example)."""
    captions = record.captions
    example = {
        **{name: getattr(record, name) for name in ("id", "media", "path", "start", "end", "duration")},
        **{name: getattr(record, name) for name in ("has_video", "has_audio", "still")},
        "captions": {name: [getattr(caption, name) for caption in captions] for name in ("text", "start", "end")},
        "labels": list(record.labels),
    }
    encoded = _serialiser().get_tf_example(features().encode_example(example))
    return encoded.SerializeToString(deterministic=True)  # else features stand in another order in every process


@functools.cache
def _serialiser():
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    return ExampleSerializer(features().get_serialized_info())  # pyright: ignore[reportArgumentType]


def parse(data: bytes) -> Record:
    """What `serialise` was given."""
    return from_example(features().deserialize_example_np(data))  # pyright: ignore[reportArgumentType]


def from_example(example: dict[str, Any]) -> Record:
    captions = example["captions"]
    return Record(
        id=example["id"].decode(),
        media=bytes(example["media"]),
        path=example["path"].decode(),
        start=float(example["start"]),
        end=float(example["end"]),
        has_video=bool(example["has_video"]),
        has_audio=bool(example["has_audio"]),
        still=bool(example["still"]),
        captions=tuple(
            Caption(float(start), float(end), text.decode())
            for start, end, text in zip(captions["start"], captions["end"], captions["text"], strict=True)
        ),
        labels=tuple(label.decode() for label in example["labels"]),
    )


def index_line(record: Record) -> dict:
    """The line of the index about a record. A still lasts for ever, which JSON writes as null."""
    duration = record.duration if math.isfinite(record.duration) else None
    return {
        "id": record.id,
        "seconds": duration,
        "has_video": record.has_video,
        "has_audio": record.has_audio,
        "captions": len(record.captions),
        "labels": list(record.labels),
        "bytes": len(record.media),
    }


def is_prepared(folder: str | Path) -> bool:
    """Whether a folder is a prepared set, or one in the making."""
    return (Path(folder) / PREPARED).is_file() or (Path(folder) / STAGING).is_dir()


def read_description(folder: str | Path) -> dict:
    """What FOLDER/prepared.json says.

    Raises:
      DataError: it is not there, unfinished, or of another format.
    """
    folder = Path(folder)
    try:
        description = json.loads((folder / PREPARED).read_text())
    except FileNotFoundError as error:
        if (folder / STAGING).is_dir():
            raise DataError(
                f"{folder}: its preparation was not finished; type the command that prepared it again, and it goes on"
            ) from error
        raise DataError(f"{folder}: not a prepared set; make one with vatt data prepare") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / PREPARED}: cannot be read ({error}); prepare the set again") from error
    found = description.get("format")
    if found != FORMAT:
        raise DataError(
            f"{folder}: prepared by vatt {description.get('vatt', 'unknown')} in format {found}; this version reads "
            f"format {FORMAT}. Prepare it again (vatt data prepare {description.get('source', 'SOURCE')} NEW_FOLDER), "
            "or use the version that made it"
        )
    return description


@contextmanager
def reading(name: str, remedy: str) -> Iterator[None]:
    """Within the block a record is read: whatever that leads ArrayRecord, protobuf and others to raise is the record's
    own fault, a MediaError, and must not end a run."""
    try:
        yield
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(name, f"cannot be read ({error}); {remedy}") from error


class PreparedSource:
    """The records of one split of a prepared set, as a `vatt.data.items.Source`.

    Records shorter than `seconds` cannot give a clip and are left out, as `faults`. It pickles, and may be read by
    many threads at once; nothing is opened before the first record is asked for.

    Raises:
      DataError: the folder is no prepared set, unfinished, of another format, or incomplete; no such split; or no
        record of it lasts `seconds`.
    """

    def __init__(self, folder: str | Path, split: str = "", *, seconds: float = 0.0):
        self.folder = Path(absolute_path(folder))
        self._description = read_description(self.folder)
        self.split = _choose(self.folder, split, list(self._description["splits"]))
        self.name = f"{self.folder}@{self.split}" if split else str(self.folder)
        self._about = self._description["splits"][self.split]
        self.candidates: int = self._description["config"]["candidates"]  # captions kept for each clip
        self.faults: list[Fault] = []
        self._check_shards()
        self._records: Any = None
        self._seconds = seconds
        self._kept = np.arange(self._about["records"])
        lengths = self._lengths()
        short = lengths < seconds - SHORT
        if short.all():
            raise DataError(
                f"{self.name}: none of its {len(lengths)} records lasts a clip of {seconds:g} s (the longest "
                f"{lengths.max():.2f} s); shorten the clip, or prepare the set again with longer --seconds"
            )
        if short.any():
            self._kept = np.flatnonzero(~short)
            with _opened(self.folder / INDEX / f"{self.split}.jsonl") as index:
                for position, line in enumerate(index):
                    if short[position]:
                        detail = f"{lengths[position]:.2f} s; vatt data prepare with longer --seconds"
                        self.faults.append(Fault(id=json.loads(line)["id"], reason="too_short", detail=detail))

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Item:
        """Reads a record. Raises MediaError if it is damaged."""
        record = self.record(index)
        return Item(
            id=record.id,
            media=Encoded(record.media, f"{self.name}: {record.id}"),
            end=self._seconds if record.still else record.duration,  # a still is shown for as long as is asked
            has_video=record.has_video,
            has_audio=record.has_audio,
            still=record.still,
            captions=record.captions,
            labels=record.labels,
        )

    def record(self, index: int) -> Record:
        """The whole record behind the item at `index`. Raises MediaError if it is damaged."""
        position = int(self._kept[index])
        with reading(f"{self.name}: record {position}", "copy or prepare the set again"):
            return from_example(self._opened()[position])

    def check(self, clip: ClipConfig) -> None:
        """Raises DataError if the set holds less than clips ask for: frames would be repeated, sound would lack what is
        high, and captions be left out, without a word."""
        made, asked = self._description["config"], {}
        for name, held, wanted in (
            ("fps", made["fps"], clip.fps),
            ("sample-rate", made["sample_rate"], clip.sample_rate),
            ("candidates", made["candidates"], clip.candidates),
        ):
            if wanted > held:
                asked[f"--{name} {wanted:g}"] = f"{name} {held:g}"
        if asked:
            raise DataError(
                f"{self.folder}: prepared with {' and '.join(asked.values())}, less than the clip asks for; prepare it "
                f"again: vatt data prepare {self._description['source']} NEW_FOLDER {' '.join(asked)}"
            )

    def word_counts(self) -> Counter:
        path = self.folder / INDEX / f"{self.split}.words.json"
        with _opened(path) as file:
            return Counter(json.load(file))

    def labels(self) -> list[tuple[str, ...]]:
        with _opened(self.folder / INDEX / f"{self.split}.jsonl") as file:
            lines = [json.loads(line) for line in file]
        if lines and "labels" not in lines[0]:  # of a set that was prepared when the index had none
            return [self.record(index).labels for index in range(len(self))]
        return [tuple(lines[position]["labels"]) for position in self._kept]

    def fingerprint(self) -> str:
        return hashlib.sha256(self._about["fingerprint"].encode() + self._kept.tobytes()).hexdigest()[:32]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_records": None}

    def _opened(self):
        # Two threads may both open it: that costs a moment, and either is as good.
        if self._records is None:
            import tensorflow_datasets as tfds

            builder: Any = tfds.builder_from_directory(str(self.folder))
            self._records = builder.as_data_source(split=self.split)
        return self._records

    def _lengths(self) -> np.ndarray:
        path, records = self.folder / INDEX / f"{self.split}.seconds", self._about["records"]
        try:
            lengths = np.fromfile(path, "<f8")
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; copy the set again, or prepare it again") from error
        if len(lengths) != records:
            raise DataError(f"{path}: {len(lengths)} lengths of {records} records; copy the set again")
        return lengths

    def _check_shards(self) -> None:
        for name, size in shards(self.split, self._about):
            path = self.folder / name
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                what = "is not there" if found is None else f"has {found} bytes instead of {size}"
                raise DataError(f"{path} {what}; copy the set again, or prepare it again")


def shards(split: str, about: dict) -> Iterator[tuple[str, int]]:
    """Name and bytes of each file of a split."""
    count = len(about["shards"])
    for number, shard in enumerate(about["shards"]):
        yield shard_name(split, number, count), shard["bytes"]


def shard_name(split: str, number: int, count: int) -> str:
    """As TFDS names it."""
    return f"{NAME}-{split}.array_record-{number:05d}-of-{count:05d}"


def _choose(folder: Path, split: str, splits: Sequence[str]) -> str:
    if split in splits:
        return split
    names = ", ".join(splits)
    if split:
        raise DataError(f"{folder}: no split {split!r} in it; there are {names}")
    if "train" in splits:
        return "train"
    if len(splits) == 1:
        return splits[0]
    raise DataError(f"{folder}: name one of its splits: {' or '.join(f'{folder}@{name}' for name in splits)}")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with open(path, encoding="utf-8", newline="\n") as file:  # a name may hold other ends of a line
            yield file
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; copy the set again, or prepare it again") from error
