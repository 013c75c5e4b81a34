"""Captions in JSON and in plain text: Whisper's output, yt-dlp's .info.json, WebDataset's .json and .txt."""

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from itertools import islice
from numbers import Real
from typing import Any

from vatt.data.captions.bad import MOST, Bad, check_count
from vatt.data.captions.caption import THROUGHOUT, Caption, checked, throughout
from vatt.errors import DataError

TIMED = ("segments", "chunks", "transcription")  # openai-whisper and whisperX, transformers, whisper.cpp
PLAIN = ("captions", "caption", "text")


def parse_text(content: str, where: str, bad: Bad) -> tuple[Caption, ...]:
    """Plain text: every line that is not blank is a caption that holds throughout; none is bad."""
    lines = (line for line in content.split("\n") if line.strip())
    captions = tuple(throughout(line) for line in islice(lines, MOST + 1))
    check_count(len(captions), where)
    return captions


def parse_json(content: str, where: str, bad: Bad) -> tuple[Caption, ...] | None:
    """Captions from Whisper's JSON, as written by openai-whisper, whisperX, faster-whisper's tools, whisper.cpp and
    transformers; or from JSON with `captions`, `caption` or `text`, as WebDataset shards have it.

    Returns:
      The captions, in the order of the file; None if the JSON speaks of something else.

    Raises:
      DataError: not JSON, or what should be captions is none. The message names the file and the place.
    """
    found = load_json(content, where)
    if isinstance(found, list):
        return entries(found, where, bad) if found and all(_is_entry(entry) for entry in found) else None
    if not isinstance(found, dict):
        return None
    for key in TIMED:
        if isinstance(found.get(key), list):
            return entries(found[key], f"{where}, {key}", bad)
    for key in PLAIN:
        if found.get(key) is not None:
            return entries(found[key], f"{where}, {key}", bad)
    return None


def parse_info(content: str, where: str, bad: Bad) -> tuple[Caption, ...] | None:
    """The title in yt-dlp's .info.json, as a caption that holds throughout; None if there is none.

    Descriptions are left out: they are links and thanks more often than they say what is seen.
    """
    found = load_json(content, where)
    title = found.get("title") if isinstance(found, dict) else None
    return (throughout(title),) if isinstance(title, str) and title.strip() else None


def load_json(content: str, where: str) -> Any:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}, line {error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets thousands deep
        raise DataError(f"{where}: not JSON that can be read: {error}") from error


def entries(value: Any, where: str, bad: Bad | None = None) -> tuple[Caption, ...]:
    """Captions from a string, a list of strings, or a list of {text, start, end} (seconds).

    Strings hold throughout, and so do entries without times.

    Args:
      bad: gathers entries that are no captions; None raises.

    Raises:
      DataError: it is none of these. The message names the entry.
    """
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence):
        raise DataError(f"{where}: expected a caption or a list of captions, found {_shown(value)}")
    check_count(len(value), where)
    captions = []
    for number, entry in enumerate(value, 1):
        try:
            captions.append(_entry(entry, f"{where}, entry {number}"))
        except DataError as error:
            if bad is None:
                raise
            bad.add(error)
    return tuple(captions)


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, str) or (isinstance(entry, dict) and ("text" in entry or "caption" in entry))


def _entry(entry: Any, where: str) -> Caption:
    if isinstance(entry, str):
        return throughout(entry)
    if not _is_entry(entry):
        raise DataError(f"{where}: expected text, or an object with text, start and end, found {_shown(entry)}")
    text = entry["text"] if "text" in entry else entry["caption"]
    if not isinstance(text, str):
        raise DataError(f"{where}: the text is {_shown(text)}")
    try:
        return checked(*_times(entry), text)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: {error}") from error


def _times(entry: dict) -> tuple[float, float]:
    """Start and end (seconds). An end that is null is the file's end, as transformers writes it."""
    pair, unit = (entry.get("start"), entry.get("end")), 1.0
    if pair == (None, None) and isinstance(entry.get("timestamp"), list) and len(entry["timestamp"]) == 2:
        pair = tuple(entry["timestamp"])
    if pair == (None, None) and isinstance(entry.get("offsets"), dict):
        pair, unit = (entry["offsets"].get("from"), entry["offsets"].get("to")), 1e-3
    if pair == (None, None):
        return THROUGHOUT
    if pair[0] is None:
        raise ValueError("the caption has an end but no start")
    return number(pair[0]) * unit, math.inf if pair[1] is None else number(pair[1]) * unit


def number(value: Any) -> float:
    """Raises ValueError on what is not a number."""
    if isinstance(value, bool) or not isinstance(value, Real | Decimal | str):
        raise ValueError(f"expected a number of seconds, found {_shown(value)}")
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"expected a number of seconds, found {_shown(value)}") from None


def _shown(value: Any) -> str:
    return repr(value)[:60]
