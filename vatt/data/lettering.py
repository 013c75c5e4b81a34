"""Text of any script on a picture: each run of characters in a font that has them, if the system has one."""

from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

BASIC = "DejaVuSans.ttf"  # comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew and more


def write(canvas: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *, colour: str, size: int) -> None:
    """Writes a line with its top left at `at`, `size` pixels high. What no font has becomes a box."""
    x, y = at
    for run, path in _runs(text):
        font = _font(path, size)
        canvas.text((x, y), run, fill=colour, font=font)
        x += font.getlength(run)


def length(text: str, size: int) -> float:
    """How wide a line is (pixels)."""
    return sum(_font(path, size).getlength(run) for run, path in _runs(text))


def fitted(text: str, width: float, size: int) -> str:
    """The text, or as much of its beginning as fits, and an ellipsis."""
    if length(text, size) <= width:
        return text
    low, high = 0, len(text)  # characters that fit, and that do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if length(text[:middle] + "…", size) <= width else (low, middle)
    return text[:low] + "…"


def wrapped(text: str, width: float, size: int, most: int) -> list[str]:
    """The text in at most so many lines; words that are too long, and scripts without spaces, break anywhere."""
    lines: list[str] = []
    rest = text.strip()[:2000]
    while rest and len(lines) < most - 1:
        line = fitted(rest, width, size)
        if line == rest:
            break
        line = line[:-1]
        space = line.rfind(" ")
        cut = space if space > len(line) // 2 else max(1, len(line))
        lines.append(rest[:cut])
        rest = rest[cut:].lstrip()
    return [*lines, fitted(rest, width, size)] if rest else lines


def _runs(text: str) -> list[tuple[str, str]]:
    """(characters, the path of a font that has them)."""
    runs: list[tuple[str, str]] = []
    for character in text:
        path = _font_of(character)
        if runs and (runs[-1][1] == path or character == " "):
            runs[-1] = (runs[-1][0] + character, runs[-1][1])
        else:
            runs.append((character, path))
    return runs


@lru_cache(maxsize=1)
def _basic() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / BASIC)


@lru_cache(maxsize=20_000)
def _font_of(character: str) -> str:
    if character.isascii() or _has(_basic(), character):
        return _basic()
    return next((path for path in _system() if _has(path, character)), _basic())


@lru_cache(maxsize=1)
def _system() -> tuple[str, ...]:
    """The fonts of the system that Pillow can draw; those of colour pictures it cannot."""
    from matplotlib.font_manager import fontManager

    found = dict.fromkeys(font.fname for font in fontManager.ttflist if "Last Resort" not in font.name)
    return tuple(path for path in found if _usable(path))


def _usable(path: str) -> bool:
    try:
        return bool(_font(path, 13))
    except OSError:
        return False


@lru_cache(maxsize=256)
def _table(path: str):
    from matplotlib.ft2font import FT2Font

    return FT2Font(path)


def _has(path: str, character: str) -> bool:
    return _table(path).get_char_index(ord(character)) != 0


@lru_cache(maxsize=256)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
