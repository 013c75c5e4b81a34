"""Timed captions: what lies beside a media file, and the captions nearest to a clip.

caption.py   Caption, `nearest`
beside.py    which file holds a medium's captions, and reading it
subrip.py    .srt
webvtt.py    .vtt
rolling.py   undoes captions that roll over the screen, as YouTube's automatic ones do
document.py  JSON (Whisper, yt-dlp's .info.json, WebDataset), plain text
markup.py    what stands in captions for the screen
bad.py       captions that cannot be read beside others that can
encoding.py  bytes to text
"""

from vatt.data.captions.bad import Bad
from vatt.data.captions.beside import Beside, first_captions, parse_captions, read_captions
from vatt.data.captions.caption import THROUGHOUT, Caption, nearest, throughout
from vatt.data.captions.subrip import read_srt, write_srt

__all__ = [
    "THROUGHOUT",
    "Bad",
    "Beside",
    "Caption",
    "first_captions",
    "nearest",
    "parse_captions",
    "read_captions",
    "read_srt",
    "throughout",
    "write_srt",
]
