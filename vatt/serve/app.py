"""What the page asks for, all of it by number or by content, never by a path.

    GET  /                 the page
    GET  /api/index        what is searched
    GET  /api/search?q=    hits for words          (k, modality: repeated)
    POST /api/search?name= hits for a file, the body (k, modality, kind: audio or video)
    GET  /media/FILE       a file of the index, by ranges
    GET  /clip/ROW         a row's window, transcoded

Errors are {"error": text} with a status.
"""

import base64
import hashlib
import os
import re
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from vatt.data.extensions import EXTENSIONS, SOUND
from vatt.data.items import Slice
from vatt.errors import DataError, MediaError, VattError
from vatt.evals.pretrained import Pretrained
from vatt.evals.query import embed_query, wanted_pairs
from vatt.evals.search import Hit, Searcher
from vatt.serve.guard import Guard
from vatt.serve.library import Library

PAGE = Path(__file__).with_name("page.html")
MOST = 200  # hits
WORDS = 2_000  # characters of a query


@dataclass(eq=False)
class Answers:
    """The endpoints. The model is asked by one at a time.

    limit: bytes of an upload.
    scratch: a folder for uploads, each of which is there while it is embedded.
    """

    searcher: Searcher
    model: Pretrained
    library: Library
    scratch: Path
    limit: int

    def __post_init__(self):
        self._one = threading.Lock()

    def page(self, request: Request) -> Response:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    def about(self, request: Request) -> Response:
        index = self.searcher.index
        held = {modality for _, modality in index.pairs}
        return JSONResponse(
            {
                "name": index.path.name,
                "files": len(index.files),
                "rows": len(index),
                "seconds": index.seconds,
                "modalities": [modality for modality in ("video", "audio", "text") if modality in held],
                "run": Path(index.run).name,
                "step": self.model.step,
                "limit": self.limit,
                "media": self.library.folder,
            }
        )

    async def by_words(self, request: Request) -> Response:
        words = request.query_params.get("q", "")
        if not words.strip():
            raise DataError("the query is empty; type some words, or drop a file")
        if len(words) > WORDS:
            raise DataError(f"the query has {len(words):,} characters; at most {WORDS:,} are taken")
        return await run_in_threadpool(self._answer, request, words, "text", words)

    async def by_file(self, request: Request) -> Response:
        name = Path(request.query_params.get("name", "")).name
        suffix = Path(name).suffix.lower().removeprefix(".")
        if suffix not in EXTENSIONS:
            raise HTTPException(415, f"{name or 'the file'}: not called as videos, pictures or sounds are")
        kind = request.query_params.get("kind") or ("audio" if suffix in SOUND else "video")
        if kind not in ("audio", "video"):
            raise DataError(f"kind {kind!r} is neither audio nor video")
        handle, path = tempfile.mkstemp(suffix=f".{suffix}", dir=self.scratch)
        try:
            with os.fdopen(handle, "wb") as file:
                await self._receive(request, file)
            return await run_in_threadpool(self._answer, request, path, kind, name)
        except ClientDisconnect:  # gave up before all of it was sent
            return Response(status_code=400)
        except MediaError as error:  # of a name that the user knows
            raise MediaError(name, error.reason.replace(path, name), error.kind) from error
        finally:
            os.unlink(path)

    async def _receive(self, request: Request, file) -> None:
        too_large = HTTPException(413, f"the file is larger than {self.limit / 2**20:g} MB, the most that is taken")
        if int(request.headers.get("content-length") or 0) > self.limit:
            raise too_large
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self.limit:
                raise too_large
            file.write(chunk)

    def _answer(self, request: Request, query: str, kind: str, shown: str) -> Response:
        begun = time.perf_counter()
        k = _number(request.query_params.get("k", "12"), "k")
        per_file = _number(request.query_params.get("per_file", "1"), "per_file")
        pairs = wanted_pairs(self.searcher.index, kind, request.query_params.getlist("modality"))
        with self._one:
            embedded = embed_query(self.model, query, kind)
            hits = self.searcher.search(embedded, pairs, k=k, per_file=per_file)
        return JSONResponse(
            {
                "query": shown,
                "kind": kind,
                "notes": embedded.notes,
                "hits": [self._hit(rank, hit) for rank, hit in enumerate(hits, 1)],
                "seconds": round(time.perf_counter() - begun, 3),
            }
        )

    def _hit(self, rank: int, hit: Hit) -> dict:
        file = int(self.searcher.index.file[hit.row])
        told = {
            "rank": rank,
            "score": round(hit.score, 4),
            "name": self.library.name(file),
            "start": hit.start,
            "end": hit.end,
            "modality": hit.modality,
            "text": hit.text,
        }
        try:
            player = self.library.player(file)
        except VattError as error:
            return told | {"kind": None, "why": str(error)}
        url = f"/media/{file}#t={hit.start:.3f},{hit.end:.3f}" if player.type else f"/clip/{hit.row}"
        return told | {"kind": player.kind, "url": url, "transcoded": not player.type}

    def media(self, request: Request) -> Response:
        file = self._within(request.path_params["file"], len(self.searcher.index.files))
        player = self.library.player(file)
        if not player.type:
            raise HTTPException(415, f"{self.library.name(file)}: browsers do not play it; ask for a clip of it")
        medium = self.library.medium(file)
        if isinstance(medium, Slice):  # a picture
            return Response(medium.read(), media_type=player.type)
        return FileResponse(medium, media_type=player.type)

    def clip(self, request: Request) -> Response:
        row = self._within(request.path_params["row"], len(self.searcher.index))
        return FileResponse(self.library.clip(row), media_type=f"{self._kind(row)}/mp4")

    def _kind(self, row: int) -> str:
        return self.library.player(int(self.searcher.index.file[row])).kind

    def _within(self, number: int, count: int) -> int:
        if number >= count:
            raise HTTPException(404, "the index has no such file or row")
        return number


def make_app(answers: Answers, *, host: str) -> Starlette:
    """The application, for a server that listens on `host`."""
    return Starlette(
        routes=[
            Route("/", answers.page),
            Route("/api/index", answers.about),
            Route("/api/search", answers.by_words, methods=["GET"]),
            Route("/api/search", answers.by_file, methods=["POST"]),
            Route("/media/{file:int}", answers.media),
            Route("/clip/{row:int}", answers.clip),
        ],
        middleware=[Middleware(Guard, host=host, policy=policy(PAGE.read_text(encoding="utf-8")))],
        exception_handlers={HTTPException: _refused, VattError: _mendable, Exception: _ours},
    )


def policy(page: str) -> str:
    """A Content-Security-Policy under which the page's own script and style run, and nothing else does."""
    own = {}
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        own[tag] = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{own['script']}'; style-src 'sha256-{own['style']}'; "
        "media-src 'self' blob:; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _number(text: str, name: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= MOST:
        raise DataError(f"{name} is a number from 1 to {MOST}")
    return int(text)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _mendable(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


def _ours(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "this is a fault of vatt's; the terminal tells more"}, 500)
