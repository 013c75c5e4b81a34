"""Zero-shot classification: which of some labels, written as words, a file is nearest to.

A label is put into prompt templates; the unit vectors of the prompts are averaged and brought to unit length (Radford
et al. 2021, section 3.1.4). A file is the mean of the unit vectors of its windows, which touch, brought to unit length;
a clip of a source that is measured on, the mean over its `evaluate.windows`, as `vatt evaluate` has it. Probabilities
are a softmax over cosines divided by the temperature that the model was trained with.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from vatt.data.demo import demo_labels
from vatt.data.sources import open_clips, open_file
from vatt.data.text import PAD, words
from vatt.errors import ConfigError, DataError, MediaError
from vatt.evals.embedding import unit
from vatt.evals.pretrained import Pretrained
from vatt.evals.retrieval import embed
from vatt.evals.run import heldout_batches
from vatt.metrics import single_label

TEMPLATES = ("{}", "a {}", "this is a {}", "we see a {}")


@dataclass(frozen=True, kw_only=True)
class Classified:
    """One file.

    modality: what it was told by.
    windows: over how many it is the mean.
    probabilities: label -> share, the likeliest first; they sum to 1.
    """

    path: str
    modality: Literal["video", "audio"]
    windows: int
    probabilities: dict[str, float]


def check_labels(labels: Sequence[str]) -> None:
    """Raises DataError unless there are two labels or more, none empty, and no two of the same words."""
    first: dict[tuple[str, ...], str] = {}
    for label in labels:
        said = tuple(words(label))
        if not said:
            raise DataError(f"the label {label!r} is empty; remove it" if not label.strip() else f"{label!r}: no words")
        if said in first:
            raise DataError(f"the label {label!r} is given twice (as {first[said]!r}); remove one")
        first[said] = label
    if len(labels) < 2:
        raise DataError("labels are told apart from each other: give two or more")


def check_templates(templates: Sequence[str]) -> None:
    """Raises DataError unless each has one place, {}, for the label."""
    if not templates:
        raise DataError("no template; give one, such as 'a {}'")
    for template in templates:
        if template.count("{}") != 1 or template.replace("{}", "").count("{") or template.replace("{}", "").count("}"):
            raise DataError(f"the template {template!r} needs one {{}} where the label goes, and no other braces")


def check_known(model: Pretrained, labels: Sequence[str]) -> None:
    """Raises DataError if a label holds no word that the model knows."""
    hopeless = [label for label in labels if {*words(label)} == {*model.tokenizer.unknown(label)}]
    if hopeless:
        named = ", ".join(repr(label) for label in hopeless)
        raise DataError(f"the model knows no word of {named}; name what is meant in words of its vocabulary")


def unseen(model: Pretrained, labels: Sequence[str], templates: Sequence[str] = TEMPLATES) -> list[str]:
    """What of labels and templates the model does not see, in a line each: words unknown to it, and ends cut off."""
    notes = []
    for text in (*labels, *templates):
        if unknown := dict.fromkeys(model.tokenizer.unknown(text.replace("{}", " "))):
            notes.append(f"the model does not know {', '.join(repr(word) for word in unknown)} in {text!r}")
    seen = model.cfg.clip.words
    for template in templates:
        prompts = [template.format(label) for label in labels]
        long = [prompt for prompt in prompts if model.tokenizer.encode(prompt, seen + 1)[seen] != PAD]
        if long:
            notes.append(f"the model sees the first {seen} words of {long[0]!r}, and of {len(long)} prompts in all")
    return notes


def embed_labels(model: Pretrained, labels: Sequence[str], templates: Sequence[str] = TEMPLATES) -> np.ndarray:
    """Labels as unit vectors in the video-text space, [C E] float32. Raises DataError as the checks above."""
    check_labels(labels)
    check_templates(templates)
    check_known(model, labels)
    prompts = [template.format(label) for label in labels for template in templates]
    z = model.embed_text(prompts).reshape(len(labels), len(templates), -1)
    return unit(z.mean(1))


def classify(
    model: Pretrained,
    paths: Sequence[str | os.PathLike],
    labels: Sequence[str],
    *,
    templates: Sequence[str] = TEMPLATES,
    modality: Literal["auto", "video", "audio"] = "auto",
) -> Iterator[Classified | MediaError]:
    """Files by what they show or, if the model was given a head from audio into the text space, sound like.

    Args:
      paths: videos, pictures or sound.
      labels: C of them.
      templates: each with a {} for the label.
      modality: auto: video where there is some.

    Yields: a result a file, or why it has none.

    Raises:
      DataError: labels or templates that cannot be used.
      ConfigError: audio is asked of a model that does not lead it to text.
    """
    hears = model.cfg.model.heads.audio_text
    if modality == "audio" and not hears:
        raise ConfigError(f"{model.cfg.run}: has no head from audio to text (model.heads.audio_text); classify video")
    targets = embed_labels(model, labels, templates)
    for path in paths:
        try:
            chosen = _modality(model, path, modality)
            windows = model.embed_video(path) if chosen == "video" else model.embed_audio(path)
        except MediaError as error:
            yield error
            continue
        assert windows.vt is not None
        z = unit(windows.vt.mean(0))
        shares = softmax(targets @ z / model.temperature(f"{chosen}_text"))
        order = [int(i) for i in np.argsort(-shares, kind="stable")]
        yield Classified(
            path=str(path),
            modality=chosen,
            windows=len(windows.vt),
            probabilities={labels[i]: float(shares[i]) for i in order},
        )


def softmax(scores: np.ndarray) -> np.ndarray:
    """[C] float64, which sum to 1."""
    scores = scores.astype(np.float64)
    shares = np.exp(scores - scores.max())
    return shares / shares.sum()


def _modality(model: Pretrained, path: str | os.PathLike, asked: str) -> Literal["video", "audio"]:
    if asked != "auto":
        return "audio" if asked == "audio" else "video"
    item = open_file(path, model.cfg.clip.needed)
    if item.has_video:
        return "video"
    if not model.cfg.model.heads.audio_text:
        raise MediaError(str(path), "is sound alone, and the model does not lead sound to text", "no_video")
    return "audio"


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """Labelled clips, embedded. ids: N names; labels: the first label of each, or ""; z: [N E] of unit length."""

    ids: list[str]
    labels: list[str]
    z: np.ndarray


def embed_source(model: Pretrained, source: str, console: Console | None = None) -> Clips:
    """The clips of a source that show something, as `vatt evaluate` embeds them: the mean over `evaluate.windows` and
    crops. Those that cannot be decoded are left out, and told on the console. Raises DataError if there are none."""
    cfg = model.cfg
    opened = open_clips(source, cfg.clip, max_bad=cfg.data.max_bad)
    with heldout_batches(cfg, opened, console or Console(quiet=True)) as batches:
        z, has, lists = embed(model.embedder, batches)
    if "z_vt" not in z or not has["z_vt"].any():
        raise DataError(f"{source}: no clip of it shows anything")
    seen = np.flatnonzero(has["z_vt"])
    ids, labels = ([lists[name][i] for i in seen] for name in ("ids", "labels"))
    return Clips(ids=ids, labels=[label[0] if label else "" for label in labels], z=z["z_vt"][seen])


def zero_shot_accuracy(
    model: Pretrained,
    source: str | Clips,
    labels: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    *,
    of: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """How often the nearest label is the right one, over the clips of a source.

    Args:
      source: by name, or what `embed_source` gave of it.
      labels: C of them.
      of: the label of each clip by its id; None: the first that the source gives it.

    Returns:
      top_1, top_5 (percent), items, ties, as `vatt.metrics.single_label`; and chance, the top_1 of a guess (percent).

    Raises:
      DataError: a clip's label is not among `labels`, or labels cannot be used.
    """
    clips = embed_source(model, source) if isinstance(source, str) else source
    targets = embed_labels(model, labels, templates)
    rows = {label: row for row, label in enumerate(labels)}
    wanted = clips.labels if of is None else [of.get(id, "") for id in clips.ids]
    for id, label in zip(clips.ids, wanted, strict=True):
        if label not in rows:
            what = f"its label {label!r} is none of the {len(labels)} given" if label else "has no label"
            raise DataError(f"{id}: {what}")
    found = single_label(clips.z @ targets.T, np.array([rows[label] for label in wanted]))
    return found | {"chance": 100 / len(labels)}


def demo_accuracy(
    model: Pretrained, folder: str | Path, templates: Sequence[str] = TEMPLATES
) -> dict[str, dict[str, float]]:
    """`zero_shot_accuracy` over the held-out clips of demo media, by factor. folder: as of `demo_labels`."""
    folder = Path(folder)
    clips = embed_source(model, str(folder if folder.name == "heldout" else folder / "heldout"))
    return {
        name: zero_shot_accuracy(model, clips, labels, templates, of=of)
        for name, (labels, of) in demo_labels(folder).items()
    }
