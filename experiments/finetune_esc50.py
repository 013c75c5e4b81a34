r"""VATT's audio tower on one fold of ESC-50, all of it trained.

Source: ours; the paper measures frozen features there (vatt evaluate RUN --probe esc50). AdamW with layer-wise decay,
as is usual for small sets (BEiT, Bao et al. 2021).
Cost: 2,000 steps of batch 64.
Expected: not measured yet.
Command: vatt finetune experiments/finetune_esc50.py --init runs/vatt_bbs \
    --data.sources esc50:DIR@train1 --evaluate.source esc50:DIR@fold1
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
        run="runs/finetune_esc50",
        steps=2_000,
        batch_size=64,
        # 4.9966 s, a whole number of patches; pretraining's 3.2 s have fewer, so positions are resampled
        clip=ClipConfig(frames=4, fps=1.0, sample_rate=48_000, samples=239_744),
        model=bbs(),
        classify=ClassifyConfig(modalities=("audio",), mixup=0.4),
        optim=OptimConfig(
            name="adamw",
            learning_rate=5e-4,
            end_learning_rate=0.0,
            warmup_steps=100,
            decay="half_cosine",
            weight_decay=0.05,
            clip_norm=1.0,
            layer_decay=0.75,
        ),
        evaluate=EvaluateConfig(windows=1, batch_size=32),
        checkpoint=CheckpointConfig(every=500, best="top_1"),
    )
