"""A pretraining run: config -> clips -> words -> the loop -> retrieval."""

from collections import Counter

import jax
import numpy as np
from rich.console import Console

from vatt.config import Config
from vatt.data.items import Source
from vatt.data.pipeline import TrainStream
from vatt.data.text import Tokenizer, Vocabulary, load_tokenizer, load_word2vec
from vatt.errors import ConfigError, DataError
from vatt.evals.embedding import Embedder
from vatt.evals.retrieval import Retrieval
from vatt.evals.run import evaluate_source
from vatt.tasks.pretrain import Pretrain
from vatt.train.checkpoint import has_checkpoint, open_run, read_tokenizer, tokenizer_text
from vatt.train.loop import Job, begin, open_sources, train, with_absolute_sources
from vatt.train.step import State, weights


def pretrain(cfg: Config, console: Console) -> Retrieval | None:
    """Runs or continues a pretraining run. Returns the last retrieval, or None if interrupted or not asked for.

    Raises:
      ConfigError, DataError, CheckpointError: what the user can mend, before the first step where possible.
      NonFiniteError: the loss was NaN or infinite; names the step and its clips.
    """
    cfg = with_absolute_sources(cfg)
    mesh = begin(cfg, console)
    sources, heldout = open_sources(cfg, console)
    tokenizer = open_tokenizer(cfg, sources)
    vectors = word_vectors(cfg, tokenizer, console)
    open_run(cfg, sources, tokenizer_text(tokenizer))

    def measure(state: State) -> Retrieval:
        assert heldout is not None
        embedder = Embedder(cfg, mesh, weights(state), state["stats"])
        return evaluate_source(cfg, heldout, tokenizer, embedder, console)

    job = Job(
        cfg=cfg,
        task=Pretrain(cfg),
        mesh=mesh,
        stream=open_stream(cfg, sources, tokenizer),
        first=lambda state: state if vectors is None else with_word_vectors(state, vectors),
        measure=measure if heldout else None,
        measured="retrieval",
    )
    _, result = train(job, console)
    assert result is None or isinstance(result, Retrieval)
    return result


def open_tokenizer(cfg: Config, sources: list[Source]) -> Tokenizer:
    """That of the run's checkpoints, else the file that the config names, else the words of the training captions."""
    if has_checkpoint(cfg.run):
        return read_tokenizer(cfg.run)
    size = cfg.model.text.vocab_size
    if not cfg.data.vocabulary:
        return Vocabulary.from_counts(sum((source.word_counts() for source in sources), Counter()), size)
    tokenizer = load_tokenizer(cfg.data.vocabulary)
    if len(tokenizer) > size:
        raise DataError(
            f"{cfg.data.vocabulary} has {len(tokenizer)} entries with padding and unknown; model.text.vocab_size is "
            f"{size}. Set --model.text.vocab-size {len(tokenizer)}, or make a smaller one"
        )
    return tokenizer


def word_vectors(cfg: Config, tokenizer: Tokenizer, console: Console) -> np.ndarray | None:
    """The vectors [V E] of model.text.word2vec, if it is set."""
    if not cfg.model.text.word2vec:
        return None
    if not isinstance(tokenizer, Vocabulary):
        raise ConfigError("model.text.word2vec holds words; it needs a vocabulary of words, not a tokenizer.json")
    vectors, found = load_word2vec(cfg.model.text.word2vec, tokenizer, cfg.model.text.embed_width)
    console.print(f"{cfg.model.text.word2vec}: vectors for {found} of {len(tokenizer)} words.")
    return vectors


def open_stream(cfg: Config, sources: list[Source], tokenizer: Tokenizer) -> TrainStream:
    return TrainStream(
        sources,
        clip=cfg.clip,
        augment=cfg.augment,
        canvas=cfg.canvas,
        tokenizer=tokenizer,
        batch_size=cfg.batch_size,
        seed=cfg.seed,
        weights=cfg.data.weights,
        workers=cfg.data.workers,
        worker_kind=cfg.data.worker_kind,
    )


def with_word_vectors(state: State, vectors: np.ndarray) -> State:
    """The state with `vectors` [V E] in the first rows of the word table."""
    for params in [state["params"]] + ([state["ema"]] if "ema" in state else []):
        table = params["tokenizers"]["text"]["table"]
        filled = table.at[: len(vectors)].set(vectors)  # an array of its own for each: states are donated
        params["tokenizers"]["text"]["table"] = jax.device_put(filled, table.sharding)
    return state
