"""What a probe found, and its file in the run's folder."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vatt.evals.pretrained import Pretrained
from vatt.evals.probe.recipes import Recipe, Seen


@dataclass
class Report:
    """What a probe found.

    folds: by name. Each has `top_1` and `top_5` (percent of the test clips found), `items` (those clips) of `expected`,
      `ties`, `train` (training clips found) of `expected_train`, `classes` (in training), `unseen` (test clips whose
      label no training clip has; they count as wrong), and `C`, if the classifier has one.
    notes: what the user should know.
    """

    recipe: Recipe
    modalities: tuple[Seen, ...]
    folds: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def mean(self) -> dict[str, float]:
        """Of the percentages, over the folds."""
        names = [name for name in next(iter(self.folds.values())) if name.startswith("top_")]
        return {name: float(np.mean([fold[name] for fold in self.folds.values()])) for name in names}

    def to_dict(self) -> dict:
        return {
            "recipe": asdict(self.recipe),
            "modalities": list(self.modalities),
            "mean": self.mean(),
            "folds": self.folds,
            "notes": self.notes,
        }


def write_report(
    run: str | Path, probe: str, model: Pretrained, report: Report, *, data: str, test: str = "", seed: int
) -> Path:
    """Writes RUN/evaluations/probe-NAME-CLASSIFIER-MODALITIES-stepN.json, whole or not at all."""
    parts = ("probe", probe, report.recipe.classifier, *report.modalities, f"step{model.step}")
    path = Path(run) / "evaluations" / ("-".join(parts) + ".json")
    where = {"probe": probe, "data": data, "test": test, "run": str(run), "step": model.step, "model": model.hash}
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(where | {"seed": seed} | report.to_dict(), indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
    return path
