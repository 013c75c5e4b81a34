"""`vatt embed`: embeddings of files and folders, as Parquet."""

import sys
from pathlib import Path
from typing import Any

from vatt.cli import before_jax, make_console, make_parser

FORMATS: dict[str, Any] = {".parquet": "parquet", ".safetensors": "safetensors"}


def run(args: list[str]) -> int:
    parser = make_parser(
        "embed",
        "Embeds files of any length, window by window, and writes an index: one row a window, modality and space, with "
        "its times. The same file gives the same bytes, whatever the batch, the order and the number of workers. What "
        "cannot be used is a line of OUT.errors.jsonl. Killed or stopped by Ctrl-C, the same command goes on; a file "
        "that the decoder died of, or hung over, is then such a line.",
        "vatt embed runs/demo video.mp4 folder/ -o emb.parquet\n"
        "vatt embed runs/demo talks/ --modalities video text --hop 1 -o talks.parquet\n"
        "vatt embed runs/demo folder/ -o emb.safetensors",
    )
    parser.add_argument("run", metavar="RUN", help="the folder that vatt pretrain wrote")
    parser.add_argument(
        "sources", metavar="FILE", nargs="+", help="files, folders, manifests, tars, published sets (vatt data --help)"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="where the index goes: .parquet, .safetensors"
    )
    parser.add_argument(
        "--modalities",
        nargs="+",
        choices=("video", "audio", "text"),
        default=("video", "audio"),
        help="what to embed (default: video audio); text: the captions of the files, with their times",
    )
    parser.add_argument(
        "--hop",
        type=float,
        default=0.0,
        help="seconds from the start of a window to that of the next (default: 0, which means that windows touch)",
    )
    parser.add_argument("--step", default="latest", help="latest (default), best, or a number of steps")
    parser.add_argument("--batch-size", type=int, default=32, help="windows in flight to the model (default: 32)")
    parser.add_argument("--workers", type=int, default=0, help="threads that decode (default: one a core)")
    parser.add_argument("--format", choices=tuple(FORMATS.values()), help="default: by the name of OUT")
    options = parser.parse_args(args)
    check_output(Path(options.output))
    partial = f"{options.output}.partial"
    if Path(options.output).exists() and not Path(partial).exists():
        print(f"vatt: {options.output} is there already; it is replaced when this is done", file=sys.stderr)
    format: Any = options.format or FORMATS.get(Path(options.output).suffix.lower())
    if format is None:
        parser.error(f"-o {options.output}: its name ends in neither .parquet nor .safetensors; give --format")
    before_jax()
    from vatt.data.files import list_media
    from vatt.evals.embed import embed
    from vatt.evals.pretrained import load
    from vatt.progress import bar

    console = make_console()
    with bar(console, "listing") as progress:
        files, unusable = list_media(options.sources, progress=progress)
    model = load(options.run, step=options.step)
    try:
        with bar(console, "embedding") as progress:
            result = embed(
                model,
                files,
                unusable,
                options.output,
                modalities=tuple(dict.fromkeys(options.modalities)),
                hop=options.hop,
                batch_size=options.batch_size,
                workers=options.workers,
                format=format,
                progress=progress,
            )
    except KeyboardInterrupt:
        print(f"vatt: stopped; what was done is kept in {partial}, and the same command goes on", file=sys.stderr)
        return 130
    print(summary(result, options.output))
    return 0


def check_output(output: Path) -> None:
    """Before hours of work. Raises DataError if nothing could be written there."""
    from vatt.errors import DataError

    if output.is_dir():
        raise DataError(f"{output}: is a folder; name a file with -o, such as {output}/emb.parquet")
    if not output.absolute().parent.is_dir():
        raise DataError(f"{output}: there is no folder {output.parent}; make it first")


def summary(result, output: str) -> str:
    """What was done, in one line."""
    embedded = result.files - result.kept
    parts = [f"{result.files} files, {result.rows} rows"]
    parts.append(f"{result.windows} windows" + (f" and {result.captions} captions" if result.captions else ""))
    if result.kept:
        parts[-1] += f" of {embedded} files now, {result.kept} files before"
    parts.append(f"{result.media_seconds / result.seconds:.1f} s of media a second")
    wrong = [f"{result.failed} failed"] if result.failed else []
    wrong += [f"{result.lacking} lack something"] if result.lacking else []
    parts.append(f"{', '.join(wrong)}: {output}.errors.jsonl" if wrong else "no errors")
    return f"{output}: {'; '.join(parts)}"
