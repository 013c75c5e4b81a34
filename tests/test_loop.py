"""The loop, with a task of one number: what it saves when measuring a state ends otherwise than by a result."""

import os
import signal
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from vatt import sharding
from vatt.config import CheckpointConfig, ClassifyConfig, FinetuneConfig, LogConfig, MeshConfig
from vatt.errors import DataError, NonFiniteError
from vatt.train.checkpoint import Checkpoints, open_run
from vatt.train.log import read_metrics
from vatt.train.loop import Job, train

MESH = sharding.make_mesh(MeshConfig(), jax.devices()[:1])


@dataclass(frozen=True)
class One:
    """Moves a number."""

    cfg: FinetuneConfig

    def init(self, key):
        return {"classifier": {"bias": jnp.zeros(1)}}, {}

    def loss(self, params, stats, batch, key):
        loss = ((params["classifier"]["bias"] - batch["audio"].mean()) ** 2).sum()
        return loss, (stats, {"loss": loss})


class Stream:
    sources = ()

    def iterate(self, start):
        lists = {"ids": ["a"], "starts": [0.0], "sources": [0], "events": [()]}
        while True:
            yield {"audio": jnp.ones(1)} | {name: list(value) for name, value in lists.items()}


class Found:
    def named(self):
        return {"top_1": 50.0}


@pytest.fixture
def job(tmp_path):
    cfg = FinetuneConfig(
        run=str(tmp_path / "run"),
        steps=3,
        batch_size=1,
        checkpoint=CheckpointConfig(every=100, best=""),
        log=LogConfig(every=1, tensorboard=False),
    )
    return Job(
        cfg=cfg,
        task=One(cfg),
        mesh=MESH,
        stream=Stream(),  # pyright: ignore[reportArgumentType]
        first=lambda state: state,
        measure=lambda state: Found(),
        measured="classification",
    )


def kept(job) -> list[int]:
    with Checkpoints(job.cfg.run, job.cfg.checkpoint, access="read") as checkpoints:
        return list(checkpoints.steps)


@pytest.mark.parametrize("error", [NonFiniteError("nan"), DataError("none"), MemoryError(), ValueError("of ours")])
def test_an_error_in_measuring_loses_no_step(job, error):
    def fail(state):
        raise error

    with pytest.raises(type(error)):
        train(replace(job, measure=fail), Console(quiet=True))
    assert kept(job) == [3]
    assert train(job, Console(quiet=True))[1] is not None


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_measuring_at_once_and_the_same_command_measures(job, name):
    def stopped(state):
        os.kill(os.getpid(), name)
        raise AssertionError("measuring went on")

    said = Console(record=True, width=200)
    for _ in range(2):  # in the run that trains, and in one that has only to measure
        assert train(replace(job, measure=stopped), said)[1] is None
        assert kept(job) == [3]
        assert "Step 3 of 3 is saved, but not measured. The same command measures it." in said.export_text()
    assert train(job, said)[1] is not None


def test_ctrl_c_while_measuring_in_the_middle_saves_and_stops_there(job):
    job = replace(job, cfg=replace(job.cfg, evaluate=replace(job.cfg.evaluate, every=2)))

    def stopped(state):
        raise KeyboardInterrupt

    said = Console(record=True, width=200)
    assert train(replace(job, measure=stopped), said)[1] is None
    assert kept(job) == [2]
    assert "Stopped after step 2 of 3 and saved." in said.export_text()
    assert train(job, said)[1] is not None
    assert [line["step"] for line in read_metrics(job.cfg.run) if "classification/top_1" in line] == [3]


def test_what_only_measuring_reads_may_change_on_a_finished_run(job):
    cfg = replace(job.cfg, init="runs/x", classify=ClassifyConfig(head="text"))
    open_run(cfg, [], {})
    train(replace(job, cfg=cfg), Console(quiet=True))
    changed = replace(cfg.classify, wise=(0.5,), average="probabilities")
    open_run(replace(cfg, classify=changed), [], {})
