"""What is searched for: words, a video or a sound, as vectors in the spaces where it meets what an index holds."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vatt.data.extensions import EXTENSIONS, SOUND
from vatt.data.sources import open_file
from vatt.data.text import PAD, Vocabulary, words
from vatt.errors import CheckpointError, DataError, MediaError
from vatt.evals.embedding import unit
from vatt.evals.pretrained import Pretrained, load
from vatt.evals.rows import Pair, StoredIndex

# What each kind of query looks for unless told otherwise. A video finds video alone: its likeness to sound is on
# another scale, so that one of the two would always come first.
FINDS = {"text": ("video", "audio"), "audio": ("video", "audio"), "video": ("video",)}
WINDOWS = 16  # most windows of a file that make a query


@dataclass(frozen=True)
class Query:
    """vectors: [E] float32 of unit length, by space. notes: what the user should know of how it was understood."""

    kind: str
    vectors: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()


def meeting_space(query: str, modality: str) -> str:
    """Where two modalities compare: `vt` if one of them is text, else `va`."""
    return "vt" if "text" in (query, modality) else "va"


def query_kind(query: str) -> str:
    """text, audio or video: words, unless they are the name of a file that is there.

    Raises:
      DataError: nothing is asked, or a file that is missing or no media.
    """
    if not query.strip():
        raise DataError("the query is empty; give words, or the path of a video or a sound")
    suffix = Path(query).suffix.lower().removeprefix(".")
    if not os.path.isfile(os.path.expanduser(query)):
        if suffix in EXTENSIONS:
            raise DataError(f"{query}: no such file; if these are words, say so with --text")
        return "text"
    if suffix not in EXTENSIONS:
        raise DataError(f"{query}: a file, but not called as media are; say what it is with --video, --audio or --text")
    return "audio" if suffix in SOUND else "video"


def wanted_pairs(index: StoredIndex, kind: str, modalities: Collection[str] = ()) -> list[Pair]:
    """The parts of an index that a query is compared with.

    Args:
      modalities: to look for; none: what `FINDS` says.

    Raises:
      DataError: the index holds none of them where such a query could meet it.
    """
    pairs = [(meeting_space(kind, modality), modality) for modality in modalities or FINDS[kind]]
    held = [pair for pair in pairs if pair in index.pairs]
    if not held:
        looked = " or ".join(f"{modality} in {space}" for space, modality in pairs)
        holds = ", ".join(f"{modality} in {space}" for space, modality in index.pairs)
        raise DataError(
            f"{index.path}: a query by {kind} is compared with {looked}, and this index holds {holds}. Ask by "
            "something else, name other --modalities, or embed the files again with what is missing"
        )
    return held


def load_model(index: StoredIndex, run: str = "") -> Pretrained:
    """The model that made an index.

    Args:
      run: where its run is; "": where it was.

    Raises:
      CheckpointError: it is not there, or another model is.
    """
    place = run or index.run
    try:
        model = load(place, step=index.step)
    except CheckpointError as error:
        made = f"{index.path} was made by {index.run} at step {index.step}"
        remedy = "give that run with --run" if run else "if the run lies elsewhere now, name it with --run"
        raise CheckpointError(f"{error}\n{made}; {remedy}") from error
    if model.hash != index.model:
        raise CheckpointError(
            f"{index.path} was made by the model {index.model}, and {place} at step {model.step} is {model.hash}: "
            "their vectors do not compare. Name the run that made it with --run, or embed again: "
            f"vatt embed {place} FILE ... -o {index.path.name}"
        )
    return model


def embed_query(model: Pretrained, query: str, kind: str) -> Query:
    """A query as vectors. A file is the mean of its windows, which are at most 16, evenly over it.

    Raises:
      DataError: the words are none, or none that the model knows.
      MediaError: the file cannot be read, lacks what it should be searched by, or is shorter than a window.
    """
    if kind == "text":
        return Query(kind, {"vt": model.embed_text([query])[0]}, _notes(model, query))
    path = os.path.expanduser(query)
    seconds = model.cfg.clip.seconds
    first, last = open_file(path, model.cfg.clip.needed).room(seconds)
    hop = max(seconds, (last - first) / (WINDOWS - 1))
    try:
        windows = model.embed_video(path, hop=hop) if kind == "video" else model.embed_audio(path, hop=hop)
    except MediaError as error:
        if error.kind in ("no_video", "silent", "no_audio"):
            other = "audio" if kind == "video" else "video"
            raise MediaError(query, f"{error.reason}; search by its {other} instead (--{other})", error.kind) from error
        raise
    vectors = {"va": windows.va, "vt": windows.vt}
    count = len(windows.start)
    notes = (f"the query is the mean of {count} windows of the file",) if count > 1 else ()
    return Query(kind, {space: unit(x.mean(axis=0)) for space, x in vectors.items() if x is not None}, notes)


def _notes(model: Pretrained, text: str) -> tuple[str, ...]:
    """What the model does not see of a text that it can read."""
    count, notes = model.cfg.clip.words, []
    whole = model.tokenizer.encode(text, count + 1)[-1] == PAD
    plain = isinstance(model.tokenizer, Vocabulary)
    seen = text if whole or not plain else " ".join(words(text)[:count])
    if unknown := dict.fromkeys(model.tokenizer.unknown(seen)):
        notes.append(f"the model does not know {', '.join(repr(word) for word in unknown)}")
    if not whole:
        notes.append(f"the model reads the first {count} {'words' if plain else 'subwords'} only")
    return tuple(notes)
