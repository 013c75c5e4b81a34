"""vatt: self-supervised pretraining on video, audio and text, in JAX."""

__version__ = "0.1.0"
