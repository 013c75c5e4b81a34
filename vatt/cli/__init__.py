"""The command line: parses, calls, prints. No logic, and no jax before a command needs it.

Exit status: 0 done (also a run that Ctrl-C stopped after saving), 1 what the user can mend, 2 usage, 130 interrupted.
"""

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from vatt.errors import ConfigError, VattError

Run = TypeVar("Run")

USAGE = """\
usage: vatt COMMAND ...

Self-supervised pretraining on video, audio and text.

commands:
  pretrain EXPERIMENT   train, and measure zero-shot retrieval at the end
  finetune EXPERIMENT   train a classifier, from the checkpoint of a run or from scratch
  evaluate RUN          measure a run's checkpoint: its own metric, a probe, a published retrieval protocol
  embed RUN FILE ...    embeddings of files and folders, as Parquet
  search INDEX QUERY    find moments of files by words, a video or a sound
  serve INDEX           the same in a browser
  classify RUN FILE ... name what files show, by words of your own
  describe EXPERIMENT   parameters, tokens and FLOPs of a configuration
  plot RUN              curves and a retrieval heat map as PNG
  data COMMAND          check, prepare, show, replay, vocab, list, demo: from media files to a stream

options:
  -h, --help            this text; after a command, its own
  --version             versions of vatt and of the packages that matter

examples:
  vatt pretrain experiments/demo.py
  vatt pretrain experiments/demo.py --steps 200 --optim.learning-rate 5e-4 --model.video.keep 0.25
  vatt evaluate runs/demo
"""


def main(argv: Sequence[str] | None = None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(args)
    except VattError as error:
        print(f"vatt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vatt: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except OSError as error:  # a disk that is full or gone, a folder that forbids
        print(
            f"vatt: {error.filename or 'the system'}: {error.strerror or error}. What was written before is intact: "
            "mend that, and type the same command again",
            file=sys.stderr,
        )
        return 1


def _run(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if args else 2
    if args[0] == "--version":
        _version()
        return 0
    command = COMMANDS.get(args[0])
    if command is None:
        print(f"vatt: no command {args[0]!r}; {_nearest(args[0], COMMANDS)}", file=sys.stderr)
        return 2
    return command(args[1:])


def _nearest(name: str, known) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"commands are {', '.join(known)}"


def _version() -> None:
    from vatt.train.versions import versions

    for name, found in versions().items():
        print(f"{name} {found}")


def pretrain(args: list[str]) -> int:
    from vatt.config import Config

    cfg = config_from(
        "pretrain",
        Config,
        args,
        "Trains the model that EXPERIMENT describes and ends with zero-shot retrieval on held-out clips. Ctrl-C saves "
        "and stops; the same command goes on from there.",
        "vatt pretrain experiments/demo.py --steps 200 --run runs/short",
    )
    before_jax()
    from vatt import plots
    from vatt.cli.evaluate import print_retrieval
    from vatt.train.log import read_metrics
    from vatt.train.pretrain import pretrain as run

    console = make_console()
    result = run(cfg, console)
    if read_metrics(cfg.run):  # not if it was stopped before the first line
        plots.curves(cfg.run)
    if result is not None:
        print_retrieval(console, result, f"{cfg.run} at step {cfg.steps}")
    return 0


def describe(args: list[str]) -> int:
    from vatt.config import Config, load_experiment

    cfg = config_from(
        "describe",
        type(load_experiment(args[0])) if args and not args[0].startswith("-") else Config,
        args,
        "Prints parameters, tokens before and after DropToken, and forward FLOPs a clip, by modality and in all.",
        "vatt describe experiments/vatt_mbs.py --model.video.keep 0.25",
    )
    from vatt.describe import table

    make_console().print(table(cfg))
    return 0


def plot(args: list[str]) -> int:
    parser = make_parser(
        "plot",
        "Writes the curves of a run, and of a pretraining run a heat map of its retrieval, as PNG into its folder.",
        "vatt plot runs/demo",
    )
    parser.add_argument("run", metavar="RUN", help="the folder that vatt pretrain or vatt finetune wrote")
    parser.add_argument("--source", default="", help="folder of clips (default: evaluate.source of the run)")
    options = parser.parse_args(args)
    before_jax()
    from pathlib import Path

    from vatt import plots
    from vatt.config import Config
    from vatt.evals.retrieval import Retrieval
    from vatt.evals.run import evaluate_run
    from vatt.train.checkpoint import read_config

    print(plots.curves(options.run))
    cfg = read_config(options.run)
    if not isinstance(cfg, Config):
        return 0  # a classifier's numbers are in its curves
    if not options.source and not cfg.evaluate.source:
        print("no heat map: the run names no evaluate.source; give a folder of clips with --source")
        return 0
    result = evaluate_run(options.run, "latest", options.source, make_console())
    assert isinstance(result, Retrieval)
    print(plots.heat_map(result, Path(options.run) / "retrieval.png"))
    return 0


def _later(name: str) -> Callable[[list[str]], int]:
    """The command of a module beside this one, which is not imported before it is called for."""

    def command(args: list[str]) -> int:
        return importlib.import_module(f"vatt.cli.{name}").run(args)

    return command


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "pretrain": pretrain,
    "finetune": _later("finetune"),
    "evaluate": _later("evaluate"),
    "embed": _later("embed"),
    "search": _later("search"),
    "serve": _later("serve"),
    "classify": _later("classify"),
    "describe": describe,
    "plot": plot,
    "data": _later("data"),
}


def make_parser(command: str, description: str, examples: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"vatt {command}",
        description=description,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def config_from(command: str, cls: type[Run], args: list[str], description: str, example: str) -> Run:
    """The configuration that an experiment file gives, with the options behind it applied. `cls`: its kind."""
    import tyro

    from vatt.config import load_experiment

    usage = f"vatt {command} EXPERIMENT [options]"
    args = [f"--{arg}" if re.match(r"[a-z][\w.]*=", arg) else arg for arg in args]  # optim.b1=0.8 is --optim.b1=0.8
    wants_help = any(arg in ("-h", "--help") for arg in args)
    if args and not args[0].startswith("-"):
        default, options = load_experiment(args[0]), args[1:]
        if not isinstance(default, cls):
            raise ConfigError(f"{args[0]} returns a {type(default).__name__}; vatt {command} takes a {cls.__name__}")
    elif wants_help:
        default, options = cls(), args
    else:
        print(f"usage: {usage}\nname an experiment file first, such as experiments/demo.py", file=sys.stderr)
        raise SystemExit(2)
    return tyro.cli(
        cls,
        prog=f"vatt {command} EXPERIMENT",
        description=f"{description}\n\nEvery field of the configuration can be set; defaults shown are those of the "
        f"experiment named, or the paper's if none is.\n\nexample: {example}",
        default=default,
        args=options,
        config=(tyro.conf.FlagConversionOff,),
    )


def before_jax() -> None:
    """What must be set before jax starts: how memory is kept, and where compiled programs are, for the next start."""
    import os
    from pathlib import Path

    from vatt.memory import keep_freed_memory

    keep_freed_memory()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vatt" / "xla"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))


def make_console():
    from rich.console import Console

    return Console()


if __name__ == "__main__":
    sys.exit(main())
