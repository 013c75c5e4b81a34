"""The records of a table on disk, whatever its format: CSV, TSV, JSON Lines or Parquet."""

import codecs
import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow
import pyarrow.parquet

from vatt.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
LONGEST = 16 << 20  # characters of a line of JSON
WIDEST = 1 << 20  # characters of a field of CSV: what an unclosed quote may swallow before it is noticed

Record = dict[str, Any]


def records(path: str) -> Iterator[tuple[str, Record | str]]:
    """Yields ("line 7", {column: value}) for each record. Names of columns are in lower case, without spaces around;
    a column without a name is left out.

    Of a line that is no record (JSON that cannot be read, more fields than columns) a string comes instead, which says
    why.

    Raises:
      DataError: the file cannot be read, is not what its suffix says, or not UTF-8 (or UTF-16 with its mark). The
        message names it, the line, and what to do.
    """
    suffix = Path(path).suffix.lower()
    try:
        if suffix == ".parquet":
            yield from _parquet(path)
            return
        with open(path, "rb") as raw:
            start = raw.read(2)
        utf16 = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        with open(path, encoding="utf-16" if utf16 else "utf-8-sig", newline="") as file:
            if suffix in (".csv", ".tsv"):
                yield from _csv(file, path, "\t" if suffix == ".tsv" else ",")
            else:
                yield from _json_lines(file, path)
    except OSError as error:
        raise DataError(f"{path}: cannot read the manifest: {error.strerror or error}") from error
    except UnicodeError as error:
        remedy = f"convert it, for instance: iconv -f WINDOWS-1252 -t UTF-8 '{path}' -o converted"
        raise DataError(f"{path}: the manifest is not UTF-8 ({error}); {remedy}") from error


def _csv(file: TextIO, path: str, delimiter: str) -> Iterator[tuple[str, Record | str]]:
    csv.field_size_limit(WIDEST)
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    try:
        header = [_name(column) for column in next(reader, [])]
        twice = {column for column in header if column and header.count(column) > 1} if len(header) < 1000 else set()
        if twice:
            raise DataError(f"{path}: two columns are called {sorted(twice)[0]!r}; rename one")
        if "path" not in header:
            found = ", ".join(map(repr, header[:20])) or "none at all"
            raise DataError(f"{path}: no column 'path'; it has {found}")
        line = reader.line_num
        for fields in reader:
            first, line = line + 1, reader.line_num  # a field may span lines
            if not fields:
                continue
            if len(fields) > len(header) and any(fields[len(header) :]):
                what = f"more fields ({len(fields)}) than columns ({len(header)}); a text with commas must be quoted"
                yield f"line {first}", what
            else:
                yield f"line {first}", _named(zip(header, fields, strict=False))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; is a quote left open there?") from error


def _json_lines(file: TextIO, path: str) -> Iterator[tuple[str, Record | str]]:
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        if len(line) == LONGEST:
            raise DataError(f"{path}, line {number}: longer than {LONGEST >> 20} MiB; JSON Lines has a record a line")
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", f"not JSON: {error}"
            continue
        if isinstance(found, dict):
            yield f"line {number}", _named(found.items())
        else:
            yield f"line {number}", f'expected an object such as {{"path": ...}}, found {line[:60]!r}'


def _parquet(path: str) -> Iterator[tuple[str, Record]]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            names = [name for name in file.schema_arrow.names if not _is_bytes(file.schema_arrow.field(name).type)]
            if "path" not in map(_name, names):
                raise DataError(f"{path}: no column 'path'; it has {', '.join(map(repr, names)) or 'none at all'}")
            for batch in file.iter_batches(batch_size=1024, columns=names):
                for found in batch.to_pylist():
                    number += 1
                    yield f"row {number}", _named(found.items())
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise DataError(f"{path}: not Parquet, or damaged: {error}") from error


def _is_bytes(kind: pyarrow.DataType) -> bool:
    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def _named(fields: Iterable[tuple[Any, Any]]) -> Record:
    return {name: value for column, value in fields if (name := _name(column))}


def _name(column: Any) -> str:
    return str(column).strip().lower()
