"""`vatt classify`: names what files show, by words of the user's own."""

import json
import sys
from pathlib import Path

from vatt.cli import before_jax, make_console, make_parser


def run(args: list[str]) -> int:
    parser = make_parser(
        "classify",
        "Tells which of some labels a file is nearest to. The labels are words, and no training for them is needed.",
        'vatt classify runs/demo video.mp4 --labels "red circle,blue square,green ring"\n'
        'vatt classify runs/demo *.mp4 --labels labels.txt --template "a {}" --template "we see a {}" --json',
    )
    parser.add_argument("run", metavar="RUN", help="the folder that vatt pretrain wrote")
    parser.add_argument("files", metavar="FILE", nargs="+", help="videos, pictures or sound")
    parser.add_argument("--labels", required=True, help="separated by commas, or a file of one label a line")
    parser.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help="a sentence with {} for the label; may be given several times",
    )
    parser.add_argument(
        "--modality",
        choices=("auto", "video", "audio"),
        default="auto",
        help="what to tell by: audio needs a run with model.heads.audio_text (default: video where there is some)",
    )
    parser.add_argument("--top", type=int, default=10, help="labels shown a file, the likeliest (default: 10)")
    parser.add_argument("--step", default="latest", help="latest (default), best, or a number of steps")
    parser.add_argument("--json", action="store_true", help="print a line of JSON a file, with every label")
    options = parser.parse_args(args)
    if options.top < 1:
        parser.error("--top must be at least 1")
    before_jax()
    return _zero_shot(options)


def _zero_shot(options) -> int:
    from vatt.evals import zeroshot
    from vatt.evals.pretrained import load

    labels = read_labels(options.labels)
    templates = tuple(options.template or zeroshot.TEMPLATES)
    zeroshot.check_labels(labels)
    zeroshot.check_templates(templates)
    model = load(options.run, step=options.step)
    zeroshot.check_known(model, labels)
    for note in zeroshot.unseen(model, labels, templates):
        print(f"vatt: {note}", file=sys.stderr)
    console, failed = make_console(), 0
    results = zeroshot.classify(model, options.files, labels, templates=templates, modality=options.modality)
    for path, result in zip(options.files, results, strict=True):
        if not isinstance(result, zeroshot.Classified):
            failed += 1
            print(f"vatt: {result}", file=sys.stderr)
            if options.json:
                print(json.dumps({"path": path, "reason": result.kind, "detail": result.reason}, ensure_ascii=False))
        elif options.json:
            print(
                json.dumps(
                    {
                        "path": path,
                        "modality": result.modality,
                        "windows": result.windows,
                        "labels": result.probabilities,
                    },
                    ensure_ascii=False,
                )
            )
        else:
            _print(console, result, options.top)
    return 1 if failed else 0


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


def _print(console, result, top: int) -> None:
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
        table.add_row(f"{len(shown) - top} others", f"{rest:.3f}", style="dim")
    console.print(table)
