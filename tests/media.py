"""Demo media and small configurations that several test files share."""

from dataclasses import replace
from pathlib import Path

from vatt.config import Config, load_experiment

ROOT = Path(__file__).parents[1]


def small_demo(folder: Path, run: Path, **changes) -> Config:
    """The demo experiment, shrunk to seconds: one narrow layer a tower, a few clips a step."""
    cfg = load_experiment(ROOT / "experiments" / "demo.py")
    narrow = replace(cfg.model.video.encoder, depth=1, width=32, mlp_width=64, heads=2)
    model = replace(
        cfg.model,
        video=replace(cfg.model.video, encoder=narrow),
        audio=replace(cfg.model.audio, encoder=narrow),
        text=replace(cfg.model.text, encoder=replace(narrow, style="t5")),
    )
    return replace(
        cfg,
        run=str(run),
        steps=6,
        batch_size=16,
        model=model,
        data=replace(cfg.data, sources=(str(folder / "train"),), worker_kind="thread"),
        evaluate=replace(cfg.evaluate, source=str(folder / "heldout"), every=0, batch_size=16),
        checkpoint=replace(cfg.checkpoint, every=2),
        log=replace(cfg.log, every=1, tensorboard=False),
        optim=replace(cfg.optim, warmup_steps=2),
        **changes,
    )
