r"""VATT's audio tower on AudioSet, with the paper's recipe: 6.4 s of sound at 24 kHz.

Source: Akbari et al. 2021 (arXiv 2104.11178), appendix A.3; the sum over classes, the weights of clips, DropToken in
training and the clipping of the towers' gradient from the released code. Segments shorter than a clip are repeated, as
it does, so that none is missing from the figures.
Cost: 50,000 steps of batch 1,024.
Expected: mAP 39.4 %, AUC 97.1 %, mean d' 2.895 (table 2; d' of the mean AUC is 2.68). Not reproduced by us yet.
Command: vatt finetune experiments/finetune_audioset.py --init runs/vatt_bbs \
    --data.sources audioset:DIR@train --evaluate.source audioset:DIR@eval
"""

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
    return FinetuneConfig(
        run="runs/finetune_audioset",
        steps=50_000,
        batch_size=1_024,
        # as many samples as in pretraining, twice as long: the positions are the same
        clip=ClipConfig(frames=4, fps=1.0, sample_rate=24_000, samples=153_600, short="repeat"),
        model=bbs(),
        classify=ClassifyConfig(modalities=("audio",), labels="multi", mixup=5.0, balance="batch"),
        optim=OptimConfig(
            name="sgd",
            learning_rate=0.2,
            end_learning_rate=0.0,
            warmup_steps=5_000,
            decay="half_cosine",
            clip_norm=0.75,
            clip="towers",
        ),
        evaluate=EvaluateConfig(windows=4, batch_size=32),
        checkpoint=CheckpointConfig(every=5_000, keep=10, best="mAP"),
    )
