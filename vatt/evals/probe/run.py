"""A probe from clips to numbers, by official folds of a published data set or on any two labelled sources."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from vatt import sharding
from vatt.data import builders
from vatt.data.faults import FAULTS
from vatt.data.items import Source
from vatt.data.labels import WHENCE, ByFolder, with_labels
from vatt.data.sources import open_clips
from vatt.errors import NAMED, DataError, MediaError, listed
from vatt.evals.embedding import Embedder
from vatt.evals.pretrained import Pretrained
from vatt.evals.probe.classifiers import fit
from vatt.evals.probe.features import Passes, Views, Windows, features
from vatt.evals.probe.recipes import Classifier, Probe, Recipe, Seen, recipe
from vatt.evals.probe.report import Report
from vatt.evals.run import print_faults
from vatt.metrics import single_label
from vatt.progress import bar
from vatt.tasks.pretrain import Pretrain


@dataclass(frozen=True, eq=False)
class Split:
    """The labelled clips of a source that a fold trains or tests on; `label` and `group` by index. `expected` counts
    also those that cannot be used; `note` is what the user should know, if anything."""

    name: str
    source: Source
    label: dict[int, str]
    group: dict[int, str]
    expected: int
    note: str = ""


@dataclass(frozen=True, eq=False)
class Fold:
    name: str
    train: Split
    test: Split


def probe_source(
    model: Pretrained,
    train: Source,
    test: Source,
    *,
    classifier: Classifier = "svm",
    modalities: Sequence[Seen] = ("video",),
    seed: int = 0,
    **changes,
) -> dict[str, float]:
    """Trains a classifier on the features of one labelled source, and tests it on another.

    Args:
      model: whose features; see `fresh` for one that has learned nothing.
      train, test: clips with one label each; those without are left out.
      modalities: towers whose features are put together.
      seed: of the training passes, and of the low-rank classifier.
      changes: to the classifier's `Recipe`, such as `passes=1`.

    Returns: numbers as `Report.folds` names them.

    Raises: as `run_folds`, and DataError where `split_of` does.
    """
    fold = Fold("test", split_of(train), split_of(test))
    reports = run_folds(model, [fold], recipes=[recipe(classifier, **changes)], modalities=modalities, seed=seed)
    return reports[0].folds["test"]


def split_of(source: Source) -> Split:
    """The clips of a source that have a label (see `vatt.data.labels.with_labels`).

    Raises DataError if no clip has a label, or one has several.
    """
    source = with_labels(source)
    items = [source[index] for index in range(len(source))]
    label = {index: item.labels[0] for index, item in enumerate(items) if item.labels}
    for item in items:
        if len(item.labels) > 1:
            raise DataError(
                f"{source.name}: {item.id} has {len(item.labels)} labels ({', '.join(item.labels[:3])}); a probe needs "
                "clips of one label each"
            )
    if not label:
        raise DataError(f"{source.name}: none of {len(items)} clips has a label. {WHENCE}")
    note = "labels are the names of the folders that clips lie in" if isinstance(source, ByFolder) else ""
    if len(label) < len(items):
        note = f"{len(items) - len(label)} of {len(items)} clips have no label, and are left out"
    lost = sum(FAULTS[fault.reason].fatal for fault in source.faults)
    group = {index: items[index].id for index in label}
    return Split(source.name, source, label, group, len(label) + lost, note)


def published(
    probe: Probe, folder: str | Path, model: Pretrained, *, folds: Sequence[int] = (), console: Console
) -> list[Fold]:
    """The official folds of a published data set, its media opened once.

    Args:
      folder: the user's copy, in its official layout.
      folds: their numbers, from 1; none: all.

    Raises:
      DataError: no such folder or fold, or a split of which no clip can be used.
    """
    for number in folds:
        if not 1 <= number <= len(probe.folds):
            raise DataError(f"{probe.dataset} has folds 1 to {len(probe.folds)}; there is no fold {number}")
    name = f"{probe.dataset}:{folder}"
    with bar(console, name) as progress:
        source = open_clips(f"{name}@all", model.cfg.clip, max_bad=1.0, progress=progress)
    print_faults(console, source)
    items = [source[index] for index in range(len(source))]
    place = {item.id: index for index, item in enumerate(items)}
    module = builders.load(probe.dataset)

    def split(split: str) -> Split:
        listing = module.rows(Path(folder).expanduser(), split)
        indices = [place[row.id] for row in listing.rows if row.id in place]
        expected = len(listing.rows) + len(listing.faults)
        if not indices:
            raise DataError(
                f"{name}: none of the {expected} clips of {split} can be used; leave its fold out with --folds, or "
                f"see vatt data check {name}@{split}"
            )
        group = {index: probe.group(items[index].id) for index in indices}
        return Split(split, source, {index: items[index].labels[0] for index in indices}, group, expected)

    chosen = [probe.folds[number - 1] for number in folds] if folds else probe.folds
    return [Fold(test, split(train), split(test)) for train, test in chosen]


def run_folds(
    model: Pretrained,
    folds: Sequence[Fold],
    *,
    recipes: Sequence[Recipe],
    modalities: Sequence[Seen],
    seed: int = 0,
    console: Console | None = None,
) -> list[Report]:
    """Trains and tests a classifier of each recipe on each fold. A clip is looked at once for all folds, and for all
    recipes that look at it alike.

    Raises:
      DataError: a fold has no clip to train or test on, or one class alone to train on.
      NonFiniteError: a feature is NaN or infinite.
    """
    console = console or Console(quiet=True)
    seen: dict[tuple[int, Views], dict[int, np.ndarray]] = {}
    failed: dict[str, MediaError] = {}

    def look(splits: list[Split], views: Views) -> None:
        for source in {id(split.source): split.source for split in splits}.values():
            have = seen.setdefault((id(source), views), {})
            wanted = sorted({i for split in splits if split.source is source for i in split.label} - have.keys())
            errors: list[MediaError] = []
            with bar(console, f"{source.name}: features") as progress:
                have |= features(
                    model,
                    source,
                    views=views,
                    modalities=modalities,
                    indices=wanted,
                    failed=errors,
                    progress=progress,
                )
            failed.update({str(error): error for error in errors})

    reports = []
    for chosen in recipes:
        report = Report(chosen, tuple(modalities))
        training: Views = Passes(chosen.passes, seed) if chosen.passes else Windows(1)
        testing = Windows(chosen.windows)
        look([fold.train for fold in folds], training)
        look([fold.test for fold in folds], testing)
        for fold in folds:
            x_train, x_test = seen[id(fold.train.source), training], seen[id(fold.test.source), testing]
            report.folds[fold.name] = _run_fold(fold, x_train, x_test, report, seed)
        report.notes = [f"{note} ({n} times)" if n > 1 else note for note, n in Counter(report.notes).items()]
        reports.append(report)
    if failed:
        console.print(f"{len(failed)} clips are not in the figures:\n" + listed(list(failed)), highlight=False)
    return reports


def _run_fold(
    fold: Fold, x_train: dict[int, np.ndarray], x_test: dict[int, np.ndarray], report: Report, seed: int
) -> dict[str, float]:
    train = [index for index in fold.train.label if index in x_train]
    test = [index for index in fold.test.label if index in x_test]
    for split, found in ((fold.train, train), (fold.test, test)):
        if not found:
            needs = " and ".join(report.modalities)
            raise DataError(
                f"{split.name}: none of its {len(split.label)} labelled clips gives {needs}; see --modalities"
            )
    classes, y = np.unique([fold.train.label[index] for index in train], return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            f"{fold.train.name}: all {len(train)} clips are {str(classes[0])!r}; a classifier needs two classes"
        )
    report.notes += [f"{split.name}: {split.note}" for split in (fold.train, fold.test) if split.note]
    notes: list[str] = []
    scorer, C = fit(
        report.recipe,
        np.stack([x_train[index] for index in train]),
        y,
        groups=[fold.train.group[index] for index in train],
        seed=seed,
        notes=notes,
    )
    number = {str(name): position for position, name in enumerate(classes)}
    known = [index for index in test if fold.test.label[index] in number]
    unseen = Counter(fold.test.label[index] for index in test if fold.test.label[index] not in number)
    few = ", ".join(f"{name} ({count})" for name, count in unseen.most_common(NAMED))
    few += f" and {len(unseen) - NAMED} more" if len(unseen) > NAMED else ""
    if not known:
        raise DataError(f"{fold.test.name}: no clip has a label that occurs in {fold.train.name}; it has {few}")
    if unseen:
        notes.append(f"labels seen only in test, whose clips count as wrong: {few}")
    report.notes += [f"{fold.name}: {note}" for note in notes]
    target = np.array([number[fold.test.label[index]] for index in known])
    found = single_label(scorer(np.stack([x_test[index] for index in known])), target)
    share = len(known) / len(test)
    return {name: value * share for name, value in found.items() if name.startswith("top_")} | {
        "items": len(test),
        "expected": fold.test.expected,
        "ties": found["ties"],
        "train": len(train),
        "expected_train": fold.train.expected,
        "classes": len(classes),
        "unseen": sum(unseen.values()),
        **({} if C is None else {"C": C}),
    }


def fresh(model: Pretrained) -> Pretrained:
    """The model as it was before training, from its run's seed: what a probe owes to the architecture alone."""
    init = Pretrain(model.cfg).init
    key = jax.random.key(model.cfg.seed)
    with jax.set_mesh(model.mesh):
        shardings = sharding.state_shardings(jax.eval_shape(init, key), model.mesh)
        params, stats = jax.jit(init, out_shardings=shardings)(key)
    embedder = Embedder(model.cfg, model.mesh, params, stats)
    return replace(model, step=0, embedder=embedder, params=params, stats=stats)
