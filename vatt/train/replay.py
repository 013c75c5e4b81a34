"""Rebuilds the batch that a step saw: the stream is a function of the step, and so is what the device did to it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from vatt.config import Config, FinetuneConfig, RunConfig
from vatt.data.items import Source
from vatt.data.labels import labelled, with_labels
from vatt.data.media.canvas import write_clip
from vatt.data.pipeline import TrainStream
from vatt.data.show import draw
from vatt.data.sources import BOTH, open_source
from vatt.errors import CheckpointError
from vatt.progress import bar
from vatt.tasks.pretrain import AUGMENTATION
from vatt.train import finetune, pretrain
from vatt.train.checkpoint import check_sources, read_classes_of, read_config, read_tokenizer
from vatt.train.step import step_key
from vatt.transforms import to_model

SHOWN = 24  # clips on the contact sheet
Said = Callable[[dict, int], list[str]]  # (batch, row): what is said of its clip


def replay(run: str | Path, step: int, console: Console, *, rows: int, out: str | Path = "") -> Path:
    """Writes the first `rows` clips of the batch that step `step` (from 1) of a run saw, as the model saw them; those
    of a fine-tuning run before mixup.

    Returns:
      The folder that holds them: `out`, or RUN/replay/STEP. clips.jsonl tells of each its source, id, start (seconds),
      captions (or classes) and what it lacked; sheet.png shows them.

    Raises:
      CheckpointError: not a run, no such step, or sources that have changed since.
      DataError: a source that cannot be opened.
    """
    cfg = read_config(run)
    if not 1 <= step <= cfg.steps:
        raise CheckpointError(f"{run} has steps 1 to {cfg.steps}; there is no step {step}")

    seen = cfg.classify.modalities if isinstance(cfg, FinetuneConfig) else BOTH

    def opened(name: str) -> Source:
        with bar(console, name) as progress:
            seconds = cfg.clip.of(seen).needed
            return open_source(name, seconds=seconds, modalities=seen, workers=cfg.data.workers, progress=progress)

    sources = [opened(name) for name in cfg.data.sources]
    stream, said = _finetuned(cfg, run, sources) if isinstance(cfg, FinetuneConfig) else _pretrained(cfg, run, sources)
    check_sources(run, stream.sources)
    batch = stream.batch(step - 1, rows=rows)
    folder = Path(out) if out else Path(run) / "replay" / str(step)
    folder.mkdir(parents=True, exist_ok=True)
    examples: list[dict[str, Any]] = []
    with (folder / "clips.jsonl").open("w", encoding="utf-8") as lines:
        for row, (name, start, number) in enumerate(zip(batch["ids"], batch["starts"], batch["sources"], strict=True)):
            rgb, audio = as_seen(cfg, batch, row, step)
            captions = said(batch, row)
            file = f"{row:04d}-{re.sub(r'[^0-9A-Za-z._-]+', '_', name)[-80:]}.mp4"
            if rgb is not None or audio is not None:
                write_clip(folder / file, rgb, cfg.clip.fps, audio, cfg.clip.sample_rate)
            line = {"file": file, "source": sources[number].name, "id": name, "start": start, "captions": captions}
            line["events"] = [event._asdict() for event in batch["events"][row]]
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            title = f"{row}  {name}  {start:.2f} s"
            examples.append({"rgb": rgb, "audio": audio, "captions": captions, "title": title})
            replaced = "".join(f", in place of {e.id}" for e in batch["events"][row] if e.reason == "undecodable")
            console.print(f"{row:4d}  {sources[number].name}  {name}  from {start:.2f} s{replaced}", highlight=False)
    draw(examples[:SHOWN], folder / "sheet.png", heading=f"{run}: step {step}")
    console.print(f"{folder}: {len(examples)} of {cfg.batch_size} clips, clips.jsonl and sheet.png", highlight=False)
    return folder


def _pretrained(cfg: RunConfig, run: str | Path, sources: list[Source]) -> tuple[TrainStream, Said]:
    assert isinstance(cfg, Config)
    tokenizer = read_tokenizer(run)

    def said(batch: dict, row: int) -> list[str]:
        return [tokenizer.decode(ids) for ids in batch["text"][row][batch["text_mask"][row]]]

    return pretrain.open_stream(cfg, sources, tokenizer), said


def _finetuned(cfg: FinetuneConfig, run: str | Path, sources: list[Source]) -> tuple[TrainStream, Said]:
    classes, how = read_classes_of(run), cfg.classify
    sources = [labelled(with_labels(source), classes, how.labels, how.modalities) for source in sources]

    def said(batch: dict, row: int) -> list[str]:
        return [classes[number] for number in np.flatnonzero(batch["label"][row])]

    return finetune.open_stream(cfg, sources, classes), said


def as_seen(cfg: RunConfig, batch: dict, row: int, step: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What the model saw and heard of a row: [T H W 3] uint8 and [S] int16, each None where it is masked."""
    names = ("video", "video_box", "video_colour", "video_mask", "audio", "audio_mask")
    key = jax.random.fold_in(step_key(cfg.seed, step - 1), AUGMENTATION)
    there = {name: batch[name][row : row + 1] for name in names if name in batch}
    seen = jax.device_get(to_model(there, cfg, key, first=row))
    rgb, audio = None, None
    if there.get("video_mask", False):
        rgb = np.rint((seen["video"][0].astype(np.float32) + 1) * 127.5).clip(0, 255).astype(np.uint8)
    if there.get("audio_mask", False):
        audio = np.rint(seen["audio"][0] * 32768).clip(-32768, 32767).astype(np.int16)
    return rgb, audio
