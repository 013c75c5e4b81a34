"""VATT-MBS: Medium video, Base audio, Small text, with the paper's recipe.

Source: Akbari et al. 2021 (arXiv 2104.11178), sections 4.1, A.2.1 and A.2.4.
Cost: 500,000 steps of batch 2,048; the paper's MBS took under 3 days on 256 TPU v3.
Expected: zero-shot R@10 45.5 % on YouCook2, 29.7 % on MSR-VTT (table 4);
the paper's, after HowTo100M and AudioSet. Not reproduced by us yet.
Command: vatt pretrain experiments/vatt_mbs.py --data.sources FOLDER [FOLDER ...] --evaluate.source FOLDER

`vatt.presets.released(get_config())` gives the functions of the released code instead of the paper's.
"""

from vatt.config import CheckpointConfig, Config
from vatt.presets import mbs


def get_config() -> Config:
    # Clip, augmentation, loss and optimiser are the paper's by default: 32 frames at 10 fps of 224x224, 153,600 samples
    # at 48 kHz, 5 candidate captions of 16 words; Inception crops, flips, changes of colour with probability 0.8; Adam,
    # 1e-4 to 5e-5, 10,000 steps of warm-up.
    return Config(
        run="runs/vatt_mbs",
        steps=500_000,
        batch_size=2_048,
        model=mbs(),
        checkpoint=CheckpointConfig(every=10_000),
    )
