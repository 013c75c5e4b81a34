"""TFDS data sets that others have prepared, their features mapped to modalities; no TensorFlow is needed.

    tfds:NAME[/CONFIG][:VERSION][@SPLIT]?dir=DATA_DIR&video=FEATURE&audio=FEATURE&image=FEATURE&text=FEATURE&label=FEATURE

    dir      where data sets lie (default: ~/tensorflow_datasets, or $TFDS_DATA_DIR)
    video    bytes of a media file with its sound, or frames [T H W C] with fps=FRAMES_PER_SECOND
    audio    bytes of a sound file, or samples [S] or [S CHANNELS] with rate=HZ: 16-bit integers or floats in [-1, 1]
    image    bytes of a picture, or pixels [H W C]
    text     a text, a list of texts, or a sequence of {text, start, end}
    label    a class, a number or a text, or a list of them

A feature within another is named by a dotted path, `steps.text`. SPLIT is as TFDS reads it: train, train[:10%] ...

The data set must be stored as ArrayRecord or Parquet, without TFDS's own Video and Audio features: TFRecord and those
need TensorFlow.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from vatt.data.captions import Caption
from vatt.data.captions.document import entries
from vatt.data.items import Decoded, Encoded, Fault, Item, absolute_path
from vatt.data.listing.rows import absolute, parse_source
from vatt.data.media.clip import probe
from vatt.data.records import reading
from vatt.data.text import words
from vatt.errors import DataError, MediaError

MODALITIES = ("video", "audio", "image", "text", "label")
MEDIA = ("video", "audio", "image")
SLACK = 1e-6  # seconds
TRIED = 3  # records that are read when a set is opened, if the ones before are bad


class ForeignSource:
    """A split of a TFDS data set, as a `vatt.data.items.Source` in its own order. Records are read when asked for."""

    def __init__(self, source: str, *, seconds: float = 0.0):
        """Opens a data set.

        Args:
          source: see above.
          seconds: how long a clip is; a record that is shorter raises MediaError when it is read.

        Raises:
          DataError: no such data set, split or feature (those there are, are named), or one that cannot be mapped.
        """
        parsed = parse_source(source)
        self.name = absolute(source)
        self.faults: list[Fault] = []
        self.seconds = seconds
        self.split = parsed.split or "train"
        self.fps = _positive(source, parsed.query, "fps")
        self.rate = _positive(source, parsed.query, "rate")
        self.paths = {key: parsed.query[key].split(".") for key in MODALITIES if parsed.query.get(key)}
        builder = _builder(source, parsed.place, parsed.query.get("dir", ""))
        self.version = f"{builder.info.full_name}@{self.split}"
        known = _leaves(builder.info.features)
        if not any(key in self.paths for key in MEDIA):
            raise DataError(f"{source}: names no feature with media, such as ?video=FEATURE; it has {', '.join(known)}")
        for key, path in self.paths.items():
            if ".".join(path) not in known:
                raise DataError(f"{source}: no feature {'.'.join(path)!r} for {key}; it has {', '.join(known)}")
        self._names = _class_names(builder.info.features, self.paths.get("label"))
        try:
            self._records = builder.as_data_source(split=self.split)
        except (ValueError, ImportError, NotImplementedError) as error:
            raise DataError(f"{source}: {str(error).strip().splitlines()[0]}") from error
        self._sizes = [(name, info.shard_lengths) for name, info in sorted(builder.info.splits.items())]
        self._try_out(source)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Item:
        item = self._item(index)
        if item.end - item.start < self.seconds - SLACK:
            length = f"{max(0.0, item.end - item.start):.2f} s, a clip lasts {self.seconds:g} s"
            raise MediaError(item.media, length, "too_short")
        return item

    def word_counts(self) -> Counter:
        """Reads every record whole: TFDS cannot read a part of one without TensorFlow. Those that are damaged say
        nothing, as no clip will be of them."""
        counts: Counter = Counter()
        for index in range(len(self)):
            with suppress(MediaError), self._reading(index):
                counts.update(
                    word for said in self._captions(self._records[index], str(index)) for word in words(said.text)
                )
        return counts

    def labels(self) -> list[tuple[str, ...]]:
        """Reads every record whole, as `word_counts` does."""
        found: list[tuple[str, ...]] = []
        for index in range(len(self)):
            found.append(())
            with suppress(MediaError), self._reading(index):
                found[-1] = self._labels(self._records[index])
        return found

    def fingerprint(self) -> str:
        told = [self.version, self._sizes, len(self), self.paths, self.fps, self.rate]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def _try_out(self, source: str) -> None:
        """Features of the wrong kind are told of now, not in the middle of a run; that one record is damaged, then."""
        errors = []
        for index in range(min(TRIED, len(self))):
            try:
                self._item(index)
                return
            except MediaError as error:
                errors.append(error)
        if errors:
            raise DataError(f"{source}: {errors[0]}") from errors[0]

    def _reading(self, index: int):
        return reading(f"{self.version}/{index}", "copy the data set again, or name other features")

    def _item(self, index: int) -> Item:
        id = f"{self.version}/{index}"
        with self._reading(index):
            record = self._records[index]
            media = self._medium(id, {key: _get(record, self.paths[key]) for key in MEDIA if key in self.paths})
            captions, labels = self._captions(record, id), self._labels(record)
        info = probe(media)
        return Item(
            id=id,
            media=media,
            start=info.start,
            end=self.seconds if info.end == np.inf else info.end,
            has_video=info.has_video,
            has_audio=info.has_audio,
            still=info.still,
            captions=captions,
            labels=labels,
        )

    def _medium(self, id: str, values: dict[str, Any]) -> Encoded | Decoded:
        """Raises MediaError if the values are of the wrong kind."""
        encoded = {key: value for key, value in values.items() if isinstance(value, bytes)}
        if encoded and len(values) > 1:
            raise MediaError(id, f"{' and '.join(values)} cannot be read together, as {next(iter(encoded))} is a file")
        if encoded:
            return Encoded(next(iter(encoded.values())), id)
        frames, fps = None, 0.0
        if "video" in values:
            if not self.fps:
                raise MediaError(id, "the video is an array of frames; say how many a second: fps=25")
            frames, fps = _pixels(id, values["video"], 4, f"video={'.'.join(self.paths['video'])}"), self.fps
        elif "image" in values:
            frames = _pixels(id, values["image"], 3, f"image={'.'.join(self.paths['image'])}")[None]
        sound, rate = None, 0
        if "audio" in values:
            if not self.rate:
                raise MediaError(id, "the audio is an array of samples; say how many a second: rate=16000")
            sound, rate = _samples(id, values["audio"]), round(self.rate)
        return Decoded(name=id, video=frames, fps=fps, audio=sound, sample_rate=rate)

    def _captions(self, record: dict, id: str) -> tuple[Caption, ...]:
        if "text" not in self.paths:
            return ()
        value = _plain(_get(record, self.paths["text"]))
        if isinstance(value, dict) and "text" in value:  # TFDS gives a sequence of dicts as a dict of lists
            keys = [key for key in ("text", "start", "end") if key in value]
            value = [dict(zip(keys, row, strict=True)) for row in zip(*(value[key] for key in keys), strict=True)]
        return entries(value, id)

    def _labels(self, record: dict) -> tuple[str, ...]:
        if "label" not in self.paths:
            return ()
        value = _plain(_get(record, self.paths["label"]))
        values = value if isinstance(value, list) else [value]
        return tuple(self._names[v] if self._names and 0 <= v < len(self._names) else str(v) for v in values)


def _builder(source: str, place: str, folder: str):
    import tensorflow_datasets as tfds

    name, _, version = place.partition(":")
    where = absolute_path(folder) if folder else os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    files = tfds.core.read_only_builder.builder_from_files  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return files(name, data_dir=absolute_path(where), **({"version": version} if version else {}))
    except tfds.core.DatasetNotFoundError as error:
        missing = f"no data set {name} {version}".strip()
        raise DataError(f"{source}: {missing} in {where}; name the folder it lies in with ?dir=FOLDER") from error
    except ImportError as error:
        raise DataError(f"{source}: it has features that need TensorFlow (TFDS's Video or Audio): {error}") from error
    except Exception as error:  # a damaged description may fail anywhere in it
        raise DataError(f"{source}: its description cannot be read: {error}") from error


def _leaves(feature: Any, prefix: str = "") -> list[str]:
    """The dotted paths of all features, those that hold others among them."""
    inner = getattr(feature, "feature", feature)  # of a Sequence
    names = [prefix] if prefix else []
    if hasattr(inner, "keys"):
        for key in sorted(inner.keys()):
            names += _leaves(inner[key], f"{prefix}.{key}" if prefix else key)
    return names


def _class_names(features: Any, path: Sequence[str] | None) -> list[str]:
    for key in path or ():
        features = getattr(features, "feature", features)[key]
    return list(getattr(getattr(features, "feature", features), "names", None) or []) if path else []


def _get(record: Any, path: Sequence[str]) -> Any:
    for key in path:
        record = record[key]
    return record


def _plain(value: Any) -> Any:
    """Bytes as text, arrays as lists, numpy's numbers as Python's."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _pixels(id: str, value: Any, axes: int, what: str) -> np.ndarray:
    """[T H W 3] or [H W 3] uint8. Raises MediaError."""
    pixels = np.asarray(value)
    if pixels.dtype != np.uint8 or pixels.ndim != axes or pixels.shape[-1] not in (1, 3, 4) or 0 in pixels.shape:
        wanted = "[T H W 3]" if axes == 4 else "[H W 3]"
        raise MediaError(id, f"{what} is {pixels.dtype} {list(pixels.shape)}, expected a file or uint8 {wanted}")
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels[..., :3]


def _samples(id: str, value: Any) -> np.ndarray:
    """[S] int16, or float32 in [-1, 1]; the mean of the channels. Raises MediaError."""
    samples = np.asarray(value)
    if samples.ndim == 2 and samples.shape[1] <= 16:
        samples = samples.mean(axis=1) if samples.dtype.kind == "f" else samples.mean(axis=1).round().astype(np.int64)
    if samples.ndim != 1 or samples.dtype.kind not in "fi" or not samples.size:
        raise MediaError(id, f"the audio is {samples.dtype} {list(samples.shape)}, expected a file or samples [S]")
    if samples.dtype.kind == "f":
        if not np.isfinite(samples).all() or abs(samples).max() > 1.01:
            raise MediaError(id, "the samples of the audio leave [-1, 1]")
        return samples.astype(np.float32)
    if samples.min() < -32768 or samples.max() > 32767:
        raise MediaError(id, "the samples of the audio need more than 16 bits")
    return samples.astype(np.int16)


def _positive(source: str, query: dict[str, str], key: str) -> float:
    try:
        value = float(query.get(key) or 0)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise DataError(f"{source}: {key}={query[key]} is not a number a second")
    return value
