r"""VATT-Base on ImageNet, each picture shown as four frames, with the paper's recipe.

Source: Akbari et al. 2021 (arXiv 2104.11178), appendix A.3.1; the clipping of the towers' gradient from the released
code. How long it warms up is not stated there, and is ours.
Cost: 50 epochs, 125,000 steps of batch 512, of 384x384.
Expected: 78.7 % top-1 after pretraining on HowTo100M, 64.7 % without (table 3). Not reproduced by us yet.
Command: vatt finetune experiments/finetune_imagenet.py --init runs/vatt_bbs \
    --data.sources imagenet:DIR@train --evaluate.source imagenet:DIR@val

Its classes are called n01440764 and the like; for zero-shot classification beside it give their names, a line
"n01440764<tab>tench" for each class: --classify.classes FILE.
"""

from dataclasses import replace

from vatt.config import (
    CheckpointConfig,
    ClassifyConfig,
    ClipConfig,
    EvaluateConfig,
    FinetuneConfig,
    OptimConfig,
)
from vatt.presets import bbs


def get_config() -> FinetuneConfig:
    model = bbs()
    return FinetuneConfig(
        run="runs/finetune_imagenet",
        steps=125_000,
        batch_size=512,
        clip=ClipConfig(frames=4, fps=10.0, size=384, samples=19_200),
        model=replace(model, video=replace(model.video, keep=1.0)),
        classify=ClassifyConfig(modalities=("video",), label_smoothing=0.1),
        optim=OptimConfig(
            name="sgd",
            learning_rate=0.08,
            end_learning_rate=0.0,
            warmup_steps=5_000,
            decay="half_cosine",
            clip_norm=0.75,
            clip="towers",
        ),
        evaluate=EvaluateConfig(windows=1, crops=1, batch_size=32),
        checkpoint=CheckpointConfig(every=5_000, best="top_1"),
    )
