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

from pathlib import Path

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
    for video, entry in read_json(path, "database")["database"].items():
        try:
            if entry["subset"] != OFFICIAL[split]:
                continue
            recipe, steps = str(entry["recipe_type"]), entry["annotations"]
            for index, step in enumerate(steps):
                where = f"{path}: {video}, step {index}"
                start, end = (number(instant, where, "segment") for instant in step["segment"])
                text = " ".join("" if split == "test" else step["sentence"].split())
                captions = (Caption(start, end, text),) if text else ()
                labels = [names.get(recipe, recipe)]
                step_id = f"{video}_{step.get('id', index)}"
                catalogue.add(step_id, [video], start=start, end=end, captions=captions, labels=labels)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: the entry of {video} is malformed: {error!r}") from error
    return catalogue.listing()
