"""What a probe found, and its file in the run's folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vatt.data.items import Fault
from vatt.evals.pretrained import Pretrained
from vatt.evals.probe.recipes import Recipe, Seen
from vatt.evals.probe.splits import Fold
from vatt.evals.protocols.protocol import digest


@dataclass
class Report:
    """What a probe found.

    hash: 16 hex digits; figures compare where it is the same (see `hash_of`).
    folds: by name. Each has `top_1` and `top_5` (percent of the test clips found), `items` (those clips) of `expected`,
      `ties`, `train` (training clips found) of `expected_train`, `classes` (in training), `unseen` (test clips whose
      label no training clip has; they count as wrong), and `C`, if the classifier has one.
    missing: clips of the folds that are in no figure, and why.
    differs: where the run's clip is not what the publication used.
    notes: what the user should know.
    """

    recipe: Recipe
    modalities: tuple[Seen, ...]
    hash: str
    folds: dict[str, dict[str, float]] = field(default_factory=dict)
    missing: list[Fault] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def mean(self) -> dict[str, float]:
        """Of the percentages, over the folds."""
        names = [name for name in next(iter(self.folds.values())) if name.startswith("top_")]
        return {name: float(np.mean([fold[name] for fold in self.folds.values()])) for name in names}

    @property
    def share(self) -> float:
        """Of the test clips of all folds, in [0, 1], those that the figures are of."""
        found, expected = (sum(fold[name] for fold in self.folds.values()) for name in ("items", "expected"))
        return found / expected

    def to_dict(self) -> dict:
        return {
            "recipe": asdict(self.recipe),
            "modalities": list(self.modalities),
            "hash": self.hash,
            "mean": self.mean(),
            "share": self.share,
            "folds": self.folds,
            "missing": [asdict(fault) for fault in self.missing],
            "differs": self.differs,
            "notes": self.notes,
        }


def hash_of(recipe: Recipe, modalities: Sequence[Seen], folds: Sequence[Fold]) -> str:
    """16 hex digits of a recipe, what it looks at, and the clips that belong to the folds, used or not."""
    return digest([asdict(recipe), list(modalities), [[fold.name, fold.train.hash, fold.test.hash] for fold in folds]])


def write_report(
    run: str | Path, probe: str, model: Pretrained, report: Report, *, data: str, test: str = "", seed: int
) -> Path:
    """Writes RUN/evaluations/probe-NAME-CLASSIFIER-MODALITIES-stepN-DIGEST.json, whole or not at all. The digest tells
    recipes, data, folds, seeds and weights apart, so that no report takes another's place."""
    where = {"probe": probe, "data": data, "test": test, "run": str(run), "step": model.step, "model": model.hash}
    where["seed"] = seed
    apart = digest([report.hash, data, test, seed, model.hash])[:8]
    parts = ("probe", probe, report.recipe.classifier, *report.modalities, f"step{model.step}", apart)
    path = Path(run) / "evaluations" / ("-".join(parts) + ".json")
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(where | report.to_dict(), indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
    return path
