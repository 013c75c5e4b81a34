"""Mesh and placement rules: the only file that imports PartitionSpec.

The batch is split over the axes `data` and `fsdp`; parameters and optimiser moments are split over `fsdp` along
their largest divisible dimension. With global arrays, in-batch negatives and batch norm are cross-device by
construction: nothing outside this file knows how many devices there are.
"""

import math
from typing import Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vatt.config import MeshConfig
from vatt.errors import ConfigError

BATCH_AXES = ("data", "fsdp")
SHARD_FROM = 2**14  # parameters smaller than this are cheaper to replicate than to gather


def make_mesh(cfg: MeshConfig, devices=None) -> Mesh:
    """A mesh with axes data and fsdp over all devices (or those given). Raises ConfigError if they do not divide."""
    devices = jax.devices() if devices is None else devices
    data = len(devices) // cfg.fsdp if cfg.data == -1 else cfg.data
    if data * cfg.fsdp != len(devices):
        raise ConfigError(
            f"mesh.data {cfg.data} and mesh.fsdp {cfg.fsdp} do not lay out {len(devices)} devices; "
            f"their product must be {len(devices)} (mesh.data -1 takes what fsdp leaves)"
        )
    return jax.make_mesh((data, cfg.fsdp), BATCH_AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def check_batch(batch_size: int, mesh: Mesh, name: str = "batch_size") -> None:
    """Raises ConfigError, naming the nearest sizes that work, when the devices do not divide the batch."""
    n = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    if batch_size % n:
        below, above = batch_size // n * n, -(-batch_size // n) * n
        nearest = f"{below} or {above}" if below else f"{above}"
        raise ConfigError(f"{name} {batch_size} does not divide over {n} devices; use {nearest}")


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def state_shardings(shapes, mesh: Mesh):
    """NamedShardings for a tree of arrays or ShapeDtypeStructs: each large one split over fsdp along its largest
    dimension that divides, the rest replicated."""
    n = mesh.shape["fsdp"]

    def rule(x) -> NamedSharding:
        spec: list[str | None] = [None] * len(x.shape)
        if n > 1 and np.prod(x.shape, dtype=np.int64) >= SHARD_FROM:
            for axis in sorted(range(len(x.shape)), key=lambda axis: -x.shape[axis]):
                if x.shape[axis] % n == 0:
                    spec[axis] = "fsdp"
                    break
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(rule, shapes)


def constrain(x: jax.Array, kind: Literal["activation", "weight"]) -> jax.Array:
    """Tells the partitioner where `x` belongs at a layer's entry: activations on the batch axes, weights gathered.

    Left to itself it may shard activations along features, which costs an order of magnitude of memory on large
    meshes. A no-op outside a mesh.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    spec = PartitionSpec(BATCH_AXES) if kind == "activation" else PartitionSpec()
    return jax.lax.with_sharding_constraint(x, spec)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Places a host's arrays on the mesh, split along their first axis."""
    return jax.device_put(batch, batch_sharding(mesh))
