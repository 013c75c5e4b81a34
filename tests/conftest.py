"""Eight simulated CPU devices, so that every test can lay out a mesh; and a compilation cache for this session."""

import os

# Before jax starts: it reads these once.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
