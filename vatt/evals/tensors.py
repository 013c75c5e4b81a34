"""An index as safetensors, written while it is read: its vectors are never all in memory."""

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from vatt.evals.index import VERSION
from vatt.evals.rows import StoredIndex

NAMES = {"<f4": "F32", "<f8": "F64", "<i8": "I64"}  # of dtypes, in the format


def write_safetensors(path: str | os.PathLike, index: StoredIndex) -> None:
    """Writes an index as tensors: of each space `va`, `vt` [M E] float32, with `va.start` and `va.end` [M] (seconds),
    and `va.path`, `va.modality` and `va.text` [M], which are rows of the lists `paths`, `modalities` and `texts` (-1:
    no text). These lists, and what made the index, are JSON under the key `vatt` of the metadata.

    The format: how long the header is, in 8 bytes; the header, in JSON; the tensors, one after the other.
    """
    said = index.text.to_pylist()
    texts = sorted({text for text in said if text is not None})
    number = {text: i for i, text in enumerate(texts)}
    columns = {
        "start": index.start.astype("<f8"),
        "end": index.end.astype("<f8"),
        "path": index.file.astype("<i8"),
        "modality": index.modality.astype("<i8"),
        "text": np.array([-1 if text is None else number[text] for text in said], "<i8"),
    }
    about: dict[str, Any] = {"version": VERSION}
    about |= {name: getattr(index, name) for name in ("run", "step", "model", "seconds", "hop")}
    about |= {"paths": index.files, "modalities": index.modalities, "texts": texts}
    # One key: several would come in another order every time.
    header: dict[str, Any] = {"__metadata__": {"vatt": json.dumps(about, ensure_ascii=False)}}
    end = 0
    for space in sorted(index.spaces):
        rows = len(index.rows(_pairs(index, space)))
        shapes = {f"{space}.{name}": (column.dtype.str, [rows]) for name, column in columns.items()}
        shapes[space] = "<f4", [rows, next(_vectors(index, space)).shape[1]]
        for name, (dtype, shape) in shapes.items():
            begin, end = end, end + np.dtype(dtype).itemsize * int(np.prod(shape))
            header[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for space in sorted(index.spaces):
            rows = index.rows(_pairs(index, space))
            for column in columns.values():
                file.write(column[rows].tobytes())
            for vectors in _vectors(index, space):
                file.write(vectors.astype("<f4").tobytes())


def _pairs(index: StoredIndex, space: str) -> list[tuple[str, str]]:
    return [pair for pair in index.pairs if pair[0] == space]


def _vectors(index: StoredIndex, space: str) -> Iterator[np.ndarray]:
    return (vectors for _, vectors in index.blocks(_pairs(index, space)))
