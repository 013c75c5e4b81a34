"""Eight simulated CPU devices, so that every test can lay out a mesh; and demo media that tests share."""

import os

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # read when jax starts
os.environ["JAX_NUM_CPU_DEVICES"] = "8"


@pytest.fixture(scope="session")
def demo_media(tmp_path_factory):
    """A folder of demo media: 40 training clips, 16 held-out ones."""
    from vatt.data.demo import make_demo

    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder, seed=0, clips=40, heldout=16)
    return folder
