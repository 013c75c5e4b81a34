"""Bytes to text. The encoding is never guessed: a wrong guess is a corpus of nonsense that nobody notices."""

import codecs
import os
from pathlib import Path

from vatt.errors import DataError

LARGEST = 64 << 20  # bytes; a day of captions has some 5 MB, an .info.json with all comments seldom more than 50


def read_bytes(path: str | Path, what: str = "captions") -> bytes:
    """Raises DataError: the file cannot be read, or is too large to be captions."""
    if os.path.exists(path) and not os.path.isfile(path):  # to open a pipe would wait for ever
        raise DataError(f"{path}: cannot read the {what}: not a file")
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot read the {what}: {error.strerror}") from error
    if len(data) > LARGEST:
        raise DataError(f"{path}: larger than {LARGEST >> 20} MiB, which {what} never are")
    return data


def to_text(data: bytes, where: str, what: str = "captions") -> str:
    """Decodes UTF-8, with or without a byte order mark, or UTF-16 with one.

    Raises DataError, naming the file and how to convert it, on anything else.
    """
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        at = "" if utf16 else f" (line {line})"
        raise DataError(f"{where}: the {what} are not UTF-8{at}; {_remedy(data)}") from error
    if "\0" in text:
        raise DataError(f"{where}: the {what} are not text in UTF-8; {_remedy(data)}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _remedy(data: bytes) -> str:
    """How to convert what they may be. It names no file: one within an archive has no path that a shell could open."""
    utf32 = data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE))
    code = "UTF-32" if utf32 else "UTF-16LE" if b"\0" in data else "WINDOWS-1252"
    return f"if they are {code}, for instance, convert them with iconv -f {code} -t UTF-8"
