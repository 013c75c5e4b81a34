"""What a probe trains and tests on: official folds of a published data set, or any labelled source."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from vatt.config import ClipConfig
from vatt.data import builders
from vatt.data.faults import FAULTS
from vatt.data.items import Fault, Source
from vatt.data.labels import WHENCE, ByFolder, with_labels
from vatt.data.sources import open_clips
from vatt.errors import DataError
from vatt.evals.probe.recipes import Probe, Seen
from vatt.evals.protocols.protocol import digest
from vatt.evals.run import print_faults
from vatt.progress import bar


@dataclass(frozen=True, eq=False)
class Split:
    """The labelled clips of a source that a fold trains or tests on.

    label: by index in the source.
    missing: clips that belong here and cannot be used.
    hash: tells what belongs here, whether it can be used or not.
    group: of a clip's id, what it was cut from: in cross-validation such clips stay together.
    note: what the user should know, if anything.
    """

    name: str
    source: Source
    label: dict[int, str]
    missing: tuple[Fault, ...]
    hash: str
    group: Callable[[str], str] = str
    note: str = ""

    @property
    def expected(self) -> int:
        return len(self.label) + len(self.missing)


@dataclass(frozen=True, eq=False)
class Fold:
    name: str
    train: Split
    test: Split


def split_of(source: Source) -> Split:
    """The clips of a source that have a label (see `vatt.data.labels.with_labels`).

    Raises DataError if no clip has a label, or one has several.
    """
    source = with_labels(source)
    labels = source.labels()
    for index, some in enumerate(labels):
        if len(some) > 1:
            raise DataError(
                f"{source.name}: {source[index].id} has {len(some)} labels ({', '.join(some[:3])}); a probe needs "
                "clips of one label each"
            )
    label = {index: some[0] for index, some in enumerate(labels) if some}
    if not label:
        raise DataError(f"{source.name}: none of {len(labels)} clips has a label. {WHENCE}")
    note = "labels are the names of the folders that clips lie in" if isinstance(source, ByFolder) else ""
    if len(label) < len(labels):
        note = f"{len(labels) - len(label)} of {len(labels)} clips have no label, and are left out"
    missing = tuple(fault for fault in source.faults if FAULTS[fault.reason].fatal)
    return Split(source.name, source, label, missing, source.fingerprint(), note=note)


def published(
    probe: Probe,
    folder: str | Path,
    clip: ClipConfig,
    *,
    modalities: Sequence[Seen],
    folds: Sequence[int] = (),
    console: Console,
) -> list[Fold]:
    """The official folds of a published data set, its media opened once.

    Args:
      folder: the user's copy, in its official layout.
      clip, modalities: how clips will be cut, and what is looked at.
      folds: their numbers, from 1; none: all.

    Raises:
      DataError: no such folder or fold, or a split of which no clip can be used.
    """
    for number in folds:
        if not 1 <= number <= len(probe.folds):
            raise DataError(f"{probe.dataset} has folds 1 to {len(probe.folds)}; there is no fold {number}")
    name = f"{probe.dataset}:{folder}"
    with bar(console, name) as progress:
        source = open_clips(f"{name}@all", clip, max_bad=1.0, modalities=modalities, progress=progress)
    print_faults(console, source)
    place = {source[index].id: index for index in range(len(source))}
    labels, faults = source.labels(), {fault.id: fault for fault in source.faults}
    module = builders.load(probe.dataset)

    def split(split: str) -> Split:
        listing = module.rows(Path(folder).expanduser(), split)
        ids = [row.id for row in listing.rows] + [fault.id for fault in listing.faults]
        label = {place[id]: labels[place[id]][0] for id in ids if id in place}
        if not label:
            raise DataError(
                f"{name}: none of the {len(ids)} clips of {split} can be used; leave its fold out with --folds, or "
                f"see vatt data check {name}@{split}"
            )
        missing = tuple(faults.get(id) or Fault(id=id, reason="missing") for id in ids if id not in place)
        return Split(split, source, label, missing, digest(sorted(ids)), group=module.group)

    chosen = [probe.folds[number - 1] for number in folds] if folds else probe.folds
    return [Fold(test, split(train), split(test)) for train, test in chosen]
