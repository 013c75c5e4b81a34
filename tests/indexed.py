"""Small indexes, and a tiny run that made one, for the tests of search and of its page."""

import functools
from pathlib import Path

import numpy as np
from rich.console import Console

from tests.media import small_demo
from vatt.evals.index import About, batch, write_index
from vatt.evals.pretrained import Pretrained, load
from vatt.train import loop


def write_rows(path: Path, rows: list[dict], **about) -> Path:
    """An index of these rows: path, modality, space, start, end, vector, and text if any."""
    given = About(**{"run": "nowhere", "step": 6, "model": "0" * 16, "seconds": 1.0, "hop": 1.0} | about)
    batches = [
        batch(
            given,
            str(row["path"]),
            row["modality"],
            row["space"],
            start=np.array([row["start"]]),
            end=np.array([row["end"]]),
            vectors=np.asarray(row["vector"])[None],
            text=[row["text"]] if "text" in row else None,
        )
        for row in rows
    ]
    write_index(path, given, batches)
    return path


def file_rows(model: Pretrained, path: Path) -> list[dict]:
    """A file's windows, by modality, space and start."""
    rows = []
    for modality, windows in (("audio", model.embed_audio(path)), ("video", model.embed_video(path))):
        for space in ("va", "vt"):
            vectors = getattr(windows, space)
            if vectors is None:
                continue
            for start, end, vector in zip(windows.start, windows.end, vectors, strict=True):
                where = {"path": path.absolute(), "modality": modality, "space": space}
                rows.append(where | {"start": float(start), "end": float(end), "vector": vector})
    return rows


@functools.cache
def tiny_index(media: Path) -> tuple[Path, Pretrained]:
    """An index of the held-out demo clips by a run of six steps, and that run's model."""
    run = media / "tiny run"
    loop.pretrain(small_demo(media, run), Console(quiet=True))
    model = load(run)
    rows = [row for path in sorted((media / "heldout").glob("*.mp4")) for row in file_rows(model, path)]
    about = {"model": model.hash, "run": str(run.absolute()), "step": model.step, "seconds": model.cfg.clip.seconds}
    return write_rows(media / "tiny.parquet", rows, **about), model


def unit_rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    """[N E] float32 of unit length."""
    x = np.random.default_rng(seed).standard_normal((count, width), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)
