"""Evaluates a run from its folder alone."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from vatt.config import Config, FinetuneConfig, RunConfig
from vatt.data import builders
from vatt.data.faults import FAULTS
from vatt.data.items import Source
from vatt.data.labels import Labels, labelled, with_labels
from vatt.data.listing.rows import parse_source
from vatt.data.pipeline import evaluation_batches
from vatt.data.sources import BOTH, open_clips
from vatt.data.text import Tokenizer
from vatt.errors import DataError, MediaError, listed
from vatt.evals.classification import Classification, classify
from vatt.evals.embedding import Embedder
from vatt.evals.finetuned import load_classifier
from vatt.evals.pretrained import Pretrained, load
from vatt.evals.retrieval import Retrieval, evaluate
from vatt.progress import bar
from vatt.train.checkpoint import read_config


def evaluate_run(run: str | Path, step: str, source: str, console: Console) -> Retrieval | Classification:
    """Zero-shot retrieval of a checkpoint of a pretraining run, or classification of a fine-tuning run.

    Args:
      run: the folder that `vatt pretrain` or `vatt finetune` wrote.
      step: "latest", "best", or a number of steps.
      source: of held-out clips (see `vatt data --help`); "" for the one that the run's configuration names.

    Raises:
      CheckpointError: no such run or checkpoint, or one that cannot be restored.
      DataError: no clips to evaluate on.
    """
    cfg = read_config(run)
    source = source or cfg.evaluate.source
    if not source:
        raise DataError(f"{run} names no evaluate.source; give a folder of clips with --source")
    model = load_classifier(run, step=step) if isinstance(cfg, FinetuneConfig) else load(run, step=step)
    seen = cfg.classify.modalities if isinstance(cfg, FinetuneConfig) else BOTH
    with bar(console, source) as progress:  # what is left out is said, not refused
        clips = open_clips(source, cfg.clip, max_bad=1.0, modalities=seen, progress=progress)
    if isinstance(model, Pretrained):
        print_faults(console, clips)
        return evaluate_source(model.cfg, clips, model.tokenizer, model.embedder, console)
    how = model.task.cfg.classify
    clips = labelled(with_labels(clips), model.task.classes, how.labels, how.modalities)
    print_faults(console, clips)
    return classify_source(model.task.cfg, clips, model.task.classes, model.logits, console)


def evaluate_source(
    cfg: Config, source: Source, tokenizer: Tokenizer, embedder: Embedder, console: Console
) -> Retrieval:
    """Zero-shot retrieval on every clip of `source` that can be decoded. Says which cannot."""
    with heldout_batches(cfg, with_labels(source), console, tokenizer=tokenizer) as batches:
        return evaluate(embedder, batches, group=grouping(source.name))


def grouping(source: str) -> Callable[[str, str], str]:
    """What a clip of a source was cut from, by its id and its file: as the protocol of a published set has it, else its
    file."""
    parsed = parse_source(source)
    of_id = getattr(builders.load(parsed.name), "group", None) if parsed.kind == "builder" else None
    return (lambda id, media: of_id(id)) if of_id else (lambda id, media: media)


def classify_source(
    cfg: FinetuneConfig, source: Source, classes: tuple[str, ...], logits: Callable[[dict], dict], console: Console
) -> Classification:
    """Classification of every clip of `source` that can be decoded. Says which cannot."""
    how = cfg.classify
    with heldout_batches(cfg, source, console, labels=Labels(classes, how.modalities)) as batches:
        return classify(logits, batches, labels=how.labels, average=how.average)


@contextlib.contextmanager
def heldout_batches(
    cfg: RunConfig,
    source: Source,
    console: Console,
    *,
    tokenizer: Tokenizer | None = None,
    labels: Labels | None = None,
) -> Iterator[Iterator[dict]]:
    """Every clip once, as cfg.evaluate wants it seen. Says at the end which could not be decoded."""
    failed: list[MediaError] = []
    batches = evaluation_batches(
        source,
        clip=cfg.clip,
        canvas=cfg.canvas,
        tokenizer=tokenizer,
        labels=labels,
        windows=cfg.evaluate.windows,
        crops=cfg.evaluate.crops,
        batch_size=cfg.evaluate.batch_size,
        workers=cfg.data.workers,
        failed=failed,
    )
    try:
        yield batches
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
