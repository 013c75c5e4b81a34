"""Rebuilds the batch that a step saw: the stream is a function of the step, and so is what the device did to it."""

import json
import re
from pathlib import Path

import jax
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from vatt import transforms
from vatt.data.items import Source
from vatt.data.media.canvas import write_clip
from vatt.data.show import draw
from vatt.data.sources import open_source
from vatt.errors import CheckpointError
from vatt.progress import bar
from vatt.tasks.pretrain import AUGMENTATION
from vatt.train.checkpoint import check_sources, read_config, read_tokenizer
from vatt.train.loop import open_stream
from vatt.train.step import step_key

SHOWN = 24  # clips on the contact sheet


def replay(run: str | Path, step: int, out: str | Path, console: Console, *, write: bool = True) -> Path | None:
    """Prints which clips step `step` (from 1) of a run saw and, if `write`, leaves them in `out` as media.

    Raises:
      CheckpointError: not a run, no such step, or sources that have changed since.
      DataError: a source that cannot be opened.
    """
    cfg = read_config(run)
    if not 1 <= step <= cfg.steps:
        raise CheckpointError(f"{run} has steps 1 to {cfg.steps}; there is no step {step}")

    def opened(name: str) -> Source:
        with bar(console, name) as progress:
            return open_source(name, seconds=cfg.clip.seconds, workers=cfg.data.workers, progress=progress)

    sources = [opened(name) for name in cfg.data.sources]
    check_sources(run, sources)
    tokenizer = read_tokenizer(run)
    stream = open_stream(cfg, sources, tokenizer)
    if not write:
        table = Table("", "source", "clip", box=box.SIMPLE_HEAD)
        for row, (number, index) in enumerate(stream.drawn(step - 1)):
            table.add_row(str(row), sources[number].name, sources[number][index].id)
        console.print(table, highlight=False)
        return None

    batch = stream.batch(step - 1)
    events = batch.pop("events")
    lists = {name: batch.pop(name) for name in ("ids", "starts", "sources")}
    seen = jax.device_get(
        transforms.to_model(batch, cfg, jax.random.fold_in(step_key(cfg.seed, step - 1), AUGMENTATION))
    )
    folder = Path(out) if out else Path(run) / "replay" / str(step)
    folder.mkdir(parents=True, exist_ok=True)
    examples = []
    with (folder / "clips.jsonl").open("w", encoding="utf-8") as lines:
        for row, (name, start, number) in enumerate(zip(*lists.values(), strict=True)):
            captions = [tokenizer.decode(ids) for ids in batch["text"][row][batch["text_mask"][row]]]
            rgb = None
            if batch["video_mask"][row]:
                rgb = np.clip((seen["video"][row].astype(np.float32) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)
            audio = batch["audio"][row] if batch["audio_mask"][row] else None
            file = f"{row:04d}-{re.sub(r'[^0-9A-Za-z._-]+', '_', name)[-80:]}.mp4"
            write_clip(folder / file, rgb, cfg.clip.fps, audio, cfg.clip.sample_rate)
            line = {"file": file, "source": sources[number].name, "id": name, "start": start, "captions": captions}
            line["events"] = [event.reason for event in events[row]]
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            title = f"{row}  {name}  {start:.2f} s"
            examples.append({"rgb": rgb, "audio": audio, "captions": captions, "title": title})
            console.print(f"{row:4d}  {sources[number].name}  {name}  from {start:.2f} s", highlight=False)
    draw(examples[:SHOWN], folder / "sheet.png")
    console.print(f"{folder}: {len(examples)} clips, clips.jsonl and sheet.png")
    return folder
