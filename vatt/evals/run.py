"""Evaluates a run from its folder alone."""

from collections import Counter
from pathlib import Path

from rich.console import Console

from vatt.config import Config
from vatt.data.faults import FAULTS
from vatt.data.items import Source
from vatt.data.pipeline import evaluation_batches
from vatt.data.sources import open_clips
from vatt.data.text import Tokenizer
from vatt.errors import DataError, MediaError, listed
from vatt.evals.embedding import Embedder
from vatt.evals.pretrained import load
from vatt.evals.retrieval import Retrieval, evaluate
from vatt.progress import bar


def evaluate_run(run: str | Path, step: str, source: str, console: Console) -> Retrieval:
    """Zero-shot retrieval of a checkpoint of `run`.

    Args:
      run: the folder that `vatt pretrain` wrote.
      step: "latest", "best", or a number of steps.
      source: of held-out clips (see `vatt data --help`); "" for the one that the run's configuration names.

    Raises:
      CheckpointError: no such run or checkpoint, or one that cannot be restored.
      DataError: no clips to evaluate on.
    """
    model = load(run, step=step)
    cfg = model.cfg
    source = source or cfg.evaluate.source
    if not source:
        raise DataError(f"{run} names no evaluate.source; give a folder of clips with --source")
    with bar(console, source) as progress:
        clips = open_clips(source, cfg.clip, max_bad=1.0, progress=progress)  # what is left out is said, not refused
    print_faults(console, clips)
    return evaluate_source(cfg, clips, model.tokenizer, model.embedder, console)


def evaluate_source(
    cfg: Config, source: Source, tokenizer: Tokenizer, embedder: Embedder, console: Console
) -> Retrieval:
    """Zero-shot retrieval on every clip of `source` that can be decoded. Says which cannot."""
    failed: list[MediaError] = []
    batches = evaluation_batches(
        source,
        clip=cfg.clip,
        canvas=cfg.canvas,
        tokenizer=tokenizer,
        windows=cfg.evaluate.windows,
        crops=cfg.evaluate.crops,
        batch_size=cfg.evaluate.batch_size,
        workers=cfg.data.workers,
        failed=failed,
    )
    try:
        return evaluate(embedder, batches)
    finally:
        if failed:
            console.print(
                f"{source.name}: {len(failed)} of {len(source)} clips cannot be decoded and are not in the figures:\n"
                + listed([str(error) for error in failed]),
                highlight=False,
            )


def print_faults(console: Console, source: Source) -> None:
    """Says what was left out of a source when it was opened, or will be masked."""
    if source.faults:
        kinds = Counter(fault.reason for fault in source.faults).most_common()
        console.print(
            f"{source.name}: {len(source)} clips. {'; '.join(f'{n} x {FAULTS[kind].says}' for kind, n in kinds)}:\n"
            + listed([f"{fault.id}: {fault.detail}" if fault.detail else fault.id for fault in source.faults]),
            highlight=False,
        )
