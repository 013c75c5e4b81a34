"""A checkpoint that is ready to embed: `vatt.load("runs/demo").embed_video("clip.mp4")`."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from vatt import sharding
from vatt.config import Config, MeshConfig
from vatt.data.crops import centre
from vatt.data.items import Item
from vatt.data.media.clip import decode_clip, is_silent
from vatt.data.sources import open_file
from vatt.data.text import PAD, Tokenizer
from vatt.errors import DataError, MediaError
from vatt.evals.embedding import Embedder, check_finite, unit
from vatt.tasks.pretrain import Pretrain
from vatt.train.checkpoint import Checkpoints, find_step, read_pretrain_config, read_tokenizer
from vatt.train.step import abstract_state


@dataclasses.dataclass(frozen=True)
class Windows:
    """What a file shows or sounds like, window by window.

    start, end: [W] seconds from the start of the file.
    va, vt: [W E] float32, of unit length, in the video-audio and the video-text space; None where the model leads its
      modality nowhere.
    """

    start: np.ndarray
    end: np.ndarray
    va: np.ndarray | None
    vt: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """The model of a pretraining run at some step, on whatever devices are here.

    Embeddings that lie in one space compare by dot product: `vt` of video with text, `va` of video with `va` of sound.
    The same file gives the same bytes, whatever is embedded with it, on one machine with one version of the packages.
    """

    cfg: Config
    step: int
    tokenizer: Tokenizer
    embedder: Embedder
    mesh: Mesh
    state: dict

    @functools.cached_property
    def hash(self) -> str:
        """16 hex digits that differ where embeddings would: of model, clip, words and weights."""
        digest = hashlib.sha256(
            json.dumps([dataclasses.asdict(self.cfg.model), dataclasses.asdict(self.cfg.clip)]).encode()
        )
        digest.update(self.tokenizer.to_text().encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path((self.state["params"], self.state["stats"])):
            digest.update(jax.tree_util.keystr(path).encode() + np.asarray(jax.device_get(leaf)).tobytes())
        return digest.hexdigest()[:16]

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Captions as unit vectors in the video-text space, [N E] float32.

        Raises:
          DataError: a text holds no word that the model knows.
        """
        L = self.cfg.clip.words
        ids = np.stack([self.tokenizer.encode(text, L) for text in texts]) if texts else np.zeros((0, L), np.int32)
        for text, row in zip(texts, ids, strict=True):
            if row[0] == PAD:
                raise DataError(f"{text!r} holds no words")
        return unit(self._checked({"text": ids}, texts)["z_tv"]) if len(ids) else np.zeros((0, 0), np.float32)

    def embed_video(self, path: str | os.PathLike, *, hop: float = 0.0) -> Windows:
        """The pictures of a file, window by window, each as long as the clips that the model was trained on.

        Args:
          path: a video or a picture.
          hop: seconds from the start of a window to that of the next; 0: they touch. The last one ends with the file.

        Raises:
          MediaError: the file cannot be read, shows nothing, or is shorter than a window.
        """
        return self._embed_file(path, "video", hop)

    def embed_audio(self, path: str | os.PathLike, *, hop: float = 0.0) -> Windows:
        """The sound of a file, as `embed_video` gives its pictures. Windows that are silent are left out.

        Raises:
          MediaError: the file cannot be read, is silent, or is shorter than a window.
        """
        return self._embed_file(path, "audio", hop)

    def _embed_file(self, path: str | os.PathLike, modality: str, hop: float) -> Windows:
        item = open_file(path, self.cfg.clip.seconds)
        if not (item.has_video if modality == "video" else item.has_audio):
            raise MediaError(str(path), f"has no {modality}", f"no_{modality}")
        starts, clips = [], []
        for start, clip in self.windows(item, hop):
            if clip[f"{modality}_mask"] and not (modality == "audio" and is_silent(clip["audio"])):
                starts.append(start)
                clips.append({name: x for name, x in clip.items() if name.startswith(modality)})
        if not clips:
            raise MediaError(str(path), "is silent", "silent")
        features = self._checked(
            {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}, [str(path)] * len(clips)
        )
        names = ("z_va", "z_vt") if modality == "video" else ("z_av", "z_at")
        va, vt = (unit(features[name]) if name in features else None for name in names)
        start = np.array(starts)
        return Windows(start, start + self.cfg.clip.seconds, va, vt)

    def windows(self, item: Item, hop: float = 0.0) -> Iterator[tuple[float, dict]]:
        """The start of each window of an item, and what `decode_clip` gives of it. Decoded one after the other."""
        for start in window_starts(item, self.cfg.clip.seconds, hop):
            yield start, decode_clip(item, start, self.cfg.clip, crop=centre, canvas=self.cfg.canvas)

    def _checked(self, arrays: dict, ids: Sequence[str]) -> dict[str, np.ndarray]:
        features = self.embedder(arrays)
        check_finite(features, ids)
        return features


def window_starts(item: Item, seconds: float, hop: float = 0.0) -> list[float]:
    """Where windows of so many seconds begin: every `hop` (0: `seconds`) from the item's start, and one that ends with
    the item where the last would leave some of it out."""
    first, last = item.room(seconds)
    hop = hop or seconds
    starts = [first + i * hop for i in range(int((last - first) / hop + 1e-6) + 1)]
    return starts if last - starts[-1] < 0.01 * seconds else [*starts, last]


def load(run: str | Path, *, step: str | int = "latest") -> Pretrained:
    """The model of a pretraining run.

    Args:
      run: the folder that `vatt pretrain` wrote.
      step: "latest", "best", or a number of steps.

    Raises:
      CheckpointError: no such run or checkpoint, or one that cannot be restored.
    """
    cfg = dataclasses.replace(read_pretrain_config(run), run=str(run))
    mesh = sharding.make_mesh(MeshConfig())  # whatever devices are here, not those it trained on
    task = Pretrain(cfg)
    with Checkpoints(run, cfg.checkpoint, access="read") as checkpoints:
        number = find_step(checkpoints, str(step))
        state = checkpoints.load_weights(number, abstract_state(cfg, task, mesh))
    embedder = Embedder(cfg, mesh, state["params"], state["stats"])
    return Pretrained(cfg, number, read_tokenizer(run), embedder, mesh, state)
