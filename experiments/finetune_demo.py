"""A classifier of demo media from ten clips a class, in a minute on two CPU cores.

Source: ours. 40 classes such as "red circle"; what they look like was never labelled in pretraining.
Cost: a minute on 2 CPU cores, after the demo's pretraining.
Expected: see the table in README.md; chance is 2.5 %.
Command: vatt finetune experiments/finetune_demo.py --init runs/demo
"""

from vatt.config import (
    AugmentConfig,
    CheckpointConfig,
    ClassifyConfig,
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    LogConfig,
    OptimConfig,
)
from vatt.presets import tiny, tiny_clip


def get_config() -> FinetuneConfig:
    return FinetuneConfig(
        run="runs/finetune_demo",
        steps=150,
        batch_size=32,
        clip=tiny_clip(),
        augment=AugmentConfig(crop="centre", flip=0.0, colour=0.0, resize="host"),
        model=tiny(),
        classify=ClassifyConfig(modalities=("video",), label_smoothing=0.1),
        optim=OptimConfig(
            name="adamw",
            learning_rate=1e-3,
            end_learning_rate=0.0,
            warmup_steps=20,
            decay="half_cosine",
            weight_decay=0.05,
            clip_norm=1.0,
            layer_decay=0.75,
        ),
        data=DataConfig(sources=("demo:data/demo/few.csv",), worker_kind="process"),
        evaluate=EvaluateConfig(source="demo:data/demo/heldout.csv", windows=2),
        checkpoint=CheckpointConfig(every=150, best=""),
        log=LogConfig(every=25),
    )
