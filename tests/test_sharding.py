"""What divides over the devices, and what is said when it does not."""

import jax
import jax.numpy as jnp
import pytest

from vatt.config import MeshConfig
from vatt.errors import ConfigError
from vatt.sharding import SHARD_FROM, check_batch, constrain, make_mesh, state_shardings


def test_a_batch_that_the_devices_do_not_divide_is_refused_with_the_nearest_that_work():
    mesh = make_mesh(MeshConfig())
    check_batch(32, mesh)
    with pytest.raises(ConfigError, match="batch_size 30 does not divide over 8 devices; use 24 or 32"):
        check_batch(30, mesh)
    with pytest.raises(ConfigError, match=r"use 8$"):
        check_batch(3, mesh)


def test_a_mesh_that_does_not_fit_the_devices_is_refused():
    with pytest.raises(ConfigError, match="do not lay out 8 devices"):
        make_mesh(MeshConfig(fsdp=3))
    assert dict(make_mesh(MeshConfig(fsdp=4)).shape) == {"data": 2, "fsdp": 4}


def test_large_arrays_are_split_over_fsdp_along_their_largest_divisible_dimension():
    mesh = make_mesh(MeshConfig(fsdp=8))
    shapes = {
        "wide": jax.ShapeDtypeStruct((96, SHARD_FROM), jnp.float32),
        "odd": jax.ShapeDtypeStruct((SHARD_FROM + 1, 16), jnp.float32),
        "small": jax.ShapeDtypeStruct((8, 8), jnp.float32),
        "scalar": jax.ShapeDtypeStruct((), jnp.int32),
    }
    specs = {name: tuple(s.spec) for name, s in state_shardings(shapes, mesh).items()}
    assert specs == {"wide": (None, "fsdp"), "odd": (None, "fsdp"), "small": (None, None), "scalar": ()}
    alone = state_shardings(shapes, make_mesh(MeshConfig(fsdp=1)))
    assert all(set(s.spec) <= {None} for s in alone.values())


def test_constrain_is_nothing_without_a_mesh():
    x = jnp.ones((3, 5))
    assert constrain(x, "activation") is x
