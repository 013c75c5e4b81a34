"""The protocols as data: which splits of which data set, and how a classifier is trained and tested on features."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from vatt.config import AugmentConfig
from vatt.errors import ConfigError
from vatt.evals.protocols.stated import Stated

Classifier = Literal["svm", "logistic", "low_rank"]
Seen = Literal["video", "audio"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a classifier is trained on frozen features, and tested."""

    classifier: Classifier
    passes: int  # times that every training clip is seen, each from another start; 0: its central window, unvaried
    windows: int  # test windows, spread evenly over the clip; their scores are averaged
    augment: AugmentConfig | None = None  # how else the passes vary a clip; None: as the run's pretraining did
    # strength of the fit, the inverse of regularisation; of several, the best in cross-validation on training clips
    C: tuple[float, ...] = ()
    steps: int = 0  # of the optimiser (low_rank)

    def __post_init__(self):
        if self.passes < 0 or self.windows < 1:
            raise ConfigError(
                f"a probe needs passes of 0 or more and at least one window, not {self.passes} and {self.windows}"
            )
        if self.classifier == "low_rank":
            if self.steps < 1:
                raise ConfigError(f"low_rank takes {self.steps} steps; it needs at least 1")
        elif not self.C or min(self.C) <= 0:
            raise ConfigError(f"{self.classifier} needs values of C above 0, not {self.C}")


# MMV's passes: the short side resized, a random square cut out, half of them flipped; colours stay as they are.
# Its released evaluation on UCF101 crops 224 pixels of 224; DMVR's example on HMDB51 200 of 224, which is not followed.
MMV = AugmentConfig(crop="square", flip=0.5, colour=0.0)

RECIPES: dict[Classifier, Recipe] = {
    # MMV (Alayrac et al. 2020, arXiv 2006.16228, and its released evaluation): features standardised, squared hinge
    # loss, one against the rest; ten augmented passes, ten windows, decision values averaged. It gives C for the sets
    # that it names, below.
    "svm": Recipe(classifier="svm", passes=10, windows=10, C=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
    # As the SVM, with the softmax loss, by L-BFGS; probabilities averaged.
    "logistic": Recipe(classifier="logistic", passes=10, windows=10, C=(1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
    # VATT (appendix A.3.2, and its released code): see `classifiers.low_rank`.
    "low_rank": Recipe(classifier="low_rank", passes=0, windows=4, steps=50_000),
}


@dataclass(frozen=True, kw_only=True)
class Probe(Stated):
    """A published data set as it is probed, in clips as `Stated` says. A clip shorter than a window is shown over and
    over, as DMVR does.

    dataset: a name of `vatt.data.builders`; folds: (training split, test split), each official.
    C: what a protocol names for this set.
    """

    dataset: str
    folds: tuple[tuple[str, str], ...]
    modalities: tuple[Seen, ...]
    C: dict[Classifier, tuple[float, ...]] = field(default_factory=dict)


PROBES: dict[str, Probe] = {
    "ucf101": Probe(
        dataset="ucf101",
        folds=(("train1", "test1"), ("train2", "test2"), ("train3", "test3")),
        modalities=("video",),
        C={"svm": (1e-3,)},  # MMV's released evaluation on UCF101
        frames=32,  # every other one of 25 a second, as VATT has it, too
        fps=12.5,
        size=224,
    ),
    "hmdb51": Probe(
        dataset="hmdb51",
        folds=(("train1", "test1"), ("train2", "test2"), ("train3", "test3")),
        modalities=("video",),
        C={"svm": (1e-4, 2e-4, 3e-4)},  # the span that DMVR's example of MMV on HMDB51 names
        frames=32,  # as VATT samples; DMVR's example takes every frame
        fps=12.5,
        size=224,
    ),
    "esc50": Probe(
        dataset="esc50",
        folds=tuple((f"train{fold}", f"fold{fold}") for fold in range(1, 6)),
        modalities=("audio",),
    ),
}


def recipe(classifier: Classifier, *, probe: Probe | None = None, **changes) -> Recipe:
    """The recipe of a classifier; of a published data set with MMV's passes and the C that is named for it; and then
    with changes."""
    named = {"augment": MMV} if probe else {}
    named |= {"C": probe.C[classifier]} if probe and classifier in probe.C else {}
    return dataclasses.replace(RECIPES[classifier], **named | changes)
