"""Small indexes, and a tiny run that made one, for the tests of search and of its page."""

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from tests.media import small_demo
from vatt.evals.pretrained import Pretrained, load
from vatt.train import loop


def write_rows(path: Path, rows: list[dict], **about) -> Path:
    """An index of these rows (modality, space, path, start, end, vector, and text if any), laid out as vatt embed does."""
    about = {"version": "1", "model": "0" * 16, "run": "nowhere", "step": "6", "seconds": "1.0", "hop": "1.0"} | about
    model = pa.array([about["model"]] * len(rows)).dictionary_encode()
    columns = {
        "path": pa.array([str(row["path"]) for row in rows], pa.string()),
        "modality": pa.array([row["modality"] for row in rows], pa.string()),
        "space": pa.array([row["space"] for row in rows], pa.string()),
        "start": pa.array([row["start"] for row in rows], pa.float64()),
        "end": pa.array([row["end"] for row in rows], pa.float64()),
        "vector": pa.array([list(map(float, row["vector"])) for row in rows], pa.list_(pa.float32())),
        "text": pa.array([row.get("text") for row in rows], pa.string()),
        "model": model,
    }
    metadata = {f"vatt.{name}": str(value) for name, value in about.items()}
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=max(1, len(rows) // 3))
    return path


def file_rows(model: Pretrained, path: Path) -> list[dict]:
    """A file's windows, by modality, space and start."""
    rows = []
    for modality, windows in (("audio", model.embed_audio(path)), ("video", model.embed_video(path))):
        for space in ("va", "vt"):
            vectors = getattr(windows, space)
            for start, end, vector in zip(windows.start, windows.end, vectors if vectors is not None else ()):
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
    about = {"model": model.hash, "run": run.absolute(), "step": model.step, "seconds": model.cfg.clip.seconds}
    return write_rows(media / "tiny.parquet", rows, **about), model


def unit_rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    """[N E] float32 of unit length."""
    x = np.random.default_rng(seed).standard_normal((count, width), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)
