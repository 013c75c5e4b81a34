"""The index that `vatt embed` writes, read: its vectors need not be in memory, and the rest of it is small.

Rows are named by their number in the file, throughout search.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vatt.errors import DataError
from vatt.evals.index import FIELDS, VERSION

BATCH = 1 << 16  # rows decoded at a time: 64 MB at a width of 256

Pair = tuple[str, str]  # a space, and a modality whose rows lie in it
Block = tuple[np.ndarray, np.ndarray]  # rows [M] int64, and their vectors [M E] float32


@dataclass(frozen=True, eq=False)
class StoredIndex:
    """What an index says of its N rows.

    file: number of the row's file in `files`. [N]
    modality, space: numbers in `modalities` and `spaces`. [N]
    start, end: seconds from the start of the file. [N]
    text: the caption, for rows of text, or None.
    run, step, model: which checkpoint made the vectors, and its hash.
    seconds, hop: how long a window is, and from the start of one to that of the next.
    """

    path: Path
    run: str
    step: int
    model: str
    seconds: float
    hop: float
    files: list[str]
    file: np.ndarray
    modalities: list[str]
    modality: np.ndarray
    spaces: list[str]
    space: np.ndarray
    start: np.ndarray
    end: np.ndarray
    text: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.file)

    @functools.cached_property
    def pairs(self) -> list[Pair]:
        """The spaces and modalities that it holds."""
        held = np.unique(np.stack([self.space, self.modality]), axis=1).T
        return [(self.spaces[space], self.modalities[modality]) for space, modality in held]

    def rows(self, pairs: Iterable[Pair]) -> np.ndarray:
        """The rows of any of these pairs, in order. [M] int64"""
        wanted = np.zeros(len(self), bool)
        for space, modality in set(pairs) & set(self.pairs):
            wanted |= (self.space == self.spaces.index(space)) & (self.modality == self.modalities.index(modality))
        return np.flatnonzero(wanted)

    def blocks(self, pairs: Iterable[Pair]) -> Iterator[Block]:
        """The vectors of `rows(pairs)`, from the disk, some ten thousand at a time.

        Raises:
          DataError: vectors of one space differ in width.
        """
        rows = self.rows(pairs)
        first = 0
        for column in self._columns():
            begin, end = np.searchsorted(rows, [first, first + len(column)])
            if end > begin:
                yield rows[begin:end], self._vectors(column, rows[begin:end] - first)
            first += len(column)

    def _columns(self) -> Iterator[pa.Array]:
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(BATCH, columns=["vector"]):
                    yield batch.column(0)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{self.path}: is damaged ({error}); make it anew with vatt embed") from error

    def _vectors(self, column: pa.Array, rows: np.ndarray) -> np.ndarray:
        taken = column if len(rows) == len(column) else column.take(pa.array(rows))
        widths = np.unique(taken.value_lengths().to_numpy(zero_copy_only=False))
        if len(widths) != 1:
            raise DataError(
                f"{self.path}: vectors of one space are {widths.tolist()} wide; make it anew with vatt embed"
            )
        return taken.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(len(rows), -1)


def open_index(path: str | Path) -> StoredIndex:
    """Opens what `vatt embed` wrote. Reads all but the vectors.

    Raises:
      DataError: no such file, or one that `vatt embed` of this version did not write, or an empty one.
    """
    path = Path(path).expanduser()
    again = "make it anew with vatt embed"
    try:
        schema = pq.read_schema(path)
        about = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        if about.get("vatt.version") != VERSION:
            known = "vatt.version" in about
            what = f"an index of version {about['vatt.version']}" if known else "no index that vatt embed made"
            raise DataError(f"{path}: {what}; this version of vatt reads version {VERSION}: {again}")
        if lacking := [name for name in FIELDS.names if name not in schema.names]:
            raise DataError(f"{path}: has no column {lacking[0]!r}; {again}")
        with pq.ParquetFile(path, read_dictionary=["path", "modality", "space"]) as file:
            table = file.read([name for name in FIELDS.names if name not in ("vector", "model")]).unify_dictionaries()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such index; make one with vatt embed RUN FILE ... -o {path.name}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]}); {again}") from error
    if not len(table):
        raise DataError(f"{path}: holds no rows; was anything embedded?")
    coded = {}
    for name in ("path", "modality", "space"):
        column = table.column(name).combine_chunks()
        array = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        coded[name] = array.dictionary.to_pylist(), array.indices.to_numpy(zero_copy_only=False)
    return StoredIndex(
        path=path,
        run=about["vatt.run"],
        step=int(about["vatt.step"]),
        model=about["vatt.model"],
        seconds=float(about["vatt.seconds"]),
        hop=float(about["vatt.hop"]),
        files=coded["path"][0],
        file=coded["path"][1],
        modalities=coded["modality"][0],
        modality=coded["modality"][1],
        spaces=coded["space"][0],
        space=coded["space"][1],
        start=table.column("start").to_numpy(),
        end=table.column("end").to_numpy(),
        text=table.column("text"),
    )
