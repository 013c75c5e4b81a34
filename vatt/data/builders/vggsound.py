"""VGGSound: clips of ten seconds from YouTube in which the source of the sound is seen, one of 309 classes each.

source    Chen, Xie, Vedaldi and Zisserman, "VGGSound: A Large-scale Audio-Visual Dataset", ICASSP 2020,
          https://arxiv.org/abs/2004.14368; https://www.robots.ox.ac.uk/~vgg/data/vggsound/
licence   CC BY 4.0 for the dataset; each video is its uploader's
size      about 200,000 clips of 10 s (550 hours), 309 classes. Copies are smaller: links rot
splits    train (default), test
layout    FOLDER/vggsound.csv     without a header: --0PQM4-hqg,30,waterfall burbling,train
          and anywhere below FOLDER, video or sound, each cut to its ten seconds: --0PQM4-hqg_000030.mp4,
          --0PQM4-hqg_000030_000040.mp4, --0PQM4-hqg_30.wav or --0PQM4-hqg.mp4
to get it vggsound.csv from the page above; the media with a downloader of your choice
"""

from pathlib import Path
from typing import NamedTuple

from vatt.data.builders.shared import Catalogue, check_split, clip_stems, find, number, read_csv
from vatt.data.items import SOUND, VIDEO, Listing
from vatt.errors import DataError

GET = "https://www.robots.ox.ac.uk/~vgg/data/vggsound/"
SPLITS = ("train", "test")
DEFAULT_SPLIT = "train"


def rows(folder: Path, split: str) -> Listing:
    """The clips of a split. The label is the class, such as "bird chirping, tweeting"."""
    check_split("vggsound", split, SPLITS)
    _, clips = official(folder)
    catalogue = Catalogue("vggsound", folder, split, VIDEO + SOUND)
    for clip in clips:
        if clip.split == split:
            catalogue.add(clip.stems[0], clip.stems, labels=[clip.label])
    return catalogue.listing()


class Clip(NamedTuple):
    """A line of vggsound.csv."""

    video: str
    start: float
    label: str
    split: str

    @property
    def stems(self) -> list[str]:
        """What its file may be called."""
        return [
            *clip_stems(self.video, self.start),
            *clip_stems(self.video, self.start, self.start + 10),
            self.video,
        ]


def official(folder: Path) -> tuple[Path, list[Clip]]:
    """The file, and its lines."""
    table = find(folder, "vggsound.csv", "data/vggsound.csv", get=GET)
    clips = []
    for where, line in read_csv(table, ("youtube id", "start seconds", "label", "split"), header=False, comment="# "):
        start = number(line["start seconds"], where, "start seconds")
        if line["split"] not in SPLITS:
            raise DataError(f"{where}: split is {line['split']!r}; expected train or test")
        clips.append(Clip(line["youtube id"], start, line["label"], line["split"]))
    return table, clips
