"""Kinetics-400, 600 and 700: clips of ten seconds from YouTube, one of 400, 600 or 700 human actions each.

source    Kay et al., "The Kinetics Human Action Video Dataset", 2017, https://arxiv.org/abs/1705.06950; 600:
          https://arxiv.org/abs/1808.01340; 700: https://arxiv.org/abs/1907.06987; 700-2020:
          https://arxiv.org/abs/2010.10864; https://github.com/cvdfoundation/kinetics-dataset
licence   annotations CC BY 4.0, say copies elsewhere (the publisher's page could not be read); each video is its
          uploader's
size      306,245 (400), 457,000 (600), 634,000 (700) and 648,000 (700-2020) clips of 10 s. Those in thousands are of
          October 2020 (2010.10864, table 1). Copies are smaller: links rot
splits    train (default), val, test (released without labels in some editions)
layout    FOLDER/annotations/train.csv, val.csv, test.csv     label,youtube_id,time_start,time_end,split[,is_cc]
          or FOLDER/train.csv, validate.csv, test.csv (DeepMind's archive), FOLDER/kinetics-400_train.csv (ActivityNet)
          FOLDER/train/abseiling/_4YTwq0-73Y_000044_000054.mp4   or flat, FOLDER/train/_4YTwq0-73Y_000044_000054.mp4;
          a file FOLDER/replacement*/NAME (CVDF's for damaged ones) is taken before its namesake
          A name with times is a clip that the downloader has cut: all of it is meant. A bare _4YTwq0-73Y.mp4 is the
          whole video: the seconds from time_start to time_end are meant
to get it k400_targz, k600, k700_2020 from https://github.com/cvdfoundation/kinetics-dataset; point at the folder of
          one edition
"""

from pathlib import Path

from vatt.data.builders.shared import Catalogue, check_split, clip_stems, find, number, read_csv
from vatt.data.items import VIDEO, Listing

GET = "https://github.com/cvdfoundation/kinetics-dataset"
SPLITS = ("train", "val", "test")
DEFAULT_SPLIT = "train"


def rows(folder: Path, split: str) -> Listing:
    """The clips of a split. The label is the action; ids are youtube_id, start and end as in the names of the clips."""
    check_split("kinetics", split, SPLITS)
    table = find(folder, *_names(split), get=GET)
    catalogue = Catalogue("kinetics", folder, split, VIDEO, prefer="replacement")
    needed = ("youtube_id", "time_start", "time_end")
    for where, line in read_csv(table, needed if split == "test" else ("label", *needed)):
        video = line["youtube_id"]
        start, end = (number(line[column], where, column) for column in ("time_start", "time_end"))
        stems = clip_stems(video, start, end)
        labels = [line["label"]] if line.get("label") else []
        if not any(stem in catalogue.files for stem in stems) and video in catalogue.files:
            catalogue.add(stems[0], [video], start=start, end=end, labels=labels)
        else:
            catalogue.add(stems[0], stems, labels=labels)
    return catalogue.listing()


def _names(split: str) -> list[str]:
    """Where the editions keep the annotations of a split."""
    files = [f"{split}.csv", *(["validate.csv"] if split == "val" else [])]
    places = [f"annotations/{file}" for file in files] + files
    return [*places, f"kinetics*_{split}.csv", f"annotations/kinetics*_{split}.csv"]
