"""VATT on demo media, in minutes on two CPU cores.

Source: ours. The shape of VATT (arXiv 2104.11178) at toy size, on clips that `vatt data demo` makes: a shape moves over
a noisy background while a sound tells its kind, colour and motion, and captions tell some of it, some of the time.
Cost: four to five minutes on 2 CPU cores, with 1.3 M parameters.
Expected: see the table in README.md; chance is R@1 0.6 %, R@10 6.2 %.
Command: vatt pretrain experiments/demo.py
"""

from vatt.config import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    LogConfig,
    OptimConfig,
)
from vatt.presets import tiny, tiny_clip


def get_config() -> Config:
    return Config(
        run="runs/demo",
        steps=450,
        batch_size=64,
        clip=tiny_clip(),
        # Captions and sounds tell colour and direction, so neither may change; the shape lies within the centre.
        augment=AugmentConfig(crop="centre", flip=0.0, colour=0.0, resize="host"),
        model=tiny(),
        optim=OptimConfig(learning_rate=1e-3, end_learning_rate=1e-4, warmup_steps=50, clip_norm=1.0),
        data=DataConfig(sources=("demo:data/demo/train",), worker_kind="process"),
        evaluate=EvaluateConfig(source="demo:data/demo/heldout.csv", every=150, windows=2),
        checkpoint=CheckpointConfig(every=150),
        log=LogConfig(every=25),
    )
