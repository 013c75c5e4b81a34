"""Metrics on plain numpy arrays. No jax, no model, no files."""

from vatt.metrics.ranking import chance as chance
from vatt.metrics.ranking import retrieval as retrieval
from vatt.metrics.ranking import retrieval_blocks as retrieval_blocks
