"""Small indexes, and a tiny run that made one, for the tests of search and of its page."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tests.media import small_demo
from vatt import sharding
from vatt.config import Config
from vatt.data.sources import open_source
from vatt.evals.index import About, batch, write_index
from vatt.evals.pretrained import Pretrained, load
from vatt.tasks.pretrain import Pretrain
from vatt.train.checkpoint import Checkpoints, open_run, tokenizer_text
from vatt.train.pretrain import open_tokenizer
from vatt.train.step import make_state


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


@dataclass(frozen=True, eq=False)
class Whole:
    """All rows of an index. paths, modality, space, start, end, text: [N]; vectors: rows and [M E], by space."""

    paths: np.ndarray
    modality: np.ndarray
    space: np.ndarray
    start: np.ndarray
    end: np.ndarray
    text: np.ndarray
    vectors: dict[str, tuple[np.ndarray, np.ndarray]]


def read_whole(path: Path) -> Whole:
    """An index, by pyarrow alone."""
    rows = pq.read_table(path).to_pylist()
    columns = {
        name: np.array([row[name] for row in rows], None if name in ("start", "end") else object)
        for name in ("path", "modality", "space", "start", "end", "text")
    }
    vectors = {}
    for space in ("va", "vt"):
        chosen = np.flatnonzero(columns["space"] == space)
        vectors[space] = chosen, np.array([rows[i]["vector"] for i in chosen], np.float32)
    return Whole(columns.pop("path"), **columns, vectors=vectors)


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


def untrained_run(cfg: Config) -> Path:
    """The run that `cfg` describes, as it would be before the first step: no step need be compiled."""
    mesh = sharding.make_mesh(cfg.mesh)
    sources = [open_source(name, seconds=cfg.clip.seconds) for name in cfg.data.sources]
    run = Path(open_run(cfg, sources, tokenizer_text(open_tokenizer(cfg, sources))))
    with Checkpoints(run, cfg.checkpoint) as checkpoints:
        checkpoints.save(1, make_state(cfg, Pretrain(cfg), mesh))
    return run


@functools.cache
def tiny_index(media: Path) -> tuple[Path, Pretrained]:
    """An index of six held-out demo clips by an untrained model, and that model."""
    run = untrained_run(small_demo(media, media / "tiny run"))
    model = load(run)
    rows = [row for path in sorted((media / "heldout").glob("*.mp4"))[:6] for row in file_rows(model, path)]
    about = {"model": model.hash, "run": str(run.absolute()), "step": model.step, "seconds": model.cfg.clip.seconds}
    return write_rows(media / "tiny.parquet", rows, **about), model


def unit_rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    """[N E] float32 of unit length."""
    x = np.random.default_rng(seed).standard_normal((count, width), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)
