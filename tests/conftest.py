"""Eight simulated CPU devices, so that every test can lay out a mesh; and demo media that tests share."""

import atexit
import os
import shutil
import tempfile
from importlib.metadata import version

import hypothesis
import pytest

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is no fault of the code
hypothesis.settings.load_profile("any machine")

jax_version = version("jax")

# Read when jax starts, by the processes that tests start as well.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
if jax_version.startswith("0.10."):  # flags come and go, and XLA ends the process at one it does not know
    # Tests compile many programs and run each for a moment: this compiles four times sooner, and runs slower.
    quick = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick}"
if "PYTEST_XDIST_WORKER" not in os.environ and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Many tests build the same step; compiled once, it loads in a second.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="vatt-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def demo_media(tmp_path_factory):
    """A folder of demo media: 40 training clips, 16 held-out ones."""
    from vatt.data.demo import make_demo

    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder, seed=0, clips=40, heldout=16)
    return folder


@pytest.fixture(scope="session")
def tiny_run(demo_media, tmp_path_factory):
    """The folder of a run whose weights are as they were drawn. Audio has a head into the text space."""
    from dataclasses import replace

    import jax
    from rich.console import Console

    from tests.media import small_demo
    from vatt import sharding
    from vatt.config import MeshConfig
    from vatt.tasks.pretrain import Pretrain
    from vatt.train.checkpoint import Checkpoints, open_run, tokenizer_text
    from vatt.train.loop import open_sources
    from vatt.train.pretrain import open_tokenizer
    from vatt.train.step import make_state

    cfg = small_demo(demo_media, tmp_path_factory.mktemp("tiny") / "run")
    cfg = replace(cfg, model=replace(cfg.model, heads=replace(cfg.model.heads, audio_text=True)))
    sources, _ = open_sources(cfg, Console(quiet=True))
    open_run(cfg, sources, tokenizer_text(open_tokenizer(cfg, sources)))
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])  # compiles soonest
    with Checkpoints(cfg.run, cfg.checkpoint) as checkpoints:
        checkpoints.save(2, make_state(cfg, Pretrain(cfg), mesh))
    return cfg.run
