"""A probe from folds of clips to numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np
from rich.console import Console

from vatt import sharding
from vatt.config import ClipConfig
from vatt.data.items import Fault, Source
from vatt.errors import NAMED, DataError, MediaError, listed
from vatt.evals.embedding import Embedder
from vatt.evals.pretrained import Pretrained
from vatt.evals.probe.classifiers import fit
from vatt.evals.probe.features import Passes, Views, Windows, features
from vatt.evals.probe.recipes import Classifier, Recipe, Seen, recipe
from vatt.evals.probe.report import Report, hash_of
from vatt.evals.probe.splits import Fold, Split, split_of
from vatt.metrics import single_label
from vatt.progress import bar
from vatt.tasks.pretrain import Pretrain


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
      train, test: clips with one label each; those without are left out. They are cut as the run cuts its clips, and
        those shorter than a window are shown over and over.
      modalities: towers whose features are put together.
      seed: of the training passes, and of the low-rank classifier.
      changes: to the classifier's `Recipe`, such as `passes=1`. Passes vary as in the run's pretraining, unless there
        is an `augment`.

    Returns: numbers as `Report.folds` names them.

    Raises: as `run_folds`, and DataError where `split_of` does.
    """
    fold = Fold("test", split_of(train), split_of(test))
    reports = run_folds(model, [fold], recipes=[recipe(classifier, **changes)], modalities=modalities, seed=seed)
    return reports[0].folds["test"]


def run_folds(
    model: Pretrained,
    folds: Sequence[Fold],
    *,
    recipes: Sequence[Recipe],
    modalities: Sequence[Seen],
    clip: ClipConfig | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> list[Report]:
    """Trains and tests a classifier of each recipe on each fold. A clip is looked at once for all folds, and for all
    recipes that look at it alike.

    Args:
      clip: how a window is cut; None: as the run's. What is shorter is shown over and over.

    Raises:
      DataError: a fold has no clip to train or test on, or one class alone to train on.
      NonFiniteError: a feature is NaN or infinite.
    """
    console = console or Console(quiet=True)
    clip = replace(clip or model.cfg.clip, short="repeat")
    seen: dict[tuple[int, Views], dict[int, np.ndarray]] = {}
    failed: dict[int, dict[int, MediaError]] = {}  # by source, and index in it

    def look(splits: list[Split], views: Views) -> None:
        for source in {id(split.source): split.source for split in splits}.values():
            have = seen.setdefault((id(source), views), {})
            wanted = sorted({i for split in splits if split.source is source for i in split.label} - have.keys())
            with bar(console, f"{source.name}: features") as progress:
                have |= features(
                    model,
                    source,
                    clip=clip,
                    views=views,
                    modalities=modalities,
                    indices=wanted,
                    failed=failed.setdefault(id(source), {}),
                    progress=progress,
                )

    reports = []
    for chosen in recipes:
        report = Report(chosen, tuple(modalities), hash_of(chosen, modalities, folds))
        augment = replace(chosen.augment, resize=model.cfg.augment.resize) if chosen.augment else model.cfg.augment
        training: Views = Passes(chosen.passes, augment, seed) if chosen.passes else Windows(1)
        testing = Windows(chosen.windows)
        look([fold.train for fold in folds], training)
        look([fold.test for fold in folds], testing)
        with bar(console, f"{chosen.classifier}: fitting") as progress:
            for done, fold in enumerate(folds, 1):
                x_train, x_test = seen[id(fold.train.source), training], seen[id(fold.test.source), testing]
                report.folds[fold.name] = _run_fold(fold, x_train, x_test, report, seed)
                progress(done, len(folds))
        report.notes = [f"{note} ({n} times)" if n > 1 else note for note, n in Counter(report.notes).items()]
        report.missing = _missing(folds, failed)
        reports.append(report)
    errors = dict.fromkeys(str(error) for some in failed.values() for error in some.values())
    if errors:
        console.print(f"{len(errors)} clips are not in the figures:\n" + listed(list(errors)), highlight=False)
    return reports


def _missing(folds: Sequence[Fold], failed: dict[int, dict[int, MediaError]]) -> list[Fault]:
    """The clips of the folds that are in no figure, each once."""
    found: dict[tuple[int, str], Fault] = {}
    for split in (split for fold in folds for split in (fold.train, fold.test)):
        undecodable = [
            _fault(split.source, index, error)
            for index, error in failed[id(split.source)].items()
            if index in split.label
        ]
        found |= {(id(split.source), fault.id): fault for fault in (*split.missing, *undecodable)}
    return list(found.values())


def _fault(source: Source, index: int, error: MediaError) -> Fault:
    try:
        id = source[index].id
    except MediaError:  # of a prepared set whose record is damaged
        id = error.path
    return Fault(id=id, reason=error.kind, detail=str(error))


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
        groups=_groups(fold.train, train) if len(report.recipe.C) > 1 else (),
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


def _groups(split: Split, indices: Sequence[int]) -> list[str]:
    return [split.group(split.source[index].id) for index in indices]


def fresh(model: Pretrained, seed: int | None = None) -> Pretrained:
    """The model as it was before training: what a probe owes to the architecture alone. Its weights are drawn from the
    seed, by default from its run's."""
    init = Pretrain(model.cfg).init
    key = jax.random.key(model.cfg.seed if seed is None else seed)
    with jax.set_mesh(model.mesh):
        shardings = sharding.state_shardings(jax.eval_shape(init, key), model.mesh)
        params, stats = jax.jit(init, out_shardings=shardings)(key)
    embedder = Embedder(model.cfg, model.mesh, params, stats)
    return replace(model, step=0, embedder=embedder, params=params, stats=stats)
