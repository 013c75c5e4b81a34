"""Labels of clips as numbers, for classifiers: which classes there are, and which clips can be used."""

import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from vatt.config import Modality
from vatt.data.items import Fault, Item, Source
from vatt.data.listing.rows import parse_source
from vatt.data.sources import MediaSource
from vatt.errors import DataError, MediaError, listed

WHENCE = (
    "Labels come with published data sets, with manifests that have a column label, and with a folder that holds a "
    "folder for each class"
)


class UnseenError(MediaError):
    """A whole file without any track that is classified."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """What a classifier needs of a clip: its modalities, and its classes as a vector."""

    classes: tuple[str, ...]
    modalities: tuple[Modality, ...]

    def needed(self, item: Item) -> Item:
        """The item without the tracks that are not looked at. Raises UnseenError if nothing is left."""
        item = dataclasses.replace(
            item,
            has_video=item.has_video and "video" in self.modalities,
            has_audio=item.has_audio and "audio" in self.modalities,
        )
        if not (item.has_video or item.has_audio):
            wanted = " or ".join(self.modalities)
            raise UnseenError(item.id, f"has no {wanted}, which is all that is classified", f"no_{self.modalities[0]}")
        return item

    def put(self, example: dict, item: Item, lacks: list[str]) -> tuple[dict, list[str]]:
        """The example with `label` [C] float32 and without what is not looked at; what it lacks of the rest."""
        seen = {name: x for name, x in example.items() if name.split("_")[0] in self.modalities}
        unseen = {"no_video": "video", "no_audio": "audio", "silent": "audio"}
        return seen | {"label": self.vector(item)}, [kind for kind in lacks if unseen.get(kind) in self.modalities]

    def vector(self, item: Item) -> np.ndarray:
        """[C] float32, 1 for the classes of the item."""
        vector = np.zeros(len(self.classes), np.float32)
        vector[[self._numbers[label] for label in item.labels]] = 1
        return vector

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.classes)}


class ByFolder:
    """A source whose items have other labels, as a Source."""

    def __init__(self, source: Source, labels: Sequence[tuple[str, ...]]):
        self.name, self.faults = source.name, source.faults
        self._source, self._labels = source, labels

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Item:
        return dataclasses.replace(self._source[index], labels=self._labels[index])

    def word_counts(self) -> Counter:
        return self._source.word_counts()

    def labels(self) -> list[tuple[str, ...]]:
        return list(self._labels)

    def fingerprint(self) -> str:
        return self._source.fingerprint()  # of ids, too, which the labels are made of


class Subset:
    """Some items of a source, as a Source."""

    def __init__(self, source: Source, indices: Sequence[int], faults: Sequence[Fault]):
        self.name = source.name
        self.faults = [*source.faults, *faults]
        self._source, self._indices = source, np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Item:
        return self._source[int(self._indices[index])]

    def word_counts(self) -> Counter:
        return self._source.word_counts()

    def labels(self) -> list[tuple[str, ...]]:
        every = self._source.labels()
        return [every[index] for index in self._indices]

    def fingerprint(self) -> str:
        return hashlib.sha256(self._source.fingerprint().encode() + self._indices.tobytes()).hexdigest()


def read_classes(path: str | Path) -> tuple[str, ...]:
    """The classes of a file, in order. Raises DataError as `read_names`."""
    return tuple(read_names(path))


def read_names(path: str | Path) -> dict[str, str]:
    """The classes of a file, one a line, in order; and what each is called in words: what stands behind a tab on its
    line, as in "n01440764\ttench", or the class itself.

    Raises:
      DataError: the file is missing or empty, repeats a class, or has a line of another form.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the classes, one a line: {error}") from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        label, *words = (part.strip() for part in line.split("\t"))
        if not label or len(words) > 1 or "" in words:
            raise DataError(f"{path}, line {number}: expected a class, or a class, a tab and its name, not {line!r}")
        if label in names:
            raise DataError(f"{path}, line {number}: {label!r} stands there twice")
        names[label] = words[0] if words else label
    if not names:
        raise DataError(f"{path}: is empty; it should hold one class a line")
    return names


def write_names(names: Mapping[str, str]) -> str:
    """What `read_names` reads."""
    return "".join(f"{label}\n" if label == said else f"{label}\t{said}\n" for label, said in names.items())


def with_labels(source: Source) -> Source:
    """The source; where it is a folder, none of its clips has a label and all are files in folders, as `ByFolder`: with
    the first folder of their paths for a label, as in a folder that holds a folder for each class."""
    if not isinstance(source, MediaSource) or parse_source(source.name).kind != "folder" or any(source.labels()):
        return source
    items = [source[index] for index in range(len(source))]
    if not all(isinstance(item.media, str) and "/" in item.id for item in items):  # or it is a folder of archives
        return source
    return ByFolder(source, [(item.id.split("/")[0],) for item in items])


def classes_of(sources: Sequence[Source]) -> tuple[str, ...]:
    """Every label of the sources, sorted. Raises DataError if there are fewer than two."""
    classes = sorted({label for source in sources for labels in source.labels() for label in labels})
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "none"
        raise DataError(
            f"{', '.join(source.name for source in sources)}: a classifier needs clips of two labels at least, and "
            f"there is {found}. {WHENCE}"
        )
    return tuple(classes)


def labelled(
    source: Source, classes: Sequence[str], labels: Literal["single", "multi"], modalities: Sequence[Modality]
) -> Source:
    """The items of a source that a classifier of `modalities` can use: those with a label (in multi all: maybe none),
    and with a track to look at, as far as is known before records are read. The rest are told as faults.

    Raises:
      DataError: a label that is no class; an item with several in single; no item has a label; or none that has one has
        such a track.
    """
    every = source.labels()
    known = set(classes)
    unknown = Counter(label for some in every for label in some if label not in known)
    if unknown:
        names = [f"{label!r}, {count} clips" for label, count in unknown.most_common()]
        raise DataError(
            f"{source.name}: labels that are no class of the {len(classes)} trained on:\n{listed(names)}\n"
            "Leave those clips out, or choose others (held-out ones by --evaluate.source, or --source of evaluate). "
            "To train on classes that no training clip has, name them all: --classify.classes FILE"
        )
    several = next((index for index, some in enumerate(every) if len(some) > 1), None)
    if labels == "single" and several is not None:
        raise DataError(
            f"{source.name}: {source[several].id} has the labels {', '.join(every[several])}; for more than one a clip "
            "set classify.labels multi"
        )
    if not any(every):
        raise DataError(f"{source.name}: none of its {len(every)} clips has a label. {WHENCE}")
    reasons = {index: "unlabelled" for index, some in enumerate(every) if labels == "single" and not some}
    if isinstance(source, MediaSource | ByFolder):  # to make an item of a set of records, the record is read
        items = (source[index] for index in range(len(source)))
        mute = [index for index, item in enumerate(items) if not any(_has(item, modality) for modality in modalities)]
        reasons = dict.fromkeys(mute, f"no_{modalities[0]}") | reasons
    kept = [index for index, some in enumerate(every) if index not in reasons]
    if not any(every[index] for index in kept):
        raise DataError(
            f"{source.name}: none of its clips with a label has {' or '.join(modalities)}, to classify it by"
        )
    if not reasons:
        return source
    return Subset(source, kept, [Fault(id=source[index].id, reason=reasons[index]) for index in sorted(reasons)])


def _has(item: Item, modality: str) -> bool:
    return item.has_video if modality == "video" else item.has_audio
