r"""VATT-Base on one split of UCF101 or HMDB51, all of it trained.

Source: ours; the paper measures frozen features there (vatt evaluate RUN --probe ucf101). Clips as in its Kinetics
recipe, at 224x224; AdamW with layer-wise decay, as is usual for small sets (BEiT, Bao et al. 2021).
Cost: 10,000 steps of batch 64.
Expected: not measured yet.
Command: vatt finetune experiments/finetune_ucf101.py --init runs/vatt_bbs \
    --data.sources ucf101:DIR@train1 --evaluate.source ucf101:DIR@test1

Its classes are called ApplyEyeMakeup and the like; for zero-shot classification beside it give their names, a line
"ApplyEyeMakeup<tab>apply eye makeup" for each class: --classify.classes FILE.
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
        run="runs/finetune_ucf101",
        steps=10_000,
        batch_size=64,
        clip=ClipConfig(frames=32, fps=12.5, size=224, samples=122_880, short="repeat"),
        model=replace(model, video=replace(model.video, keep=0.5)),
        classify=ClassifyConfig(modalities=("video",), dropout=0.5, label_smoothing=0.1),
        optim=OptimConfig(
            name="adamw",
            learning_rate=5e-4,
            end_learning_rate=0.0,
            warmup_steps=500,
            decay="half_cosine",
            weight_decay=0.05,
            clip_norm=1.0,
            layer_decay=0.75,
        ),
        evaluate=EvaluateConfig(windows=10, crops=3, batch_size=8),
        checkpoint=CheckpointConfig(every=1_000, best="top_1"),
    )
