"""Times what the device does to raw clips (resize, RGB, flip, colour, noise) beside the step that it is part of.

    python tools/bench_transforms.py --preset tiny --batch-size 64

The step runs on raw clips and on clips made ready before, in turn with the transforms alone: read the ratios. Memory is
what XLA plans for temporaries.
"""

import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.bench_step import interleave, ratio, spread
from vatt import sharding
from vatt.config import AugmentConfig, ClipConfig, Config, ModelConfig
from vatt.memory import keep_freed_memory
from vatt.presets import PRESETS, tiny_clip
from vatt.tasks.pretrain import Pretrain
from vatt.train.step import make_state, make_step
from vatt.transforms import to_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    preset: Literal["tiny", "bbs", "mbs", "lbs", "ma_medium"] = "tiny"  # a model of vatt.presets
    dtype: Literal["float32", "bfloat16"] = "float32"  # that the towers compute in
    batch_size: int = 64  # clips a step
    rounds: int = 10  # times that each contestant runs
    augment: AugmentConfig = dataclasses.field(default_factory=lambda: AugmentConfig(audio_noise=0.01))


def main(args: Args) -> None:
    keep_freed_memory()
    model: ModelConfig = dataclasses.replace(PRESETS[args.preset](), dtype=args.dtype)
    clip = tiny_clip() if args.preset == "tiny" else ClipConfig()
    cfg = Config(batch_size=args.batch_size, clip=clip, model=model, augment=args.augment)
    mesh, task, key = sharding.make_mesh(cfg.mesh), Pretrain(cfg), jax.random.key(0)
    with jax.set_mesh(mesh):
        raw = sharding.put_batch(raw_batch(cfg), mesh)
        transform = jax.jit(lambda batch, key: to_model(batch, cfg, key)).lower(raw, key).compile()
        ready = transform(raw, key)
        state = make_state(cfg, task, mesh)
        steps = {
            "step on raw clips": make_step(cfg, task, mesh).compiled(state, raw),
            "step on clips made ready": make_step(cfg, task, mesh).compiled(state, ready),
        }
        holder = [state]

        def run(step, batch) -> None:
            holder[0], metrics = step(holder[0], batch)
            jax.block_until_ready((holder[0], metrics))

        contestants = {"transforms alone": lambda: jax.block_until_ready(transform(raw, key))}
        for (name, step), batch in zip(steps.items(), (raw, ready), strict=True):
            contestants[name] = lambda step=step, batch=batch: run(step, batch)
        seconds = interleave(contestants, args.rounds)

    device = f"{mesh.size} x {mesh.devices.flat[0].device_kind}"
    table = Table(title=f"{args.preset}, batch {args.batch_size}, {args.dtype}, {device}")
    for column in ("", "ms a batch", "middle half", "share of the raw step", "MB of temporaries"):
        table.add_column(column, justify="right" if column else "left")
    programs = (transform, *(step.jitted for step in steps.values()))
    for (name, times), compiled in zip(seconds.items(), programs, strict=True):
        share = f"{ratio(times, seconds['step on raw clips']):.1%}"
        analysis = compiled.memory_analysis()
        memory = f"{analysis.temp_size_in_bytes / 1e6:.0f}" if analysis else "?"
        table.add_row(name, f"{1e3 * statistics.median(times):.1f}", spread(times), share, memory)
    Console().print(table)


def raw_batch(cfg: Config) -> dict[str, np.ndarray]:
    """Noise, cut at boxes of half the canvas and more, laid out as the stream hands it over."""
    r, clip, B, P = np.random.default_rng(0), cfg.clip, cfg.batch_size, cfg.canvas
    side = r.integers(P // 2, P, (B, 2), endpoint=True) if cfg.clip.size != P else np.full((B, 2), P)
    return {
        "video": r.integers(0, 256, (B, clip.frames, P * 3 // 2, P), dtype=np.uint8),
        "video_box": np.concatenate([r.integers(0, P - side, endpoint=True), side], axis=1).astype(np.float32),
        "video_colour": r.integers(0, 4, B, dtype=np.int32),
        "video_mask": np.ones(B, bool),
        "audio": r.integers(-(2**15), 2**15, (B, clip.samples), dtype=np.int16),
        "audio_mask": np.ones(B, bool),
        "text": r.integers(1, cfg.model.text.vocab_size, (B, clip.candidates, clip.words), dtype=np.int32),
        "text_mask": np.ones((B, clip.candidates), bool),
    }


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
