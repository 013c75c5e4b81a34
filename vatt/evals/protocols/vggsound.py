"""VGGSound: each clip of ten seconds is found by its own sound among all sounds, and the sound by its pictures.

official  vggsound.csv without a header (youtube id, start seconds, label, split), the lines of split test: 15,446 clips
          (from memory, unconfirmed)
layout    as `vatt data list vggsound` tells: video, each cut to its ten seconds, anywhere below FOLDER
source    publications name the test (ImageBind, PE-AV) but we know of none that states windows and sampling: four
          windows are taken, as VATT (arXiv 2104.11178, appendix A.3.3) takes of videos of ten seconds, and clips are
          the run's own
"""

from pathlib import Path

from vatt.data.builders.vggsound import official
from vatt.data.items import VIDEO
from vatt.evals.protocols.protocol import Entry, Official, Protocol, unique

VGGSOUND = Protocol(
    name="vggsound-av",
    version=2,
    source="Chen et al. 2020 (the official split test); no publication known to us states windows or sampling",
    official="vggsound.csv, the lines of split test",
    captions="none: sound and video ask for each other",
    items=0,
    directions=("audio_to_video", "video_to_audio"),
    windows=4,
)
PROTOCOLS = {VGGSOUND.name: VGGSOUND}


def entries(folder: Path) -> Official:
    """The clips of split test."""
    path, lines = official(folder)
    clips = [clip for clip in lines if clip.split == "test"]
    ids = unique([f"{clip.video}_{clip.start:g}" for clip in clips])
    items = [Entry(id=id, stems=tuple(clip.stems)) for id, clip in zip(ids, clips, strict=True)]
    return Official(file=path, entries=items, extensions=VIDEO)


ENTRIES = {VGGSOUND.name: entries}
