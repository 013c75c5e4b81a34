"""`vatt classify`: names what files show, by words of the user's own, or by the classes that a run was tuned to."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from vatt.cli import before_jax, make_console, make_parser


def run(args: list[str]) -> int:
    parser = make_parser(
        "classify",
        "Tells which of some labels a file is nearest to. By a pretraining run the labels are words, and no training "
        "for them is needed; a fine-tuned run has its own classes.",
        'vatt classify runs/demo video.mp4 --labels "red circle,blue square,green ring"\n'
        'vatt classify runs/demo *.mp4 --labels labels.txt --template "a {}" --template "we see a {}" --json\n'
        "vatt classify runs/finetune_demo folder/ --top 3",
    )
    parser.add_argument("run", metavar="RUN", help="the folder that vatt pretrain or vatt finetune wrote")
    parser.add_argument("files", metavar="FILE", nargs="+", help="videos, pictures or sound, or folders of them")
    parser.add_argument("--labels", help="of a pretraining run: separated by commas, or a file of one label a line")
    parser.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help="of a pretraining run: a sentence with {} for the label; may be given several times",
    )
    parser.add_argument(
        "--modality",
        choices=("auto", "video", "audio"),
        default="auto",
        help="of a pretraining run: what to tell by; audio needs model.heads.audio_text (default: video where there is "
        "some)",
    )
    parser.add_argument("--top", type=int, default=10, help="labels shown a file, the likeliest (default: 10)")
    parser.add_argument("--step", default="latest", help="latest (default), best, or a number of steps")
    parser.add_argument("--json", action="store_true", help="print a line of JSON a file, with every label")
    options = parser.parse_args(args)
    if options.top < 1:
        parser.error("--top must be at least 1")
    before_jax()
    from vatt.config import FinetuneConfig
    from vatt.train.checkpoint import read_config

    cfg = read_config(options.run)
    if not isinstance(cfg, FinetuneConfig):
        return _zero_shot(options)
    if options.labels is not None or options.template or options.modality != "auto":
        from vatt.errors import DataError

        raise DataError(
            f"{options.run}: is a fine-tuned classifier, with classes and modalities of its own; --labels, --template "
            "and --modality belong to pretraining runs"
        )
    from vatt.evals.finetuned import classify_files, load_classifier

    files, failed = listed_files(options.files)
    model = load_classifier(options.run, step=options.step)
    # Of several classes a file, each probability stands for itself: the others' have no sum.
    return _print_all(options, files, classify_files(model, files), failed, sums=cfg.classify.labels == "single")


def _zero_shot(options) -> int:
    from vatt.errors import DataError
    from vatt.evals import zeroshot
    from vatt.evals.pretrained import load

    if options.labels is None:
        raise DataError(f'{options.run}: is a pretraining run; say which labels to tell apart: --labels "dog,siren"')
    labels = read_labels(options.labels)
    templates = tuple(options.template or zeroshot.TEMPLATES)
    zeroshot.check_labels(labels)
    zeroshot.check_templates(templates)
    files, failed = listed_files(options.files)
    model = load(options.run, step=options.step)
    zeroshot.check_known(model, labels)
    for note in zeroshot.unseen(model, labels, templates):
        print(f"vatt: {note}", file=sys.stderr)
    results = zeroshot.classify(model, files, labels, templates=templates, modality=options.modality)
    return _print_all(options, files, results, failed, sums=True)


def listed_files(given: list[str]) -> tuple[list[str], list[str]]:
    """The files given, those of folders in their place; and what in the folders cannot be used, in a line each. Raises
    DataError if a folder holds no media."""
    from vatt.data.files import list_media

    files: list[str] = []
    failed: list[str] = []
    for name in given:
        if not os.path.isdir(os.path.expanduser(name)):
            files.append(name)
            continue
        found, wrong = list_media([name])
        files += [file.media for file in found if isinstance(file.media, str)]
        failed += [f"{fault.path}: {fault.detail}" for fault in wrong if fault.reason != "bad_captions"]
        failed += [f"{file.path}: is in an archive; unpack it" for file in found if not isinstance(file.media, str)]
    return files, failed


def _print_all(options, files: list[str], results: Iterable, failed: list[str], *, sums: bool) -> int:
    """Prints a result a file, and why others have none. Returns the exit status."""
    from vatt.errors import MediaError

    console, lost = make_console(), len(failed)
    for line in failed:
        print(f"vatt: {line}", file=sys.stderr)
    for path, result in zip(files, results, strict=True):
        if isinstance(result, MediaError):
            lost += 1
            print(f"vatt: {result}", file=sys.stderr)
            line = {"path": path, "reason": result.kind, "detail": result.reason}
        else:
            line = {
                "path": path,
                "modality": result.modality,
                "windows": result.windows,
                "labels": result.probabilities,
            }
        if options.json:
            print(json.dumps(line, ensure_ascii=False))
        elif not isinstance(result, MediaError):
            _print(console, result, options.top, sums=sums)
    return 1 if lost else 0


def read_labels(given: str) -> list[str]:
    """Labels that are separated by commas; or those of a file, one a line, where there is one of that name. Raises
    DataError if it cannot be read."""
    from vatt.errors import DataError

    path = Path(given)
    if len(given) < 4096 and path.is_file():
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{given}: the labels cannot be read ({error}); write one a line, in UTF-8") from error
        while lines and not lines[-1].strip():
            lines.pop()
        return [line.strip() for line in lines]
    if path.suffix and len(path.suffix) <= 5 and "," not in given:
        raise DataError(f"{given}: no such file of labels; or give labels separated by commas")
    return [label.strip() for label in given.split(",")]


def _print(console, result, top: int, *, sums: bool) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    print(f"{result.path}: by {result.modality}, {result.windows} windows")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("label")
    table.add_column("probability", justify="right")
    shown = list(result.probabilities.items())
    for label, share in shown[:top]:
        table.add_row(Text(label), f"{share:.3f}")
    if len(shown) > top:
        rest = sum(share for _, share in shown[top:])
        table.add_row(f"{len(shown) - top} others", f"{rest:.3f}" if sums else "", style="dim")
    console.print(table)
