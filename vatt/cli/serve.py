"""`vatt serve`: search in the browser."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from vatt.cli import make_parser
from vatt.cli.search import add_index_options, load, make_searcher, say
from vatt.errors import ConfigError


def run(args: list[str]) -> int:
    parser = make_parser(
        "serve",
        "Opens a page that searches INDEX: type words or drop a file, and see the hits as playing clips. Only indexed "
        "files below --media are shown, and only to this machine unless --host says otherwise. Ctrl-C ends it.",
        "vatt serve emb.parquet\nvatt serve emb.parquet --media ~/videos --port 0 --open",
    )
    parser.add_argument("index", metavar="INDEX", help="what vatt embed wrote")
    parser.add_argument(
        "--media", default="", metavar="FOLDER", help="show files below this only (default: the one they all lie in)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine)")
    parser.add_argument("--port", type=int, default=8765, help="port to listen on; 0: any that is free (default 8765)")
    parser.add_argument(
        "--open",
        action=argparse.BooleanOptionalAction,
        default=has_screen(),
        help="open the browser (default: where there is a screen)",
    )
    parser.add_argument("--max-upload", type=float, default=256, metavar="MB", help="largest file taken (default 256)")
    add_index_options(parser)
    options = parser.parse_args(args)
    if not 0 <= options.port < 65_536 or options.max_upload <= 0:
        parser.error("--port must be from 0 to 65535, and --max-upload above 0")
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError("the page needs a web server: pip install 'vatt[serve]'") from error
    with tempfile.TemporaryDirectory(prefix="vatt-serve-") as scratch:
        _serve(options, Path(scratch))
    return 0


def _serve(options, scratch: Path) -> None:
    import numpy as np

    from vatt.evals.rows import open_index
    from vatt.serve.guard import is_loopback
    from vatt.serve.library import Library
    from vatt.serve.run import listen, serve, url_of

    index = open_index(options.index)
    library = Library(index, options.media, scratch)
    with listen(options.host, options.port) as sock:  # before the model is loaded: a port may be taken
        searcher = make_searcher(index, options, keep="memory")
        model = load(index, options)
        if "vt" in index.spaces:
            blank = np.zeros((1, model.cfg.clip.words), np.int32)
            model.embedder({"text": blank})  # compiles, which the first who asks need not wait for
        from vatt.serve.app import Answers, make_app

        answers = Answers(searcher, model, library, scratch, limit=int(options.max_upload * 2**20))
        url = url_of(sock)

        def ready() -> None:
            print(f"showing files of {index.path} below {library.folder}")
            if not is_loopback(options.host):
                say(
                    f"warning: --host {options.host} lets whoever reaches this machine search, upload and see those "
                    "files; there is no password"
                )
            print(f"{url}  (Ctrl-C ends it)", flush=True)
            if options.open:
                import webbrowser

                webbrowser.open(url)

        serve(make_app(answers, host=options.host), sock, ready=ready)


def has_screen() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
