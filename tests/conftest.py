"""Eight simulated CPU devices, so that every test can lay out a mesh; and a compilation cache for this session."""

import os

# Before jax starts: it reads these once.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)

import pytest  # noqa: E402

from vatt.data.demo import make_demo  # noqa: E402


@pytest.fixture(scope="session")
def demo_media(tmp_path_factory):
    """A folder of demo media: 40 training clips, 16 held-out ones."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder, seed=0, clips=40, heldout=16)
    return folder
