"""PNG pictures of a run: its curves, and the similarities of its last retrieval."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from vatt.errors import CheckpointError
from vatt.evals.retrieval import Retrieval
from vatt.train.log import read_metrics

SHOWN = ("R@10", "knn_top_1", "top_1", "mAP")
MOST = 1000  # clips of a heat map


def curves(run: str | Path) -> Path:
    """Writes RUN/curves.png: loss of each pair, retrieval, speed. Raises CheckpointError if nothing was logged."""
    run = Path(run)
    lines = read_metrics(run)
    if not lines:
        raise CheckpointError(f"{run}: there is no metrics.jsonl to plot; give the folder that vatt pretrain wrote")
    panels = {
        "loss": [name for name in _names(lines) if name == "loss" or name.startswith("loss/")],
        "held-out clips (%)": [name for name in _names(lines) if name.split("/")[-1] in SHOWN],
        "clips/s": ["clips_per_second"],
        "learning rate": ["learning_rate"],
    }
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    for axis, (title, names) in zip(axes.flat, panels.items(), strict=True):
        for name in names:
            points = [(line["step"], line[name]) for line in lines if name in line]
            axis.plot(
                *zip(*points, strict=True) if points else ([], []),
                label=_label(name),
                marker="o" if len(points) < 3 else None,
            )
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.legend(fontsize=8)
    return _save(figure, run / "curves.png")


def heat_map(result: Retrieval, path: str | Path) -> Path:
    """Writes similarity matrices, one panel a direction from text or audio to video, of the first MOST clips: a good
    model has a bright diagonal."""
    shown = {name: pair for name, pair in result.embeddings.items() if name.endswith("to_video")}
    figure, axes = plt.subplots(1, len(shown), figsize=(6 * len(shown), 5.5), layout="constrained", squeeze=False)
    for axis, (name, (of_query, of_item)) in zip(axes.flat, shown.items(), strict=True):
        picture = axis.imshow(of_query[:MOST] @ of_item[:MOST].T, cmap="viridis", interpolation="nearest")
        query = name.split("_")[0]
        axis.set(title=f"{query} to video, cosine similarity", xlabel="video", ylabel=query)
        figure.colorbar(picture, ax=axis, shrink=0.8)
    return _save(figure, Path(path))


def _names(lines: list[dict]) -> list[str]:
    return list(dict.fromkeys(name for line in lines for name in line))


def _label(name: str) -> str:
    return name.removeprefix("loss/").removeprefix("retrieval/").removeprefix("classification/").replace("_", " ")


def _save(figure, path: Path) -> Path:
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
