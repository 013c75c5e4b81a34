"""Embeds media files into an index, of any number and length.

The contract. A file becomes windows as long as the clips that the model was trained on: one every `hop` seconds from
where all its streams run, and one that ends with it. Every window gives a unit vector for each modality that it has and
each space that the model leads it to; sound that is silent gives none; a caption gives one, with its own times. The
same file gives the same bytes, whatever the batch, the order and the number of workers, and however often the work was
interrupted. What cannot be used is a line of the errors, and the rest goes on. A file that kills the process is such a
line too, once the same command is given again.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import pyarrow as pa

from vatt.data.captions import Caption
from vatt.data.faults import FAULTS
from vatt.data.files import MediaFile, Unusable
from vatt.data.text import words
from vatt.data.windows import Window
from vatt.errors import ConfigError, DataError, listed
from vatt.evals.index import VERSION, About, batch, concatenated, write_index
from vatt.evals.parts import Parts
from vatt.evals.pretrained import Pretrained, check_hop, holds
from vatt.evals.reading import State, Wanted, read
from vatt.evals.rows import open_index
from vatt.evals.tensors import write_safetensors

Format = Literal["parquet", "safetensors"]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What was done: files in all and of these gone on from; windows and captions embedded now; seconds of media, and
    how long it took; files that gave nothing and files that lack something; rows of the index."""

    files: int
    kept: int
    windows: int
    captions: int
    media_seconds: float
    seconds: float
    failed: int
    lacking: int
    rows: int


def embed(
    model: Pretrained,
    files: Sequence[MediaFile],
    unusable: Sequence[Unusable],
    output: str | os.PathLike,
    *,
    modalities: Sequence[str] = ("video", "audio"),
    hop: float = 0.0,
    batch_size: int = 32,
    workers: int = 0,
    format: Format = "parquet",
    progress: Callable[[float, int], None] | None = None,
) -> Embedded:
    """Embeds files into the index `output`, and writes what could not be used to `output`.errors.jsonl.

    Until it is done, work is kept in `output`.partial; the same call goes on from there.

    Args:
      files, unusable: as `vatt.data.files.list_media` gives them.
      modalities: any of video, audio and text.
      hop: seconds from the start of a window to that of the next; 0: they touch.
      batch_size: windows in flight to the model.
      workers: threads that decode (0: one a core).
      progress: called with (files done, and of the one at work the share that is; files in all).

    Raises:
      DataError: nothing at all could be embedded; or the work kept is of another model, hop or modalities.
      NonFiniteError: an embedding is NaN or infinite.
    """
    check_hop(hop)
    if batch_size < 1 or workers < 0:
        raise ConfigError("batch size must be at least 1, and workers at least 0")
    began, clip, output = time.monotonic(), model.cfg.clip, Path(output)
    hop = hop or clip.seconds
    about = About(run=os.path.abspath(model.cfg.run), step=model.step, model=model.hash, seconds=clip.seconds, hop=hop)
    settings = {
        "layout": VERSION,
        "model": model.hash,
        "hop": hop,
        "modalities": sorted(modalities),
        "jax": f"{jax.__version__} on {jax.default_backend()}",  # which rounds in its own way
    }
    partial = output.with_name(output.name + ".partial")
    with Parts(partial, about.schema, settings) as parts:
        keys = [file.key() for file in files]
        kept = sum(key in parts for key in keys)
        todo = [(file, key) for file, key in zip(files, keys, strict=True) if key not in parts]
        work = _Work(model, about, tuple(modalities), parts)
        wanted = Wanted(clip=clip, canvas=model.cfg.canvas, modalities=tuple(modalities), hop=hop)
        stream = read(todo, wanted, parts, workers=workers or os.cpu_count() or 1, depth=batch_size)
        with contextlib.closing(stream):
            for state, windows in stream:
                work.take(state, windows, batch_size)
                if progress:
                    progress(kept + work.done, len(files))
        work.embed()
        parts.flush()
        return _finish(output, format, about, work, parts, keys, unusable, began, kept)


class _Work:
    """Embeds windows in batches, across files, and hands on the files that are done."""

    def __init__(self, model: Pretrained, about: About, modalities: tuple[str, ...], parts: Parts):
        self._model, self._about, self.modalities, self._parts = model, about, modalities, parts
        self._queue: list[tuple[State, Window | None]] = []
        self._windows = 0  # in the queue
        self._files = 0
        self._state: State | None = None
        self.windows = self.captions = 0
        self.seconds = 0.0

    @property
    def done(self) -> float:
        """Files, and the share that is done of the one at work."""
        state = self._state
        return self._files + (state.seen / state.windows if state and state.windows else 0.0)

    def take(self, state: State, windows: list[Window] | None, batch_size: int) -> None:
        for window in windows if windows is not None else (None,):
            self._queue.append((state, window))
            self._windows += window is not None
            if self._windows >= batch_size or len(self._queue) >= 16 * batch_size:
                self.embed()

    def embed(self) -> None:
        """All that is in the queue."""
        for modality in ("video", "audio"):
            held = [(s, w) for s, w in self._queue if w and modality in s.wanted and holds(w, modality)]
            if not held:
                continue
            vectors = self._model.embed_clips(
                modality, [w.clip for _, w in held], [f"{s.path} at {w.start:.2f} s" for s, w in held]
            )
            for row, (state, window) in enumerate(held):
                found = window.start, {space: x[row] for space, x in vectors.items()}
                state.found.setdefault(modality, []).append(found)
        for state, window in self._queue:
            self._state = state
            if window is None:
                self._close(state)
                continue
            state.seen += 1
            for modality, error in window.errors.items():
                state.damaged.setdefault((modality, error.kind), []).append((window.start, error))
        self._queue.clear()
        self._windows = 0

    def _close(self, state: State) -> None:
        """A file whose windows are all embedded."""
        for (modality, reason), cases in state.damaged.items():
            start, error = cases[0]
            detail = f"{modality} of {len(cases)} of {state.windows} windows, first at {start:.2f} s: {error.reason}"
            state.wrong(reason, detail)
        for modality in state.wanted:
            if modality == "audio" and "audio" not in state.found and not any(m == "audio" for m, _ in state.damaged):
                state.wrong("silent")
        rows = self._rows(state)
        state.errors.sort(key=lambda error: (error["reason"], error["detail"]))
        self._parts.add(state.key, rows, state.errors)
        if rows.num_rows:
            self.seconds += state.seconds
        self.windows += len({start for found in state.found.values() for start, _ in found})
        self._files += 1
        self._state = None

    def _rows(self, state: State) -> pa.RecordBatch:
        batches = {}
        for modality, found in state.found.items():
            found.sort(key=lambda window: window[0])
            start = np.array([start for start, _ in found])
            end = np.minimum(start + self._about.seconds, state.end)  # of a file shorter than a window, its own
            for space in found[0][1]:
                vectors = np.stack([z[space] for _, z in found])
                batches[modality, space] = self._batch(state, modality, space, start=start, end=end, vectors=vectors)
        captions = self._sayable(state) if "text" in state.wanted else []
        if captions:
            times = np.array([(caption.start, caption.end) for caption in captions])
            texts = [caption.text for caption in captions]
            batches["text", "vt"] = self._batch(
                state,
                "text",
                "vt",
                start=times[:, 0],
                end=times[:, 1],
                vectors=self._model.embed_text(texts),
                text=texts,
            )
            self.captions += len(captions)
        return concatenated(self._about, [batches[key] for key in sorted(batches)])

    def _batch(self, state: State, modality: str, space: str, **columns) -> pa.RecordBatch:
        return batch(self._about, state.path, modality, space, **columns)

    def _sayable(self, state: State) -> list[Caption]:
        """The captions that the model can read, in order."""
        captions, refused = [], {}
        for caption in sorted(state.captions, key=lambda c: (c.start, c.end, c.text)):
            if trouble := self._model.unreadable(caption.text):
                refused.setdefault("unknown_words" if words(caption.text) else "empty_captions", []).append(trouble)
            else:
                captions.append(caption)
        for reason, troubles in refused.items():
            state.wrong(reason, f"{len(troubles)} of {len(state.captions)} captions, first {troubles[0]}")
        return captions


def _finish(
    output: Path,
    format: Format,
    about: About,
    work: _Work,
    parts: Parts,
    keys: Sequence[str],
    unusable: Sequence[Unusable],
    began: float,
    kept: int,
) -> Embedded:
    """Joins the parts into the index, in the order of paths; the index comes last to its place."""
    errors = [asdict(fault) for fault in unusable if fault.reason != "bad_captions" or "text" in work.modalities]
    nothing: set[str] = {error["path"] for error in errors if FAULTS[error["reason"]].fatal}

    def rows() -> Iterator[pa.RecordBatch]:
        for key in keys:
            found, wrong = parts.read(key)
            errors.extend(wrong)
            if not found.num_rows:
                nothing.update(error["path"] for error in wrong)
            yield found

    joined = parts.folder / "joined.parquet"
    count = write_index(joined, about, rows())
    errors.sort(key=lambda error: (error["path"], error["reason"], error["detail"]))
    beside = output.with_name(output.name + ".errors.jsonl")
    if errors:
        new = parts.folder / "errors.jsonl"
        new.write_text("".join(json.dumps(error, ensure_ascii=False) + "\n" for error in errors), encoding="utf-8")
        new.replace(beside)
    else:
        beside.unlink(missing_ok=True)
    if not count:
        parts.remove()
        some = [f"{error['path']}: {error['reason']}: {error['detail']}" for error in errors]
        raise DataError(
            f"nothing could be embedded; {beside} tells why:\n{listed(some)}" if errors else "no files given"
        )
    if format == "safetensors":
        made = parts.folder / "joined.safetensors"
        write_safetensors(made, open_index(joined))
        joined = made
    joined.replace(output)
    parts.remove()
    return Embedded(
        files=len(keys),
        kept=kept,
        windows=work.windows,
        captions=work.captions,
        media_seconds=work.seconds,
        seconds=time.monotonic() - began,
        failed=len(nothing),
        lacking=len({error["path"] for error in errors} - nothing),
        rows=count,
    )
