"""Which file holds a medium's captions.

Beside `talk.mp4` may lie, in the order in which they are preferred; the first that holds captions is taken, and no two
are mixed:

    1. subtitles        talk.srt, talk.vtt; in a language as yt-dlp names it: talk.en.vtt, talk.en-orig.vtt
    2. JSON             talk.json: Whisper's, or any with `captions`, `caption` or `text`
    3. plain text       talk.txt: each line holds throughout
    4. yt-dlp's facts   talk.info.json: the title holds throughout

Each may also carry the whole name, and then comes first: talk.mp4.srt. Of several languages the file without any comes
first, then English (`en`, then `en-...`, then `en-orig`), then the language spoken (`...-orig`), then the others by
alphabet; .srt before .vtt. Where a language is asked for, the files in it come first, of whatever kind, then those that
name none; others are left out.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vatt.data.captions.bad import Bad
from vatt.data.captions.caption import Caption
from vatt.data.captions.document import parse_info, parse_json, parse_text
from vatt.data.captions.encoding import read_bytes, to_text
from vatt.data.captions.subrip import parse_srt
from vatt.data.captions.webvtt import parse_vtt
from vatt.data.extensions import EXTENSIONS

KINDS = {".srt": 0, ".vtt": 0, ".json": 1, ".txt": 2, ".info.json": 3}
PARSERS = {".srt": parse_srt, ".vtt": parse_vtt, ".json": parse_json, ".info.json": parse_info}
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[\w-]+)?", re.ASCII)  # en, en-US, zh-Hans, en-orig, en-nP7-2PuUl7o


class Beside:
    """The caption files of a folder (or of a sample of an archive), by the media they lie beside.

    Args:
      names: all file names there, without folders.
      language: the language wanted, such as "de"; "" prefers English.
    """

    def __init__(self, names: Iterable[str], language: str = ""):
        names = set(names)
        stems = {os.path.splitext(name)[0] for name in names if _suffix(name) == ""}
        found = defaultdict(list)
        for name in names:
            suffix = _suffix(name)
            if suffix == "" or name.startswith("."):
                continue
            stem = name[: -len(suffix)]
            found[stem].append((bool(language), KINDS[suffix], 0, "", suffix, name))
            shorter, dot, tag = stem.rpartition(".")
            # talk.one.srt is talk.one.mp4's, where there is one, and not talk.mp4's in the language "one".
            if dot and suffix != ".info.json" and _is_language(tag) and stem not in stems:
                rank = _rank(tag.lower(), language.lower())
                if rank:
                    found[shorter].append((False, KINDS[suffix], rank, tag, suffix, name))
        self._found = dict(found)

    def of(self, media: str) -> list[str]:
        """The names of the files that may hold the captions of a medium, the best first."""
        stem = os.path.splitext(media)[0]
        ranked: list[Any] = [
            (*file[:3], place, *file[3:])
            for place, name in enumerate(dict.fromkeys((media, stem)))
            for file in self._found.get(name, ())
        ]
        return [name for *_, name in sorted(ranked)]


def read_captions(path: str | Path, beside: Beside | None = None, bad: Bad | None = None) -> tuple[Caption, ...]:
    """The captions that lie beside a media file; none when there are none.

    Args:
      path: of the media file, which need not exist.
      beside: of its folder, if it has been listed already.
      bad: a new one gathers captions that cannot be read, for the sake of the file's others; None raises.

    Raises:
      DataError: the file that holds them cannot be read. The message names it, the line and the remedy.
    """
    folder, name = os.path.split(os.fspath(path))
    if beside is None:
        try:
            beside = Beside(os.listdir(folder or "."))
        except OSError:
            return ()

    def read(candidate: str) -> tuple[bytes, str]:
        where = os.path.join(folder, candidate)
        return read_bytes(where), where

    return first_captions(beside.of(name), read, bad)


def first_captions(
    candidates: Iterable[str], read: Callable[[str], tuple[bytes, str]], bad: Bad | None = None
) -> tuple[Caption, ...]:
    """The captions of the first file that holds any.

    Args:
      candidates: names of files, the best first.
      read: gives a file's bytes, and what names it in errors.
      bad: as of `read_captions`.

    Raises:
      DataError: a file before it cannot be read.
    """
    for candidate in candidates:
        captions = parse_captions(candidate, *read(candidate), bad)
        if captions:
            return captions
    return ()


def parse_captions(name: str, data: bytes, where: str, bad: Bad | None = None) -> tuple[Caption, ...] | None:
    """The captions in a file's content; None where it holds something else, as some .json does.

    Args:
      name: of the file; its suffix tells the format.
      data: its bytes.
      where: names it in errors.
      bad: a new one gathers captions that cannot be read, for the sake of the file's others; None raises.

    Raises:
      DataError: it cannot be read as its suffix says, or nothing in it can.
    """
    found = Bad() if bad is None else bad
    captions = PARSERS.get(_suffix(name), parse_text)(to_text(data, where), where, found)
    if bad is None or not captions:
        found.refuse()
    return captions


def _suffix(name: str) -> str:
    """The suffix of a caption file, as it is written; "" of any other."""
    lower = name.lower()
    return next((suffix for suffix in (".info.json", *KINDS) if lower.endswith(suffix)), "")


def _is_language(tag: str) -> bool:
    return LANGUAGE.fullmatch(tag) is not None and tag.lower() not in EXTENSIONS


def _rank(tag: str, language: str) -> int:
    """0: not wanted."""
    wanted = language or "en"
    if tag == wanted:
        return 1
    if tag.startswith(f"{wanted}-"):
        return 3 if tag.endswith("-orig") else 2
    if language:
        return 0
    return 4 if tag.endswith("-orig") else 5
