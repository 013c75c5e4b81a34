"""What the training loop asks of a task."""

from typing import Protocol

import jax


class Task(Protocol):
    """Model, loss and metrics as functions of plain dicts of arrays. Hashable: jitted functions are kept by it."""

    def init(self, key: jax.Array) -> tuple[dict, dict]:
        """Fresh parameters and batch-norm statistics."""
        ...

    def loss(self, params: dict, stats: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, tuple[dict, dict]]:
        """The scalar that is minimised, then the new statistics and named metrics."""
        ...
