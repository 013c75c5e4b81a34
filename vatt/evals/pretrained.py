"""A checkpoint that is ready to embed: `vatt.load("runs/demo").embed_video("clip.mp4")`."""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from vatt import sharding
from vatt.config import Config, MeshConfig
from vatt.data.items import Item
from vatt.data.media.clip import is_silent
from vatt.data.sources import open_file
from vatt.data.text import PAD, Tokenizer, words
from vatt.data.windows import Window, decode_windows, groups, window_starts
from vatt.errors import ConfigError, DataError, MediaError
from vatt.evals.embedding import Embedder, check_finite, unit
from vatt.tasks.pretrain import Pretrain
from vatt.train.checkpoint import read_pretrain_config, read_tokenizer
from vatt.train.weights import Weights, read_weights

# modality -> space -> what leads it there
SPACES = {
    "video": {"va": "z_va", "vt": "z_vt"},
    "audio": {"va": "z_av", "vt": "z_at"},
    "text": {"vt": "z_tv"},
}
GATHERED = 32  # windows of one file that are decoded before they are embedded


@dataclasses.dataclass(frozen=True)
class Windows:
    """What a file shows or sounds like, window by window.

    start, end: [W] seconds from the start of the file.
    va, vt: [W E] float32, of unit length, in the video-audio and the video-text space; None where the model leads its
      modality nowhere.
    errors: of windows that could not be decoded, which are left out.
    """

    start: np.ndarray
    end: np.ndarray
    va: np.ndarray | None
    vt: np.ndarray | None
    errors: tuple[MediaError, ...] = ()


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
    params: dict
    stats: dict

    @functools.cached_property
    def hash(self) -> str:
        """16 hex digits that differ where embeddings would: of model, clip, canvas, words and weights."""
        cfg = self.cfg
        made = [dataclasses.asdict(cfg.model), dataclasses.asdict(cfg.clip), cfg.canvas]
        digest = hashlib.sha256(json.dumps(made).encode())
        digest.update(self.tokenizer.to_text().encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path((self.params, self.stats)):
            digest.update(jax.tree_util.keystr(path).encode() + np.asarray(jax.device_get(leaf)).tobytes())
        return digest.hexdigest()[:16]

    def temperature(self, pair: str = "video_text") -> float:
        """What cosines of a pair of modalities are divided by: the run's, or what it learned."""
        learned = self.params.get("loss", {}).get(pair, {})
        return math.exp(-float(learned["log_scale"])) if "log_scale" in learned else self.cfg.loss.temperature

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Captions as unit vectors in the video-text space, [N E] float32. Of each, the first `clip.words` words count.

        Raises:
          DataError: a text holds no word, or none that the model knows.
        """
        if isinstance(texts, str):
            raise TypeError(f"embed_text takes a list of texts; give [{texts!r}]")
        if not len(texts):
            return np.zeros((0, self.cfg.model.heads.vt_width), np.float32)
        for text in texts:
            if trouble := self.unreadable(text):
                raise DataError(trouble)
        ids = np.stack([self.tokenizer.encode(text, self.cfg.clip.words) for text in texts])
        return self.embed_clips("text", [{"text": row} for row in ids], texts)["vt"]

    def unreadable(self, text: str) -> str:
        """Why nothing can be said of a text; "" if something can."""
        if self.tokenizer.encode(text, self.cfg.clip.words)[0] == PAD:
            return f"{text!r} holds no words"
        seen = words(text)[: self.cfg.clip.words]
        if seen and len(self.tokenizer.unknown(" ".join(seen))) == len(seen):
            return f"{text!r} holds no word that the model knows; {len(self.tokenizer)} are in its vocabulary"
        return ""

    def embed_video(self, path: str | os.PathLike, *, hop: float = 0.0) -> Windows:
        """The pictures of a file, window by window, each as long as the clips that the model was trained on.

        Args:
          path: a video or a picture. Of a run that shows short files over and over, also one shorter than a window.
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

    def embed_clips(self, modality: str, clips: Sequence[dict], ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Unit vectors [N E] float32 by space, of N clips of one modality.

        Args:
          modality: video, audio or text.
          clips: what `vatt.data.windows` gives of the modality, or `text` [L]; what else is in them is passed over.
          ids: name the clips in errors.

        Raises:
          NonFiniteError: an embedding is NaN or infinite.
        """
        names = [name for name in clips[0] if name.startswith(modality)]
        features = self.embedder({name: np.stack([clip[name] for clip in clips]) for name in names})
        check_finite(features, ids)
        return {space: unit(features[name]) for space, name in SPACES[modality].items() if name in features}

    def _embed_file(self, path: str | os.PathLike, modality: str, hop: float) -> Windows:
        check_hop(hop)
        clip = self.cfg.clip
        item = open_file(path, clip.needed)
        if not (item.has_video if modality == "video" else item.has_audio):
            raise MediaError(str(path), f"has no {modality}", f"no_{modality}")
        item = dataclasses.replace(item, has_video=modality == "video", has_audio=modality == "audio")
        starts, parts, errors = [], [], []
        windows = self.windows(item, hop)
        while gathered := list(itertools.islice(windows, GATHERED)):
            errors += [error for window in gathered for error in window.errors.values()]
            kept = [window for window in gathered if holds(window, modality)]
            if kept:
                starts += [window.start for window in kept]
                parts.append(self.embed_clips(modality, [window.clip for window in kept], [str(path)] * len(kept)))
        if not parts:
            raise errors[0] if errors else MediaError(str(path), "is silent", "silent")
        found = {space: np.concatenate([part[space] for part in parts]) for space in parts[0]}
        start = np.array(starts)
        length = clip.seconds if item.still else min(clip.seconds, item.end - item.start)
        return Windows(start, start + length, found.get("va"), found.get("vt"), tuple(errors))

    def windows(self, item: Item, hop: float = 0.0) -> Iterator[Window]:
        """The windows of an item, decoded as they are asked for."""
        clip, canvas = self.cfg.clip, self.cfg.canvas
        for part in groups(item, window_starts(item, clip.seconds, hop), clip, hop=hop, canvas=canvas):
            yield from decode_windows(item, part, clip, hop=hop, canvas=canvas)


def holds(window: Window, modality: str) -> bool:
    """Whether a window has something of a modality to embed; silence is nothing."""
    return modality in window.clip and not (modality == "audio" and is_silent(window.clip["audio"]))


def check_hop(hop: float) -> None:
    """Raises ConfigError on a hop that is no length of time."""
    if not (math.isfinite(hop) and (hop == 0 or hop >= 0.01)):
        raise ConfigError(f"hop is {hop}; give seconds, at least 0.01, or 0 for windows that touch")


def load(run: str | Path, *, step: str | int = "latest") -> Pretrained:
    """The model of a pretraining run.

    Args:
      run: the folder that `vatt pretrain` wrote.
      step: "latest", "best", or a number of steps.

    Raises:
      CheckpointError: no such run or checkpoint, or one that cannot be restored.
    """
    read_pretrain_config(run)  # if it is another kind of run, that is said before its weights are read
    mesh = sharding.make_mesh(MeshConfig())  # whatever devices are here, not those it trained on
    return ready(run, read_weights(run, step, mesh), mesh)


def ready(run: str | Path, found: Weights, mesh: Mesh) -> Pretrained:
    """The weights found in a pretraining run, ready to embed."""
    assert isinstance(found.task, Pretrain)
    cfg = dataclasses.replace(found.task.cfg, run=str(run))
    embedder = Embedder(cfg, mesh, found.params, found.stats)
    return Pretrained(cfg, found.step, read_tokenizer(run), embedder, mesh, found.params, found.stats)
