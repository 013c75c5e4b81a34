"""What pretraining is worth on the demo: fine-tuning against training from scratch, probes against random features.

    python tools/demo_table.py

pretrains experiments/demo.py into runs/demo, unless it is there, then trains classifiers of ten clips a class for three
seeds, with and without it, and prints Markdown.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from vatt.cli import before_jax

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/demo", help="the pretraining run (default runs/demo)")
    parser.add_argument("--out", default="runs/demo_table", help="folder of the other runs (default runs/demo_table)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    before_jax()
    import numpy as np
    from rich.console import Console

    import vatt
    from vatt.config import FinetuneConfig, load_experiment, load_pretraining
    from vatt.data.sources import open_clips
    from vatt.evals.probe import fresh, probe_source
    from vatt.evals.zeroshot import demo_accuracy
    from vatt.train.finetune import finetune
    from vatt.train.pretrain import pretrain

    console = Console(stderr=True)
    pretraining = replace(load_pretraining(ROOT / "experiments" / "demo.py"), run=args.run)
    if not (Path(args.run) / "checkpoints" / str(pretraining.steps)).exists():
        pretrain(pretraining, console)
    recipe = load_experiment(ROOT / "experiments" / "finetune_demo.py")
    assert isinstance(recipe, FinetuneConfig)
    print("| top-1 on held-out clips (%) | " + " | ".join(f"seed {seed}" for seed in args.seeds) + " | mean |")
    print("|---|" + "---|" * (len(args.seeds) + 1))

    def row(name: str, values: list[float]) -> None:
        print(
            f"| {name} | " + " | ".join(f"{value:.1f}" for value in [*values, float(np.mean(values))]) + " |",
            flush=True,
        )

    def tuned(init: str, seed: int) -> float:
        run = f"{args.out}/{'tuned' if init else 'scratch'}{seed}"
        result = finetune(replace(recipe, init=init, seed=seed, run=run), console)
        assert result is not None
        return result["fine-tuned"].metrics["top_1"]

    row("fine-tuned from the pretraining run", [tuned(args.run, seed) for seed in args.seeds])
    row("trained from scratch, same steps and clips", [tuned("", seed) for seed in args.seeds])
    model = vatt.load(args.run)
    train, test = (open_clips(f"demo:data/demo/{name}.csv", model.cfg.clip, max_bad=1.0) for name in ("few", "heldout"))
    for name, which in (("pretrained", model), ("random", fresh(model))):
        scores = [
            probe_source(which, train, test, classifier="svm", modalities=("video",), seed=seed)["top_1"]
            for seed in args.seeds
        ]
        row(f"linear SVM on frozen {name} features", scores)
    print(demo_accuracy(model, "data/demo"))


if __name__ == "__main__":
    main()
