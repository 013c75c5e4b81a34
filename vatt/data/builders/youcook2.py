"""YouCook2: cooking videos from YouTube, cut into steps, each with a sentence that says what is done.

source    Zhou, Xu and Corso, "Towards Automatic Learning of Procedures from Web Instructional Videos", AAAI 2018,
          https://arxiv.org/abs/1703.09788; http://youcook2.eecs.umich.edu/
licence   unconfirmed (the publisher's page could not be read, and copies elsewhere name different ones)
size      2,000 videos (176 hours), 89 recipes. Retrieval is measured on val: 3,350 steps of 436 videos in the list that
          MIL-NCE distributes, fewer in other copies: links rot, so state the count
splits    train (default), val, test (steps without sentences)
layout    FOLDER/annotations/youcookii_annotations_trainval.json   (or FOLDER/...; test:
                             youcookii_annotations_test_segments_only.json), label_foodtype.csv (101,recipe name)
          FOLDER/raw_videos/training/101/ID.mp4 (or .mkv, .webm), .../validation/..., .../testing/...
          FOLDER/splits is not read: the annotations say which video is whose
to get it annotations and a downloader for the videos from the page above
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vatt.data.builders.shared import Catalogue, check_split, find, find_any, number, read_csv, read_json
from vatt.data.captions import Caption
from vatt.data.items import VIDEO, Listing
from vatt.errors import DataError

GET = "http://youcook2.eecs.umich.edu/download"
SPLITS = ("train", "val", "test")
DEFAULT_SPLIT = "train"
OFFICIAL = {"train": "training", "val": "validation", "test": "testing"}


def rows(folder: Path, split: str) -> Listing:
    """The steps of a split: the seconds of a whole video, with the sentence of that step alone, as retrieval needs it.

    The label is the recipe's name, or its number where label_foodtype.csv is not there; ids are the video's id and the
    number of the step.
    """
    check_split("youcook2", split, SPLITS)
    file = f"youcookii_annotations_{'test_segments_only' if split == 'test' else 'trainval'}.json"
    path = find(folder, f"annotations/{file}", file, get=GET)
    foods = find_any(folder, "label_foodtype.csv", "annotations/label_foodtype.csv")
    table = read_csv(foods, ("id", "name"), header=False) if foods else ()
    names = {line["id"]: line["name"] for _, line in table}
    catalogue = Catalogue("youcook2", folder, split, VIDEO)
    for step in steps(path, split):
        captions = (Caption(step.start, step.end, step.sentence),) if step.sentence else ()
        catalogue.add(
            f"{step.video}_{step.id}",
            [step.video],
            start=step.start,
            end=step.end,
            captions=captions,
            labels=[names.get(step.recipe, step.recipe)],
        )
    return catalogue.listing()


class Step(NamedTuple):
    """A step of the annotations; the sentence is one line, and empty in test."""

    video: str
    id: str
    start: float
    end: float
    sentence: str
    recipe: str


def steps(path: Path, split: str) -> Iterator[Step]:
    """The steps of a split in a file of annotations. Raises DataError if it is malformed."""
    for video, entry in read_json(path, "database")["database"].items():
        try:
            if entry["subset"] != OFFICIAL[split]:
                continue
            recipe = str(entry["recipe_type"])
            for index, step in enumerate(entry["annotations"]):
                where = f"{path}: {video}, step {index}"
                start, end = (number(instant, where, "segment") for instant in step["segment"])
                text = " ".join("" if split == "test" else step["sentence"].split())
                yield Step(video, str(step.get("id", index)), start, end, text, recipe)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: the entry of {video} is malformed: {error!r}") from error
