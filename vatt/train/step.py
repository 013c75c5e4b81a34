"""The training state and the jitted step.

The state is one dict of arrays, {step, params, stats, opt} and ema if asked for. Randomness is the seed's key folded
with the step, so that nothing else need be saved.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from vatt import sharding
from vatt.config import CheckpointConfig, DataConfig, EvaluateConfig, FinetuneConfig, LogConfig, RunConfig
from vatt.tasks.task import Task
from vatt.train.optim import groups, make_optimizer, rules, schedule

State = dict[str, Any]
Run = TypeVar("Run", bound=RunConfig)
T = TypeVar("T", bound=Task)
STEPS = 1  # sets the keys of the steps apart from the key of the parameters


def init_state(cfg: RunConfig, task: Task, seed: int | jax.Array) -> State:
    """The state before the first step."""
    params, stats = task.init(jax.random.key(seed))
    state = {"step": jnp.zeros((), jnp.int32), "params": params, "stats": stats}
    state["opt"] = make_optimizer(cfg, params).init(params)
    if cfg.optim.ema:
        state["ema"] = params
    return state


def abstract_state(cfg: RunConfig, task: Task, mesh: Mesh) -> State:
    """Shapes, types and shardings of the state on `mesh`, without making it."""
    return _abstract_state(bare(cfg), bare_task(task), mesh)


def make_state(cfg: RunConfig, task: Task, mesh: Mesh) -> State:
    """The state before the first step, born sharded."""
    with jax.set_mesh(mesh):
        return _init(bare(cfg), bare_task(task), mesh)(np.uint32(cfg.seed))


def bare(cfg: Run) -> Run:
    """The configuration without what decides nothing that is compiled. Programs are kept by it: one serves all seeds,
    whatever the folders of runs are called."""
    start = {"init": "-", "init_step": "latest"} if isinstance(cfg, FinetuneConfig) else {}
    return dataclasses.replace(
        cfg,
        **start,
        run="-",
        seed=0,
        data=DataConfig(),
        evaluate=EvaluateConfig(),
        checkpoint=CheckpointConfig(best=""),
        log=LogConfig(),
    )


def bare_task(task: T) -> T:
    return dataclasses.replace(task, cfg=bare(task.cfg))


@functools.lru_cache(8)
def _abstract_state(cfg: RunConfig, task: Task, mesh: Mesh) -> State:
    shapes = jax.eval_shape(functools.partial(init_state, cfg, task), np.uint32(0))
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, sharding.state_shardings(shapes, mesh)
    )


@functools.lru_cache(8)
def _init(cfg: RunConfig, task: Task, mesh: Mesh) -> Callable[[np.uint32], State]:
    shardings = jax.tree.map(lambda x: x.sharding, _abstract_state(cfg, task, mesh))
    return jax.jit(functools.partial(init_state, cfg, task), out_shardings=shardings)


def weights(state: State) -> dict:
    """The parameters that evaluation uses: the averaged ones if the run keeps them."""
    return state.get("ema", state["params"])


def step_key(seed: int | jax.Array, step: int | jax.Array) -> jax.Array:
    """The key of all that is random in a step (from 0)."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), STEPS), step)


@dataclasses.dataclass(frozen=True)
class Step:
    """`step(state, batch) -> (state, metrics)`, jitted. The state passed in is donated: use the one returned."""

    jitted: Any
    seed: np.uint32

    def __call__(self, state: State, batch: dict) -> tuple[State, dict]:
        return self.jitted(state, batch, self.seed)

    def compiled(self, state: State, batch: dict) -> "Step":
        """The same for such states and batches alone; its `jitted` tells what it costs."""
        return Step(self.jitted.lower(state, batch, self.seed).compile(), self.seed)


def make_step(cfg: RunConfig, task: Task, mesh: Mesh) -> Step:
    """The step of a run."""
    return Step(_make_step(bare(cfg), bare_task(task), mesh), np.uint32(cfg.seed))


@functools.lru_cache(8)
def _make_step(cfg: RunConfig, task: Task, mesh: Mesh) -> Callable[[State, dict, np.uint32], tuple[State, dict]]:
    shapes = _abstract_state(cfg, task, mesh)
    optimizer = make_optimizer(cfg, shapes["params"])
    rate = schedule(cfg.optim, cfg.steps)
    labels = jax.tree.leaves(groups(shapes["params"], rules(cfg)))
    shardings = jax.tree.map(lambda x: x.sharding, shapes)

    def trained(grads: dict) -> list:  # the others are asked for by nobody, and not computed
        return [x for x, label in zip(jax.tree.leaves(grads), labels, strict=True) if label != "frozen"]

    def step(state: State, batch: dict, seed: jax.Array) -> tuple[State, dict]:
        key = step_key(seed, state["step"])
        gradient = jax.value_and_grad(task.loss, has_aux=True)
        (_, (stats, metrics)), grads = gradient(state["params"], state["stats"], batch, key)
        updates, opt = optimizer.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics |= {"grad_norm": optax.global_norm(trained(grads)), "learning_rate": rate(state["step"])}
        new = {"step": state["step"] + 1, "params": params, "stats": stats, "opt": opt}
        if cfg.optim.ema:
            new["ema"] = jax.tree.map(
                lambda mean, x: cfg.optim.ema * mean + (1 - cfg.optim.ema) * x, state["ema"], params
            )
        return new, metrics

    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, sharding.replicated(mesh)))
