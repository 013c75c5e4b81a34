"""AudioCaps: sounds of ten seconds from AudioSet, with captions written by people.

source    Kim, Kim, Lee and Kim, "AudioCaps: Generating Captions for Audios in The Wild", NAACL-HLT 2019;
          https://github.com/cdjkim/audiocaps
licence   captions MIT by the LICENSE file, but "for academic purposes only" by the README; each sound is its
          uploader's
size      51,308 clips of 10 s (142 hours). Copies are smaller: links rot
splits    train (default: 49,838 clips, one caption each), val (495, five each), test (975, five each)
layout    FOLDER/dataset/train.csv, val.csv, test.csv     audiocap_id,youtube_id,start_time,caption
          and anywhere below FOLDER, sound or video, each cut to its ten seconds: ID_30.wav, ID_000030.mp4,
          ID_30_40.wav, ID_30000_40000.flac, YID.wav or ID.wav, or named by an audiocap_id: 91139.wav
          AudioCaps 2.0 has files of the same form in dataset2.0/: point at a folder that has these as dataset/
to get it the csv files from the repository above; the media as for AudioSet, or by the form named there
"""

from dataclasses import dataclass, field
from pathlib import Path

from vatt.data.builders.shared import Catalogue, check_split, clip_stems, find, number, read_csv, throughout
from vatt.data.items import SOUND, VIDEO, Listing

GET = "https://github.com/cdjkim/audiocaps"
SPLITS = ("train", "val", "test")
DEFAULT_SPLIT = "train"


def rows(folder: Path, split: str) -> Listing:
    """The clips of a split, each once, with all captions written for it."""
    check_split("audiocaps", split, SPLITS)
    _, sounds = official(folder, split)
    catalogue = Catalogue("audiocaps", folder, split, VIDEO + SOUND)
    for id, sound in sounds.items():
        catalogue.add(id, sound.stems, captions=throughout(dict.fromkeys(sound.captions)))
    return catalogue.listing()


@dataclass(frozen=True)
class Sound:
    """What its file may be called, by any of its lines, and the captions of these."""

    stems: list[str]
    captions: list[str] = field(default_factory=list)


def official(folder: Path, split: str) -> tuple[Path, dict[str, Sound]]:
    """The file of a split, and the sounds that it lists, by youtube_id and start, in the order of their first lines."""
    table = find(folder, f"dataset/{split}.csv", f"{split}.csv", get=GET)
    sounds: dict[str, Sound] = {}
    for where, line in read_csv(table, ("audiocap_id", "youtube_id", "start_time", "caption")):
        video, start = line["youtube_id"], number(line["start_time"], where, "start_time")
        sound = sounds.setdefault(
            f"{video}_{start:g}", Sound([*clip_stems(video, start, start + 10), f"Y{video}", video])
        )
        sound.stems.append(line["audiocap_id"])
        sound.captions.append(line["caption"])
    return table, sounds
