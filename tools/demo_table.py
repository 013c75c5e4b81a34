"""What pretraining is worth on the demo: fine-tuning against training from scratch, probes against random features, and
zero-shot classification.

    python tools/demo_table.py

pretrains experiments/demo.py into runs/demo, unless it is there, then trains classifiers on ten clips a class for three
seeds, with and without it, and prints Markdown (README has how long that took). Classes are the 40 of shape and
colour. The exit status is 1 if pretraining is worth less than it should be: 15 points in fine-tuning, 25 to VATT's
classifier on frozen features.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from vatt.cli import before_jax

ROOT = Path(__file__).parents[1]
WORTH = {"fine-tuning": 15.0, "frozen features": 25.0}  # points of top-1, mean over seeds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/demo", help="the pretraining run (default runs/demo)")
    parser.add_argument("--out", default="runs/demo_table", help="folder of the other runs (default runs/demo_table)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    began = time.monotonic()
    before_jax()
    import numpy as np
    from rich.console import Console

    import vatt
    from vatt.config import FinetuneConfig, load_experiment, load_pretraining
    from vatt.data.sources import open_clips
    from vatt.evals.pretrained import Pretrained
    from vatt.evals.probe import fresh, probe_source
    from vatt.evals.probe.recipes import Classifier
    from vatt.evals.zeroshot import demo_accuracy
    from vatt.train.finetune import finetune
    from vatt.train.pretrain import pretrain

    console = Console(stderr=True)
    pretraining = replace(load_pretraining(ROOT / "experiments" / "demo.py"), run=args.run)
    if not (Path(args.run) / "checkpoints" / str(pretraining.steps)).exists():
        pretrain(pretraining, console)
    recipe = load_experiment(ROOT / "experiments" / "finetune_demo.py")
    assert isinstance(recipe, FinetuneConfig)
    print(
        "| top-1 on 160 held-out clips (%), 40 classes | " + " | ".join(f"seed {s}" for s in args.seeds) + " | mean |"
    )
    print("|---|" + "---|" * (len(args.seeds) + 1))

    def row(name: str, values: list[float]) -> float:
        mean = float(np.mean(values))
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in [*values, mean]) + " |", flush=True)
        return mean

    def tuned(init: str, seed: int) -> float:
        run = f"{args.out}/{'tuned' if init else 'scratch'}{seed}"
        result = finetune(replace(recipe, init=init, seed=seed, run=run), console)
        assert result is not None
        return result["fine-tuned"].metrics["top_1"]

    worth = {}
    worth["fine-tuning"] = row("fine-tuned from the pretraining run", [tuned(args.run, s) for s in args.seeds])
    worth["fine-tuning"] -= row("trained from scratch, same steps and clips", [tuned("", s) for s in args.seeds])

    model = vatt.load(args.run)
    train, test = (open_clips(f"demo:data/demo/{name}.csv", model.cfg.clip, max_bad=1.0) for name in ("few", "heldout"))

    def probed(name: str, classifier: Classifier, **changes) -> float:
        """Prints both rows of a classifier, and returns by how much they differ."""

        def on(which: Pretrained, seed: int) -> float:
            return probe_source(which, train, test, classifier=classifier, seed=seed, **changes)["top_1"]

        pretrained = row(f"{name} on frozen pretrained features", [on(model, seed) for seed in args.seeds])
        return pretrained - row(f"{name} on frozen random features", [on(fresh(model, s), s) for s in args.seeds])

    worth["frozen features"] = probed("VATT's low-rank classifier", "low_rank")
    probed("linear SVM (MMV's, with 4 passes and 4 windows)", "svm", passes=4, windows=4)

    print("\n| zero-shot | labels | top-1 | top-5 | chance |\n|---|---|---|---|---|")
    for factor, found in demo_accuracy(model, "data/demo").items():
        labels = round(100 / found["chance"])
        print(f"| {factor} | {labels} | {found['top_1']:.1f} | {found['top_5']:.1f} | {found['chance']:.1f} |")
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes")
    short = [f"{name}: {got:.1f} points, expected {WORTH[name]:g}" for name, got in worth.items() if got < WORTH[name]]
    print("\n".join(short), file=sys.stderr)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
