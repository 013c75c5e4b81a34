"""The files that the page may show: those of the index that lie under one folder, by number and never by name."""

import functools
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vatt.data.extensions import PICTURES
from vatt.data.files import find_members, place_of
from vatt.data.items import Slice
from vatt.data.media.clip import probe
from vatt.data.media.container import Opened, opened
from vatt.data.prepare.encode import Form, Part
from vatt.data.prepare.transcode import transcode
from vatt.errors import DataError, MediaError
from vatt.evals.rows import StoredIndex

FORM = Form(size=480, fps=25.0)  # of windows that are transcoded
CLIPS = 64  # most of which are kept
# What browsers play, by FFmpeg's name of the format: their name of it, and the codecs they know in it. WebM is
# Matroska by another suffix.
PLAYED = {
    "mov": ("mp4", {"h264", "av1", "vp9", "aac", "mp3", "flac", "opus"}),
    "webm": ("webm", {"vp8", "vp9", "av1", "vorbis", "opus"}),
    "ogg": ("ogg", {"vorbis", "opus", "flac"}),
    "wav": ("wav", {"pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_f32le"}),
    "mp3": ("mpeg", {"mp3"}),
    "flac": ("flac", {"flac"}),
    "aac": ("aac", {"aac"}),
}
PLAIN = {"yuv420p", "yuvj420p"}  # pictures that H.264 is decoded from everywhere


@dataclass(frozen=True)
class Player:
    """How a file is shown. type: its media type where browsers play it as it is, "" where windows are transcoded."""

    kind: Literal["video", "audio", "picture"]
    type: str


class Library:
    """The files of an index as the page sees them. Members of archives lie where the archive does.

    folder: nothing outside of it is shown, links followed; "" for the folder that all files have in common.
    """

    def __init__(self, index: StoredIndex, folder: str, scratch: Path):
        """
        Args:
          scratch: a folder for transcoded windows.

        Raises:
          DataError: there is no such folder.
        """
        self.index = index
        self.folder = os.path.realpath(os.path.expanduser(folder) if folder else common_folder(index.files))
        if not os.path.isdir(self.folder):
            raise DataError(f"{self.folder}: no such folder; name the one that the indexed files are in with --media")
        self._scratch = scratch
        self._players: dict[tuple[str, int], Player] = {}
        self._clips: OrderedDict[int, Path] = OrderedDict()
        self._lock = threading.Lock()
        self._members = functools.lru_cache(4)(lambda archive, time: find_members(archive))

    def name(self, file: int) -> str:
        """How the page calls a file: its path below the folder."""
        path = self.index.files[file]
        below = os.path.relpath(path, self.folder)
        return path if below.startswith("..") else below

    def medium(self, file: int) -> str | Slice:
        """Where a file really is. Raises DataError if it is not under the folder, or gone."""
        path = self.index.files[file]
        place = place_of(path)
        real = os.path.realpath(place)
        if os.path.commonpath([real, self.folder]) != self.folder:
            raise DataError(f"{path}: not under {self.folder}, which alone is shown; see --media")
        if os.path.isfile(real):
            if place == path:
                return real
            member = self._members(real, os.stat(real).st_mtime_ns).get(path.removeprefix(f"{place}: "))
            if member is not None:
                return member
        raise DataError(f"{path}: not there any more")

    def player(self, file: int) -> Player:
        """Raises DataError as `medium`, and MediaError if it cannot be opened."""
        medium = self.medium(file)
        key = str(medium), os.stat(medium.path if isinstance(medium, Slice) else medium).st_mtime_ns
        if key not in self._players:
            self._players[key] = _player(medium)
        return self._players[key]

    def clip(self, row: int) -> Path:
        """A row's window of its file as an MP4 that browsers play. Raises DataError as `medium`, MediaError if it
        cannot be decoded."""
        medium = self.medium(int(self.index.file[row]))
        with self._lock:
            if row in self._clips:
                self._clips.move_to_end(row)
                return self._clips[row]
            data = self._cut(medium, row)
            clip = self._clips[row] = self._scratch / f"{row}.mp4"
            clip.write_bytes(data)
            if len(self._clips) > CLIPS:
                self._clips.popitem(last=False)[1].unlink()
            return clip

    def _cut(self, medium: str | Slice, row: int) -> bytes:
        """The window with picture and sound; with what the row is of alone, where the other cannot be cut."""
        info, index = probe(medium), self.index
        part = Part(start=max(float(index.start[row]), info.start), end=min(float(index.end[row]), info.end))
        by_sound = index.modalities[index.modality[row]] == "audio"
        tries = [(info.has_video, info.has_audio)]
        if info.has_video and info.has_audio:
            tries.append((not by_sound, by_sound))
        failed: list[MediaError] = []
        for has_video, has_audio in tries:
            ((_, data),) = transcode(medium, [part], form=FORM, has_video=has_video, has_audio=has_audio)
            if not isinstance(data, MediaError):
                return data
            failed.append(data)
        raise failed[0]


def common_folder(files: list[str]) -> str:
    """The deepest folder that holds them all."""
    return os.path.commonpath([os.path.dirname(place_of(path)) for path in files])


def _player(medium: str | Slice) -> Player:
    suffix = Path(medium.name if isinstance(medium, Slice) else medium).suffix.lower().removeprefix(".")
    if suffix in PICTURES:
        return Player("picture", f"image/{'jpeg' if suffix == 'jpg' else suffix}")
    with opened(medium) as file:
        kind = "audio" if file.video is None else "video"
        container = file.format.split(",")[0]
        if container == "matroska" and suffix in ("webm", "weba"):
            container = "webm"
        name, codecs = PLAYED.get(container, ("", set()))
        whole = name and not isinstance(medium, Slice) and _decodable(file, codecs)
        return Player(kind, f"{kind}/{name}" if whole else "")


def _decodable(file: Opened, codecs: set[str]) -> bool:
    if any(stream.codec_context.name not in codecs for stream in file.streams):
        return False
    return file.video is None or file.video.codec_context.name != "h264" or file.video.codec_context.pix_fmt in PLAIN
