"""What the training loop asks of a task."""

import dataclasses
from typing import Any, ClassVar, Protocol

import jax

from vatt.config import RunConfig


class Task(Protocol):
    """Model, loss and metrics as functions of plain dicts of arrays. A frozen dataclass: jitted functions are kept by
    it."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def cfg(self) -> RunConfig: ...

    def init(self, key: jax.Array) -> tuple[dict, dict]:
        """Fresh parameters and batch-norm statistics."""
        ...

    def loss(self, params: dict, stats: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, tuple[dict, dict]]:
        """The scalar that is minimised, then the new statistics and named metrics."""
        ...
