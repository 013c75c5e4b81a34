"""vatt: self-supervised pretraining on video, audio and text, in JAX."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vatt.evals.pretrained import load as load

__version__ = "0.1.0"


def __getattr__(name: str):
    if name == "load":  # not before it is asked for: it brings jax
        from vatt.evals.pretrained import load

        return load
    raise AttributeError(f"module 'vatt' has no attribute {name!r}")
