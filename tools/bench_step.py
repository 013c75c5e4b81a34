"""Times a training step beside its own matrix products, and beside PyTorch on request.

    python tools/bench_step.py --preset tiny --batch-size 64 --torch

All contestants run in turn, round after round, so that a busy machine slows them alike: read the ratios.
"""

import dataclasses
import functools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vatt import sharding
from vatt.config import ClipConfig, Config, OptimConfig, load_pretraining
from vatt.data.sources import open_source
from vatt.data.text import Vocabulary
from vatt.memory import keep_freed_memory
from vatt.models.cost import Matmul, matmuls
from vatt.presets import PRESETS, tiny_clip
from vatt.tasks.pretrain import Pretrain
from vatt.train.pretrain import open_stream
from vatt.train.step import make_state, make_step
from vatt.transforms import to_model

REST = 0.02  # seconds between contestants: OpenMP's threads spin a while after their work


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    preset: Literal["tiny", "bbs", "mbs", "lbs", "ma_medium"] = "tiny"  # a model of vatt.presets
    experiment: str = ""  # an experiment file, instead of a preset
    batch_size: int = 64  # clips a step
    source: str = ""  # folder of media, or demo:DIR/train, to time the input with; empty: a synthetic batch
    rounds: int = 20  # times that each contestant runs
    torch: bool = False  # also time PyTorch, eager and compiled


def main(args: Args) -> None:
    keep_freed_memory()
    console, cfg = Console(), config(args)
    mesh = sharding.make_mesh(cfg.mesh)
    batch, input_seconds = make_batch(cfg, args.source)
    with jax.set_mesh(mesh):
        task = Pretrain(cfg)
        began = time.perf_counter()
        state = make_state(cfg, task, mesh)
        on_device = sharding.put_batch(batch, mesh)
        step = make_step(cfg, task, mesh).compiled(state, on_device)
        compile_seconds = time.perf_counter() - began
        products = matmuls(make_step(cfg, task, mesh), state, on_device)
        holder = [state]

        def run_step():
            holder[0], metrics = step(holder[0], on_device)
            jax.block_until_ready((holder[0], metrics))

        contestants = {
            "step": run_step,
            "transfer": lambda: jax.block_until_ready(sharding.put_batch(batch, mesh)),
            "products": products_alone(products),
        }
        if args.torch:
            contestants |= torch_steps(cfg, jax.device_get(to_model(batch, cfg, None)))
        seconds = interleave(contestants, args.rounds)

    flops = sum(product.flops * count for product, count in products)
    what = args.experiment or args.preset
    device = f"{mesh.size} x {mesh.devices.flat[0].device_kind}"
    console.print(step_table(f"{what}, batch {args.batch_size}, {device}", args, seconds, input_seconds, flops))
    console.print(f"Compiled in {compile_seconds:.0f} s.")
    alone = ratio(seconds["products"], seconds["step"])
    number = sum(count for _, count in products)
    console.print(f"The step's {number} matrix products, run by themselves in XLA, take {alone:.0%} of its time.")
    if args.torch:
        console.print(torch_table(seconds))


def config(args: Args) -> Config:
    if args.experiment:
        return dataclasses.replace(load_pretraining(args.experiment), batch_size=args.batch_size)
    clip = tiny_clip() if args.preset == "tiny" else ClipConfig()
    return Config(
        batch_size=args.batch_size,
        steps=1_000,
        clip=clip,
        model=PRESETS[args.preset](),
        optim=OptimConfig(warmup_steps=50),
    )


def make_batch(cfg: Config, source: str) -> tuple[dict[str, np.ndarray], float | None]:
    """A batch, and the median seconds that the input takes for one; None for a synthetic batch."""
    clip, B = cfg.clip, cfg.batch_size
    if not source:
        r = np.random.default_rng(0)
        return {
            "video": r.integers(0, 256, (B, clip.frames, clip.size, clip.size, 3), dtype=np.uint8),
            "audio": r.normal(size=(B, clip.samples)).astype(np.float32),
            "text": r.integers(1, cfg.model.text.vocab_size, (B, clip.candidates, clip.words), dtype=np.int32),
            "audio_mask": np.ones(B, bool),
            "text_mask": np.ones((B, clip.candidates), bool),
        }, None
    opened = open_source(source, seconds=clip.seconds)
    vocabulary = Vocabulary.from_counts(opened.word_counts(), cfg.model.text.vocab_size)
    stream = open_stream(cfg, [opened], vocabulary)
    batches = stream.iterate()
    seconds, batch = [], next(batches)
    for _ in range(8):
        began = time.perf_counter()
        batch = next(batches)
        seconds.append(time.perf_counter() - began)
    batches.close()  # pyright: ignore[reportAttributeAccessIssue]
    return {name: x for name, x in batch.items() if isinstance(x, np.ndarray)}, statistics.median(seconds)


def products_alone(products: list[tuple[Matmul, int]]) -> Callable[[], None]:
    """Runs every matrix product as often as the step does, in the faster of two forms: with the step's own
    dimension numbers, or with operands that already lie as [batch M K] and [batch K N].

    One jitted function a shape, so that starting it does not count as arithmetic. Each repetition is a
    parameter of its own, which keeps XLA from sharing results.
    """

    def repeated(dot, lhs_shape, rhs_shape, product: Matmul, count: int) -> Callable[[], object]:
        r = np.random.default_rng(0)
        lhs, rhs = (jax.numpy.asarray(r.normal(size=n), product.lhs.dtype) for n in (lhs_shape, rhs_shape))
        all_of_them = jax.jit(lambda lefts, rights: [dot(x, y) for x, y in zip(lefts, rights, strict=True)])
        return lambda: jax.block_until_ready(all_of_them([lhs] * count, [rhs] * count))

    fastest = []
    for product, count in products:
        numbers, dtype = product.dimension_numbers, product.out_dtype
        as_written = functools.partial(jax.lax.dot_general, dimension_numbers=numbers, preferred_element_type=dtype)
        plain = functools.partial(jax.numpy.matmul, preferred_element_type=dtype)
        batch, m, k, n = product.sizes
        forms = {
            "as written": repeated(as_written, product.lhs.shape, product.rhs.shape, product, count),
            "plain": repeated(plain, (batch, m, k), (batch, k, n), product, count),
        }
        seconds = interleave(forms, 5, rest=0)
        fastest.append(min(forms.items(), key=lambda form: min(seconds[form[0]]))[1])

    def run():
        for repeat in fastest:
            repeat()

    return run


def torch_steps(cfg: Config, batch: dict[str, np.ndarray]) -> dict[str, Callable[[], object]]:
    from tools import torch_reference as reference

    tensors = reference.tensors(batch)
    steps: dict[str, Callable[[], object]] = {}
    for compiled in (False, True):
        for attention in ("sdpa", "plain"):
            step = reference.make_step(reference.TorchVatt(cfg, attention=attention), compiled=compiled)
            name = f"torch {'compiled' if compiled else 'eager'}, {attention} attention"
            steps[name] = lambda step=step: float(step(tensors))
    model = reference.TorchVatt(cfg, last_block="all")
    full = reference.make_step(model)
    return steps | {"torch eager, sdpa attention, whole last block": lambda: float(full(tensors))}


def interleave(contestants: dict[str, Callable[[], object]], rounds: int, rest: float = REST) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after two rounds to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 2):
        for name, run in contestants.items():
            time.sleep(rest)
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: values[2:] for name, values in seconds.items()}


def ratio(a: list[float], b: list[float]) -> float:
    """The median over the rounds of a / b: two that ran side by side."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def spread(seconds: list[float]) -> str:
    low, _, high = statistics.quantiles(seconds, n=4)
    return f"{1e3 * low:.1f}-{1e3 * high:.1f}"


def step_table(title: str, args: Args, seconds: dict, input_seconds: float | None, flops: int) -> Table:
    table = Table(title=title)
    for column in ("part", "ms a batch", "middle half", "clips/s", "GFLOP/s"):
        table.add_column(column, justify="left" if column == "part" else "right")

    def row(part: str, times: list[float], rate: str = ""):
        median = statistics.median(times)
        table.add_row(part, f"{1e3 * median:.1f}", spread(times), f"{args.batch_size / median:.0f}", rate)

    def gflops(times: list[float]) -> str:
        return f"{flops / statistics.median(times) / 1e9:.1f}"

    if input_seconds is None:
        table.add_row("input (synthetic)", "", "", "")
    else:
        rate = f"{args.batch_size / max(input_seconds, 1e-9):.0f}"
        table.add_row("input: decode and batch", f"{1e3 * input_seconds:.1f}", "", rate)
    row("transfer to the device", seconds["transfer"])
    row("compute: one training step", seconds["step"], gflops(seconds["step"]))
    row("its matrix products by themselves", seconds["products"], gflops(seconds["products"]))
    return table


def torch_table(seconds: dict) -> Table:
    table = Table(title="The same step in PyTorch")
    for column in ("", "ms a batch", "middle half", "our speed / its speed"):
        table.add_column(column, justify="right" if column else "left")
    for name, times in seconds.items():
        if name.startswith("torch"):
            median = f"{1e3 * statistics.median(times):.1f}"
            table.add_row(name, median, spread(times), f"{ratio(times, seconds['step']):.2f}")
    return table


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
