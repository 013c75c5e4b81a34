"""Metrics on plain numpy arrays. No jax, no model, no files."""

from vatt.metrics.classes import d_prime as d_prime
from vatt.metrics.classes import multi_label as multi_label
from vatt.metrics.classes import single_label as single_label
from vatt.metrics.ranking import chance as chance
from vatt.metrics.ranking import retrieval as retrieval
