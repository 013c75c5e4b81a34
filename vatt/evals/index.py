"""An index: embeddings of media files, window by window, as one Parquet file that any tool can read.

One row a window, modality and space, in the order of path, modality, space, start:

    path      string             absolute; of a member of an archive, ARCHIVE: MEMBER
    modality  string             video, audio or text
    space     string             va or vt; what lies in one space compares by dot product
    start     double             seconds from the start of the file
    end       double
    vector    list of float32    of unit length; widths differ by space
    text      string or null     the caption, where the modality is text
    model     string             the model's hash; embeddings of two models do not compare

The metadata of the schema hold vatt.version (of this layout), vatt.model, vatt.run, vatt.step, vatt.seconds (how long a
window is) and vatt.hop (seconds from the start of a window to that of the next).
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vatt.errors import DataError

VERSION = "1"
MODALITIES = ("audio", "text", "video")  # in the order of the rows
SPACES = ("va", "vt")
ROWS = 8192  # a row group, so that the bytes do not depend on how rows came

FIELDS = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("space", pa.string(), nullable=False),
        pa.field("start", pa.float64(), nullable=False),
        pa.field("end", pa.float64(), nullable=False),
        pa.field("vector", pa.list_(pa.float32()), nullable=False),
        pa.field("text", pa.string()),
        pa.field("model", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class About:
    """What made an index.

    run, step: the checkpoint.
    model: its hash (`vatt.evals.pretrained.Pretrained.hash`).
    seconds, hop: how long a window is, and from the start of one to that of the next (seconds).
    """

    run: str
    step: int
    model: str
    seconds: float
    hop: float

    @property
    def schema(self) -> pa.Schema:
        return FIELDS.with_metadata(
            {
                "vatt.version": VERSION,
                "vatt.model": self.model,
                "vatt.run": self.run,
                "vatt.step": str(self.step),
                "vatt.seconds": repr(float(self.seconds)),
                "vatt.hop": repr(float(self.hop)),
            }
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """An index in memory.

    run, model, step, seconds, hop: as in `About`.
    paths, modality, space, text: [N] arrays of strings; text has None where the modality is not text.
    start, end: [N] float64, seconds.
    vectors: space -> (rows [M] int64, the rows that lie in it; embeddings [M E] float32).
    """

    run: str
    model: str
    step: int
    seconds: float
    hop: float
    paths: np.ndarray
    modality: np.ndarray
    space: np.ndarray
    start: np.ndarray
    end: np.ndarray
    text: np.ndarray
    vectors: dict[str, tuple[np.ndarray, np.ndarray]]

    def __len__(self) -> int:
        return len(self.paths)


def batch(
    about: About,
    path: str,
    modality: str,
    space: str,
    *,
    start: np.ndarray,
    end: np.ndarray,
    vectors: np.ndarray,
    text: Iterable[str] | None = None,
) -> pa.RecordBatch:
    """The rows of one file, modality and space. start, end: [W]; vectors: [W E]; text: W captions."""
    W, E = vectors.shape
    columns: list[Any] = [
        pa.array([path] * W, pa.string()),
        pa.array([modality] * W, pa.string()),
        pa.array([space] * W, pa.string()),
        pa.array(start, pa.float64()),
        pa.array(end, pa.float64()),
        pa.ListArray.from_arrays(
            np.arange(W + 1, dtype=np.int32) * E, pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
        ),
        pa.nulls(W, pa.string()) if text is None else pa.array(list(text), pa.string()),
        pa.DictionaryArray.from_arrays(np.zeros(W, np.int32), pa.array([about.model])),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=about.schema)


def concatenated(about: About, batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """All rows in one batch."""
    if not batches:
        none = np.zeros(0)
        return batch(about, "", "", "", start=none, end=none, vectors=np.zeros((0, 0), np.float32))
    return pa.Table.from_batches(batches, about.schema).combine_chunks().to_batches()[0]


def write_index(path: str | os.PathLike, about: About, batches: Iterable[pa.RecordBatch]) -> int:
    """Writes rows in the order in which they come; they should be sorted as told above. The same rows give the same
    bytes, however they are divided among batches. Returns how many there were."""
    count = 0
    repeated: Any = ["path", "modality", "space", "text", "model"]
    with pq.ParquetWriter(path, about.schema, compression="zstd", use_dictionary=repeated) as writer:
        for table in _regular(batches, about.schema):
            writer.write_table(table, row_group_size=ROWS)
            count += table.num_rows
    return count


def _regular(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows in tables of ROWS rows; the last has what is left."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for part in batches:
        held.append(part)
        rows += part.num_rows
        while rows >= ROWS:
            table = pa.Table.from_batches(held, schema)
            yield table.slice(0, ROWS).combine_chunks()
            held = table.slice(ROWS).to_batches()
            rows -= ROWS
    if rows:
        yield pa.Table.from_batches(held, schema).combine_chunks()


def read_index(path: str | os.PathLike) -> Index:
    """Reads an index whole. Raises DataError if it is missing, is no index, or of another version."""
    try:
        schema = pq.read_schema(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such index; make one with vatt embed RUN FILE ... -o {Path(path).name}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error}); make it anew with vatt embed") from error
    found = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    version = found.get("vatt.version")
    if version != VERSION or set(FIELDS.names) - set(schema.names):
        what = "Parquet, but no index that vatt embed made" if version is None else f"an index of version {version}"
        raise DataError(f"{path}: {what}; this version of vatt reads version {VERSION}: make it anew with vatt embed")
    try:
        table = pq.read_table(path, columns=[name for name in FIELDS.names if name != "model"])
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: is damaged ({error}); make it anew with vatt embed") from error
    strings = {name: _strings(table[name]) for name in ("path", "modality", "space", "text")}
    vectors = {}
    for space in SPACES:
        rows = np.flatnonzero(strings["space"] == space)
        if len(rows):
            chunks = table["vector"].take(pa.array(rows)).chunks
            flat = np.concatenate([chunk.flatten().to_numpy() for chunk in chunks])
            if not np.isfinite(flat).all() or flat.size % len(rows):
                raise DataError(f"{path}: its vectors of space {space} are damaged; make it anew with vatt embed")
            vectors[space] = rows, flat.reshape(len(rows), -1)
    return Index(
        run=found["vatt.run"],
        model=found["vatt.model"],
        step=int(found["vatt.step"]),
        seconds=float(found["vatt.seconds"]),
        hop=float(found["vatt.hop"]),
        paths=strings["path"],
        modality=strings["modality"],
        space=strings["space"],
        start=table["start"].to_numpy(),
        end=table["end"].to_numpy(),
        text=strings["text"],
        vectors=vectors,
    )


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return np.array([*column.to_pylist()], object)


def write_safetensors(path: str | os.PathLike, index: Index) -> None:
    """Writes an index as tensors: of each space `va`, `vt` [M E] float32, with `va.start` and `va.end` [M] (seconds),
    and `va.path`, `va.modality` and `va.text` [M], which are rows of the lists `paths`, `modalities` and `texts` (-1:
    no text). These lists, and what made the index, are JSON under the key `vatt` of the metadata."""
    from safetensors.numpy import save_file

    paths, path_of = np.unique(index.paths, return_inverse=True)
    said = np.array([text or "" for text in index.text], object)
    texts, text_of = np.unique(said, return_inverse=True)
    text_of = np.where([text is None for text in index.text], -1, text_of)
    modality_of = np.array([MODALITIES.index(modality) for modality in index.modality])
    tensors = {}
    for space, (rows, vectors) in index.vectors.items():
        tensors |= {
            space: vectors,
            f"{space}.start": index.start[rows],
            f"{space}.end": index.end[rows],
            f"{space}.path": path_of[rows].astype(np.int64),
            f"{space}.modality": modality_of[rows].astype(np.int64),
            f"{space}.text": text_of[rows].astype(np.int64),
        }
    about = {name: getattr(index, name) for name in ("run", "step", "model", "seconds", "hop")}
    lists = {"paths": paths.tolist(), "modalities": MODALITIES, "texts": texts.tolist()}
    # One key: several would come in another order every time.
    save_file(tensors, path, metadata={"vatt": json.dumps({"version": VERSION} | about | lists, ensure_ascii=False)})
