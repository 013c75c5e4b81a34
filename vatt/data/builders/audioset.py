"""AudioSet: segments of ten seconds from YouTube, labelled with the sounds heard in them.

source    Gemmeke et al., "Audio Set: An Ontology and Human-Labeled Dataset for Audio Events", ICASSP 2017;
          https://research.google.com/audioset/download.html
licence   annotations CC BY 4.0, ontology CC BY-SA 4.0, by Google; each video is its uploader's
size      2,085,544 segments of 10 s (5,800 hours), 527 classes, several a segment. Copies are smaller: links rot
splits    train (default: both of the following), balanced_train (22,176), unbalanced_train (2,042,985), eval (20,383)
layout    FOLDER/balanced_train_segments.csv, unbalanced_train_segments.csv, eval_segments.csv
                                       three lines of #, then: -0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j"
          FOLDER/class_labels_indices.csv     index,mid,display_name
          and anywhere below FOLDER, sound or video as downloaders name it: ID_420.wav, ID_420.000.mp4, ID_000420.mp4,
          ID_420_430.wav, ID_420000_430000.flac, YID.wav or ID.wav, each cut to its ten seconds. Where a segment is
          there as video and as sound, the video is taken
to get it the csv files from the page above; the media with a downloader of your choice
"""

from pathlib import Path

from vatt.data.builders.shared import Catalogue, check_split, clip_stems, find, number, read_csv
from vatt.data.items import SOUND, VIDEO, Listing
from vatt.errors import DataError

GET = "https://research.google.com/audioset/download.html"
SPLITS = ("train", "balanced_train", "unbalanced_train", "eval")
DEFAULT_SPLIT = "train"
COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")


def rows(folder: Path, split: str) -> Listing:
    """The segments of a split. Labels are the display names, such as "Male speech, man speaking"."""
    check_split("audioset", split, SPLITS)
    parts = ("balanced_train", "unbalanced_train") if split == "train" else (split,)
    tables = [find(folder, f"{part}_segments.csv", f"csv/{part}_segments.csv", get=GET) for part in parts]
    classes = find(folder, "class_labels_indices.csv", "csv/class_labels_indices.csv", get=GET)
    names = {line["mid"]: line["display_name"] for _, line in read_csv(classes, ("mid", "display_name"))}
    catalogue = Catalogue("audioset", folder, split, VIDEO + SOUND)
    for table in tables:
        for where, line in read_csv(table, COLUMNS, header=False, comment="#"):
            video, start = line["YTID"], number(line["start_seconds"], where, "start_seconds")
            stems = clip_stems(video, start, number(line["end_seconds"], where, "end_seconds"))
            mids = line["positive_labels"].split(",")
            unknown = [mid for mid in mids if mid not in names]
            if unknown:
                raise DataError(f"{where}: no class {', '.join(unknown)} in {classes}")
            catalogue.add(f"{video}_{start:g}", [*stems, f"Y{video}", video], labels=[names[mid] for mid in mids])
    return catalogue.listing()
