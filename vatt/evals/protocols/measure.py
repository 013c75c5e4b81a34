"""Measures a checkpoint by a published protocol.

An item's embedding is the mean of its windows' raw embeddings, a caption is a query of its own, and a right item of
another modality is found by the best of its captions; similarities and ties are as the protocol says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from vatt.config import ClipConfig, Config
from vatt.data.items import Fault, Source
from vatt.data.pipeline import evaluation_batches
from vatt.data.text import PAD
from vatt.errors import ConfigError, DataError, MediaError, listed
from vatt.evals import pretrained
from vatt.evals.embedding import INPUTS, check_finite, unit
from vatt.evals.pretrained import Pretrained
from vatt.evals.protocols import load, official
from vatt.evals.protocols.media import in_order, open_items
from vatt.evals.protocols.protocol import Official, Protocol
from vatt.evals.protocols.report import Post, Report, differences
from vatt.evals.retrieval import DIRECTIONS
from vatt.metrics import chance, retrieval_blocks
from vatt.progress import bar
from vatt.train.checkpoint import read_pretrain_config


def measure(
    model: Pretrained, protocol: str, folder: str | Path, *, post: Post = "none", console: Console | None = None
) -> Report:
    """Zero-shot retrieval by the protocol of that name.

    Args:
      model: of a pretraining run.
      folder: the user's copy of the data set, in its official layout.
      post: dual_softmax is measured as well, and reported apart.

    Raises:
      ConfigError: the model has no space in which the protocol's modalities meet, or `post` does not fit.
      DataError: no official file, a malformed one, or no item that can be ranked.
      NonFiniteError: an embedding is NaN or infinite.
    """
    console = console or Console(quiet=True)
    return _measured(model, _opened(model.cfg, protocol, folder, post, console), console)


def measure_run(
    run: str | Path,
    protocol: str,
    folder: str | Path,
    *,
    step: str = "latest",
    post: Post = "none",
    console: Console | None = None,
) -> Report:
    """As `measure`, of a run's checkpoint. What is wrong with the data is said before weights are read.

    Raises: as `measure`, and CheckpointError if there is no such run or checkpoint, or one that cannot be restored.
    """
    console = console or Console(quiet=True)
    opened = _opened(read_pretrain_config(run), protocol, folder, post, console)
    return _measured(pretrained.load(run, step=step), opened, console)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Opened:
    """What a protocol ranks, and how it is cut."""

    rules: Protocol
    folder: Path
    post: Post
    clip: ClipConfig
    items: Official
    source: Source


def _opened(cfg: Config, protocol: str, folder: str | Path, post: Post, console: Console) -> _Opened:
    rules, folder = load(protocol), Path(folder).expanduser()
    check_model(rules, cfg)
    if post == "dual_softmax" and rules.similarity == "dot":
        raise ConfigError(f"{protocol} ranks raw dot products, whose scale is the model's; dual_softmax needs cosines")
    items, clip = official(protocol, folder), rules.clip_of(cfg.clip)
    with bar(console, f"{protocol}: reading files") as progress:
        source = open_items(items, rules, folder, clip, progress=progress)
    return _Opened(rules=rules, folder=folder, post=post, clip=clip, items=items, source=source)


def _measured(model: Pretrained, opened: _Opened, console: Console) -> Report:
    rules, items, source, post = opened.rules, opened.items, opened.source, opened.post
    ids, z, failed = _embed(model, opened, console) if len(source) else ([], {}, [])
    missing = in_order([*source.faults, *failed], items)
    if not ids:
        what = listed([f"{fault.id}: {fault.detail or fault.reason}" for fault in missing])
        raise DataError(f"{opened.folder}: none of the {len(missing)} items of {items.file} can be ranked:\n{what}")

    texts = {entry.id: entry.captions for entry in items.entries}
    asked = [(text, item) for item, id in enumerate(ids) for text in texts[id]]
    words = _encoded(model, dict.fromkeys(text for text, _ in asked))
    wordless = [f"{ids[item]}: {text!r}" for text, item in asked if text not in words]
    asked = [(text, item) for text, item in asked if text in words]
    if words:
        of_text = model.embedder({"text": np.stack(list(words.values()))})["z_tv"]  # each different caption once
        check_finite({"z_tv": of_text}, list(words))
        number = {text: row for row, text in enumerate(words)}
        z["z_tv"] = of_text[[number[text] for text, _ in asked]]
    elif rules.asks_by_text:
        raise DataError(f"{items.file}: no caption of the items found holds a word")
    if rules.similarity == "cosine":
        z = {name: unit(x) for name, x in z.items()}

    scores, by_chance = {}, {}
    for direction in rules.directions:
        query, item = (z[name] for name in DIRECTIONS[direction])
        for variant, rows, target in _targets(direction, asked, len(ids)):
            posts: list[Post] = ["none"] if post == "none" or variant else ["none", post]
            for done in posts:
                name = "/".join([direction, *([variant] if variant else []), *([done] if done != "none" else [])])
                scores[name] = retrieval_blocks(query[rows], item, target, post=done)
                by_chance[name] = chance(len(item), positives=[len(right) for right in target])
    return Report(
        protocol=rules,
        official=items,
        run=model.cfg.run,
        step=model.step,
        model=model.hash,
        data=str(opened.folder.absolute()),
        missing=missing,
        queries=len(asked),
        wordless=wordless,
        duplicates=len(asked) - len(words),
        differs=differences(rules, opened.clip, model.cfg),
        post=post,
        scores=scores,
        chance=by_chance,
    )


def check_model(protocol: Protocol, cfg: Config) -> None:
    """Raises ConfigError if the model has no space in which the protocol's modalities meet."""
    if any("z_at" in DIRECTIONS[direction] for direction in protocol.directions) and not cfg.model.heads.audio_text:
        raise ConfigError(
            f"{protocol.name} ranks sounds by captions, and {cfg.run} has no head from audio into the text space; "
            "pretrain with --model.heads.audio-text True --loss.audio-text 1, or choose a protocol of video"
        )


def _embed(
    model: Pretrained, opened: _Opened, console: Console
) -> tuple[list[str], dict[str, np.ndarray], list[Fault]]:
    """Ids of the items that have an embedding; by name the means of their windows' raw embeddings [N E]; and of the
    rest, why they have none."""
    cfg, protocol, source, failed = model.cfg, opened.rules, opened.source, []
    names = {name for direction in protocol.directions for name in DIRECTIONS[direction] if name != "z_tv"}
    inputs = [name for name in INPUTS if name.startswith(protocol.media)]
    batches = evaluation_batches(
        source,
        clip=opened.clip,
        canvas=cfg.canvas,
        tokenizer=model.tokenizer,
        windows=protocol.windows,
        batch_size=max(1, cfg.evaluate.batch_size * cfg.evaluate.windows // protocol.windows),  # as much memory
        workers=cfg.data.workers,
        failed=failed,
    )
    ids: list[str] = []
    silent: list[Fault] = []
    decoded: set[str] = set()
    z: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with bar(console, f"{protocol.name}: embedding") as progress:
        for batch in batches:
            decoded.update(batch["ids"])
            heard = batch["valid"].copy()
            if "audio" in protocol.media:
                heard &= batch["audio_mask"]
                quiet = [id for id, has in zip(batch["ids"], heard[: len(batch["ids"])], strict=True) if not has]
                silent += [Fault(id=id, reason="silent", detail="its sound is silence") for id in quiet]
            kept = [id for id, has in zip(batch["ids"], heard[: len(batch["ids"])], strict=True) if has]
            if not kept:
                continue
            views = {name: batch[name][heard] for name in inputs}
            N, W = len(kept), protocol.windows
            features = model.embedder({name: x.reshape(N * W, *x.shape[2:]) for name, x in views.items()})
            features = {name: features[name].reshape(N, W, -1) for name in names}
            check_finite(features, kept)
            ids += kept
            for name, x in features.items():
                z[name].append(x.mean(axis=1))
            progress(len(decoded) + len(failed), len(source))
    left = [source[index].id for index in range(len(source))]
    left = [id for id in left if id not in decoded]  # in the order in which they failed
    faults = [_fault(id, error) for id, error in zip(left, failed, strict=True)]
    return ids, {name: np.concatenate(parts) for name, parts in z.items()} if ids else {}, faults + silent


def _fault(id: str, error: MediaError) -> Fault:
    return Fault(id=id, reason=error.kind, detail=str(error))


def _encoded(model: Pretrained, texts) -> dict[str, np.ndarray]:
    """Token ids [L] of each text that holds a word."""
    encoded = {text: model.tokenizer.encode(text, model.cfg.clip.words) for text in texts}
    return {text: row for text, row in encoded.items() if row[0] != PAD}


def _targets(direction: str, asked: Sequence[tuple[str, int]], items: int):
    """(variant, rows of the queries, right items of each) for a direction: as published, and, where captions repeat in
    other items, with those right as well."""
    if "text" not in direction:
        yield "", slice(None), [[item] for item in range(items)]
        return
    owners: dict[str, list[int]] = {}
    captions: dict[str, list[int]] = {}
    own: list[list[int]] = [[] for _ in range(items)]
    for row, (text, item) in enumerate(asked):
        owners.setdefault(text, []).append(item)
        captions.setdefault(text, []).append(row)
        own[item].append(row)
    shared = any(len(set(some)) > 1 for some in owners.values())
    if direction.startswith("text"):
        yield "", slice(None), [[item] for _, item in asked]
        if shared:
            yield "multi_positive", slice(None), [sorted(set(owners[text])) for text, _ in asked]
        return
    rows = [item for item in range(items) if own[item]]  # what has no caption with words can ask for none
    yield "", rows, [own[item] for item in rows]
    if shared:
        wider = [sorted({row for mine in own[item] for row in captions[asked[mine][0]]}) for item in rows]
        yield "multi_positive", rows, wider
