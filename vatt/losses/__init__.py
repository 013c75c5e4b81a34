"""Contrastive losses as pure functions of plain arrays.

They know no mesh: under global arrays the negatives are those of the whole batch, over all devices.
"""

from vatt.losses.contrastive import mil_nce, nce, sigmoid

__all__ = ["mil_nce", "nce", "sigmoid"]
