"""The one way from clips to features and embeddings, once a model is trained."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from vatt import sharding
from vatt.config import Config
from vatt.data.pipeline import TOLD
from vatt.errors import NonFiniteError
from vatt.models import vatt
from vatt.train.step import bare
from vatt.transforms import to_model

# Clips that the model takes at a time, on each device, however many come: the last bits of a matrix product depend on
# its shape, and the same clip must give the same bytes whatever comes with it.
ROWS = 8
INPUTS = ("video", "video_box", "video_colour", "audio", "text")
MASKS = ("video_mask", "audio_mask")


class ByRows:
    """A jitted function of arrays [N ...], called on a fixed number of rows at a time, the last ones filled up."""

    def __init__(self, call: Callable[[dict], dict], mesh: Mesh):
        self._call, self._mesh = call, mesh
        self._rows = ROWS * mesh.size

    def __call__(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the function gives of N rows: arrays [N ...]. Keys that no function takes are passed over."""
        arrays = {name: arrays[name] for name in (*INPUTS, *MASKS, "seeds") if name in arrays}
        N = len(next(iter(arrays.values())))
        pending = []
        for start in range(0, N, self._rows):
            part = {name: _filled(x[start : start + self._rows], self._rows) for name, x in arrays.items()}
            with jax.set_mesh(self._mesh):
                pending.append(self._call(sharding.put_batch(part, self._mesh)))
        parts = jax.device_get(pending)
        features = {name: np.concatenate([part[name] for part in parts])[:N] for name in parts[0]}
        return features


class Embedder(ByRows):
    """Features and embeddings of clips, by fixed weights."""

    def __init__(self, cfg: Config, mesh: Mesh, params: dict, stats: dict):
        params = {name: value for name, value in params.items() if name != "loss"}
        super().__init__(functools.partial(_jitted(bare(cfg), mesh), params, stats), mesh)

    def __call__(self, arrays: dict[str, np.ndarray], *, seeds: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Of N clips, which may lack a modality.

        Args:
          arrays: any of `video` [N T 3P/2 P] with `video_box` [N 4] and `video_colour` [N], `audio` [N S], as
            `vatt.data.media.clip.decode_clip` gives them, and `text` [N L]. Other keys are passed over.
          seeds: [N] uint32. Each clip is varied as in training (flip, colour, noise), by its own seed alone. None: as
            it is.

        Returns:
          float32 arrays: `video`, `audio`, `text` [N D], the towers' features, before the heads; and what these give
          in the common spaces, `z_va`, `z_vt`, `z_av`, `z_at` (if the model has that head), `z_tv` [N E], not yet of
          unit length.
        """
        arrays = {name: arrays[name] for name in INPUTS if name in arrays}
        if seeds is not None:
            arrays["seeds"] = np.asarray(seeds, np.uint32)
        return super().__call__(arrays)


def unit(x: np.ndarray) -> np.ndarray:
    """x / |x| along the last axis."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True).clip(1e-12)


def check_finite(features: dict[str, np.ndarray], ids: Sequence[str]) -> None:
    """Raises NonFiniteError, naming the first clip, if a feature [N ... D] is NaN or infinite."""
    for name, x in features.items():
        bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
        if bad.any():
            raise NonFiniteError(f"{name} of {bad.sum()} clips is NaN or infinite, first {ids[int(bad.argmax())]}")


def over_views(call: Callable[[dict], dict], batches: Iterable[dict]) -> Iterator[dict]:
    """What `call` gives of every view of clips.

    Args:
      call: of N views {name: [N ...]}, {name: [N ...]}.
      batches: as `vatt.data.pipeline.evaluation_batches` yields them, [B W ...].

    Yields: what it gives of each batch's N valid clips, [N W ...]; and lists of N, such as ids, masks [N] and whatever
    else comes with a row.
    """
    for batch in batches:
        valid = batch["valid"]
        lists = {name: batch[name] for name in TOLD if name in batch}
        rows = {name: x[valid] for name, x in batch.items() if name != "valid" and name not in lists}
        views = {name: rows.pop(name) for name in INPUTS if name in rows and name != "text"}
        N, W = next(iter(views.values())).shape[:2]
        masks = {name: np.repeat(rows[name], W) for name in MASKS if name in rows}
        out = call({name: x.reshape(N * W, *x.shape[2:]) for name, x in views.items()} | masks)
        yield rows | {name: x.reshape(N, W, *x.shape[1:]) for name, x in out.items()} | lists


def embed_views(embedder: Callable[[dict], dict], batches: Iterable[dict]) -> Iterator[dict]:
    """Features of every view of clips, [N W D], as `Embedder` names them; those of `text` in one view, [N D]; and what
    else comes with a row, as `over_views` yields it.

    Raises:
      NonFiniteError: a feature is NaN or infinite.
    """
    for batch in over_views(embedder, batches):
        features = embedder({"text": batch.pop("text")}) if "text" in batch else {}
        batch |= features
        arrays = {name: x for name, x in batch.items() if name not in TOLD}
        check_finite({name: x for name, x in arrays.items() if x.dtype == np.float32}, batch["ids"])
        yield batch


def _filled(x: np.ndarray, rows: int) -> np.ndarray:
    return x if len(x) == rows else np.concatenate([x, np.zeros((rows - len(x), *x.shape[1:]), x.dtype)])


@functools.cache
def _jitted(cfg: Config, mesh: Mesh):
    def run(params: dict, stats: dict, arrays: dict) -> dict:
        arrays = dict(arrays)
        keys = jax.vmap(jax.random.key)(arrays.pop("seeds")) if "seeds" in arrays else None
        batch = to_model(arrays, cfg, keys)
        return vatt.features(cfg.model, cfg.clip, params, stats, batch)

    return jax.jit(run, out_shardings=sharding.replicated(mesh))
