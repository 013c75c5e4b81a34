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

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

VERSION = "1"
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
