"""AudioCaps: each sound of ten seconds is found by the five captions that people wrote for it.

official  dataset/test.csv of https://github.com/cdjkim/audiocaps (audiocap_id,youtube_id,start_time,caption): 975
          sounds, 4,875 captions. Publications rank what they could still download, and some the 816 sounds that are
          not in VGGSound (both from memory, unconfirmed): compare counts
layout    as `vatt data list audiocaps` tells: sound or video, each cut to its ten seconds, anywhere below FOLDER
source    the benchmark: Oncescu, Koepke, Henriques, Akata and Albanie 2021, "Audio Retrieval with Natural Language
          Queries", arXiv 2105.02192 (from memory, unconfirmed). Models there hear the whole sound; here windows of
          the run's clip are averaged. Video, where there is any, is not looked at
"""

from pathlib import Path

from vatt.data.builders.audiocaps import official
from vatt.data.items import SOUND, VIDEO
from vatt.evals.protocols.protocol import Entry, Official, Protocol, one_line

AUDIOCAPS = Protocol(
    name="audiocaps",
    version=2,
    source="Kim et al. 2019 (the official split test), as Oncescu et al. 2021 rank it",
    official="dataset/test.csv, every sound",
    captions="all five of a sound, each a query",
    items=975,
    directions=("text_to_audio", "audio_to_text"),
    windows=4,
)
PROTOCOLS = {AUDIOCAPS.name: AUDIOCAPS}


def entries(folder: Path) -> Official:
    """The sounds in the order of their first captions, with all that are written for each."""
    path, sounds = official(folder, "test")
    items = [
        Entry(id=id, stems=tuple(sound.stems), captions=tuple(map(one_line, sound.captions)))
        for id, sound in sounds.items()
    ]
    return Official(file=path, entries=items, extensions=SOUND + VIDEO)


ENTRIES = {AUDIOCAPS.name: entries}
