r"""VATT-Medium on Kinetics-400, -600 or -700, or Moments in Time, with the paper's recipe.

Source: Akbari et al. 2021 (arXiv 2104.11178), appendices A.2.1 and A.2.5; views, dropout before the classifier and
the clipping of the towers' gradient from the released code.
Cost: 100,000 steps of batch 64, 32 frames of 320x320; 15.0 TFLOPs a clip of 12 views at test time (table 1).
Expected: K400 81.1 % top-1, K600 82.4 %, MiT 39.5 % (table 1), from the paper's pretraining. Not reproduced by us yet.
Command: vatt finetune experiments/finetune_kinetics.py --init runs/vatt_mbs \
    --data.sources kinetics400:DIR@train --evaluate.source kinetics400:DIR@val

Originals, or sets prepared with `vatt data prepare --size 368`: pictures of 320 pixels are cut from 368. From
VATT-MA-Medium (79.9 % on K400) put `ma_medium()` of vatt.presets in the place of `mbs()`; or start, and the error names
the options that do.
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
from vatt.presets import mbs


def get_config() -> FinetuneConfig:
    model = mbs()
    return FinetuneConfig(
        run="runs/finetune_kinetics",
        steps=100_000,
        batch_size=64,
        # every other frame of 25 a second: 2.56 s
        clip=ClipConfig(frames=32, fps=12.5, size=320, samples=122_880, short="repeat"),
        model=replace(model, video=replace(model.video, keep=1.0)),
        classify=ClassifyConfig(modalities=("video",), dropout=0.5, label_smoothing=0.1),
        optim=OptimConfig(
            name="sgd",
            learning_rate=5e-3,
            end_learning_rate=0.0,
            warmup_steps=2_500,
            decay="half_cosine",
            clip_norm=0.75,
            clip="towers",
        ),
        evaluate=EvaluateConfig(windows=4, crops=3, batch_size=8),
        checkpoint=CheckpointConfig(every=5_000, keep=10, best="top_1"),
    )
