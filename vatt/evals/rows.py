"""The index that `vatt embed` writes, read so that its vectors need not be in memory: the rest of it is, which is small.

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

VERSION = "1"
COLUMNS = ("path", "modality", "space", "start", "end", "text", "vector")
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
    """

    path: Path
    run: str
    step: str
    model: str
    seconds: float
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
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BATCH, columns=["vector"]):
                begin, end = np.searchsorted(rows, [first, first + len(batch)])
                if end > begin:
                    yield rows[begin:end], self._vectors(batch.column("vector"), rows[begin:end] - first)
                first += len(batch)

    def _vectors(self, column: pa.Array, rows: np.ndarray) -> np.ndarray:
        taken = column if len(rows) == len(column) else column.take(pa.array(rows))
        widths = np.unique(taken.value_lengths().to_numpy(zero_copy_only=False))
        if len(widths) != 1:
            raise DataError(f"{self.path}: its vectors are {widths.tolist()} wide within one space; embed again")
        return taken.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(len(rows), -1)


def open_index(path: str | Path) -> StoredIndex:
    """Opens what `vatt embed` wrote. Reads all but the vectors.

    Raises:
      DataError: no such file, or one that `vatt embed` of this version did not write, or an empty one.
    """
    path = Path(path).expanduser()
    try:
        with pq.ParquetFile(path, read_dictionary=["path", "modality", "space"]) as file:
            about = {
                k.decode(): v.decode() for k, v in (file.schema_arrow.metadata or {}).items() if k != b"ARROW:schema"
            }
            lacking = [name for name in COLUMNS if name not in file.schema_arrow.names]
            if "vatt.model" not in about or lacking:
                what = f"has no column {lacking[0]}" if lacking else "does not say which model made it"
                raise DataError(
                    f"{path}: not an index: it {what}. Make one with vatt embed RUN FILE ... -o {path.name}"
                )
            if about.get("vatt.version") != VERSION:
                raise DataError(
                    f"{path}: an index of version {about.get('vatt.version')}; this vatt reads version {VERSION}. "
                    "Embed again, or use the vatt that made it"
                )
            table = file.read([name for name in COLUMNS if name != "vector"]).unify_dictionaries()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such index; make one with vatt embed RUN FILE ... -o {path}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error
    if not len(table):
        raise DataError(f"{path}: holds no rows; was anything embedded?")
    coded = {}
    for name in ("path", "modality", "space"):
        column = table.column(name).combine_chunks()
        array = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        coded[name] = array.dictionary.to_pylist(), array.indices.to_numpy(zero_copy_only=False)
    return StoredIndex(
        path=path,
        run=about.get("vatt.run", ""),
        step=about.get("vatt.step", "latest"),
        model=about["vatt.model"],
        seconds=float(about.get("vatt.seconds", "nan")),
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
