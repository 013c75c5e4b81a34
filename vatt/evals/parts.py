"""Work that is kept while it goes on: the embeddings of files that are done, for the same command to go on from.

FOLDER/settings.json     what decides their bytes
FOLDER/000123.arrow      some files that are done: a record batch each, and what was wrong with them. Written whole,
                         under another name first
FOLDER/at_work/KEY.3     a file that is being read: one that is there at the start was so when the process died
FOLDER/lock              held by the process that writes
FOLDER.done              FOLDER while it is removed
"""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from vatt.errors import DataError

ROWS, FILES, SECONDS = 4096, 512, 5.0  # a part is written when it has so many, or after so long


class Parts:
    """Files that are done, by a key of what they hold.

    Args:
      folder: of the parts; made if it is not there.
      schema: of the rows.
      settings: what decides the bytes, by the name that the user knows it by.

    Raises:
      DataError: the folder holds something else, was begun with other settings, or another process writes to it.
    """

    def __init__(self, folder: str | os.PathLike, schema: pa.Schema, settings: dict[str, Any]):
        self.folder, self._schema = Path(folder), schema
        known = self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"{folder}: another process is writing to it; wait for it, or name another -o") from error
        shutil.rmtree(self._done, ignore_errors=True)  # a kill left it
        if known:
            self._check(settings)
        _write(self.folder / "settings.json", json.dumps(settings, indent=2).encode())
        self._places: dict[str, tuple[Path, int]] = {}
        self._errors: dict[str, list[dict]] = {}
        self._opened: tuple[Path | None, Any] = (None, None)
        self._held: list[tuple[str, pa.RecordBatch, list[dict]]] = []
        self._since = time.monotonic()
        self._next = 0
        for path in sorted(self.folder.glob("*.arrow")):
            with pa.memory_map(str(path)) as file:
                self._enter(path, json.loads(pa.ipc.open_file(file).schema.metadata[b"files"]))
            self._next = int(path.stem) + 1
        self._marks = self.folder / "at_work"
        self._marks.mkdir(exist_ok=True)
        left = [mark.name for mark in self._marks.iterdir()]
        self.suspects = {name.partition(".")[0] for name in left}
        self._numbers = itertools.count(1 + max((int(name.partition(".")[2]) for name in left), default=0))

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *error) -> None:
        """Keeps what is done, also when the work is interrupted."""
        if not self._lock.closed:
            self.flush()
            self._opened = None, None
            self._lock.close()

    def add(self, key: str, rows: pa.RecordBatch, errors: list[dict]) -> None:
        """Takes a file that is done; with others, it is soon on the disk."""
        self._held.append((key, rows, errors))
        count = sum(rows.num_rows for _, rows, _ in self._held)
        if count >= ROWS or len(self._held) >= FILES or time.monotonic() - self._since > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what is held."""
        self._since = time.monotonic()
        if not self._held:
            return
        files = [{"key": key, "errors": errors} for key, _, errors in self._held]
        metadata = (self._schema.metadata or {}) | {b"files": json.dumps(files).encode()}
        sink = pa.BufferOutputStream()
        schema = self._schema.with_metadata(metadata)
        with pa.ipc.new_file(sink, schema) as writer:
            for _, rows, _ in self._held:
                writer.write_batch(rows)
        path = self.folder / f"{self._next:06d}.arrow"
        _write(path, sink.getvalue())
        self._enter(path, files)
        self._next += 1
        self._held.clear()

    def read(self, key: str) -> tuple[pa.RecordBatch, list[dict]]:
        """The rows and errors of a file that is on the disk."""
        path, number = self._places[key]
        if self._opened[0] != path:
            self._opened = path, pa.ipc.open_file(pa.memory_map(str(path)))
        return self._opened[1].get_batch(number).replace_schema_metadata(self._schema.metadata), self._errors[key]

    @contextlib.contextmanager
    def at_work(self, key: str) -> Iterator[None]:
        """Within the block a file is read by this process: should that kill it, the next one finds `key` among its
        `suspects`. Blocks in several threads may be of one file."""
        mark = self._marks / f"{key}.{next(self._numbers)}"
        mark.touch()
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def clear(self, key: str) -> None:
        """A suspect that turned out harmless."""
        for mark in self._marks.glob(f"{key}.*"):
            mark.unlink()

    def remove(self) -> None:
        """Ends the work: nothing is kept of it. A kill meanwhile leaves no half of it to go on from."""
        self._opened = None, None
        self.folder.replace(self._done)
        shutil.rmtree(self._done, ignore_errors=True)
        self._lock.close()

    @property
    def _done(self) -> Path:
        return self.folder.with_name(self.folder.name + ".done")

    def _enter(self, path: Path, files: list[dict]) -> None:
        for number, file in enumerate(files):
            self._places[file["key"]] = path, number
            self._errors[file["key"]] = file["errors"]

    def _check(self, settings: dict[str, Any]) -> None:
        remedy = "To start anew remove that folder, or name another -o"
        path = self.folder / "settings.json"
        if not path.exists():
            if {file.name for file in self.folder.iterdir()} - {"lock", "settings.json.new"}:
                raise DataError(f"{self.folder}: holds something else. Name another -o")
            return
        try:
            begun = json.loads(path.read_text())
        except ValueError as error:
            raise DataError(f"{path}: cannot be read. {remedy}") from error
        changed = [
            f"{name} {begun.get(name)}, not {value}" for name, value in settings.items() if begun.get(name) != value
        ]
        if changed:
            goes_on = "Give what it was begun with, and it goes on"
            raise DataError(f"{self.folder}: was begun with {'; '.join(changed)}. {goes_on}. {remedy}")


def _write(path: Path, data) -> None:
    """All of it, or nothing."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
