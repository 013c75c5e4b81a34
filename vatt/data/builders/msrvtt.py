"""MSR-VTT: web videos of 10 to 30 seconds, with twenty captions each.

source    Xu, Mei, Yao and Rui, "MSR-VTT: A Large Video Description Dataset for Bridging Video and Language", CVPR 2016;
          1k-A: Yu, Kim and Kim, "A Joint Sequence Fusion Model", ECCV 2018, https://arxiv.org/abs/1808.02487
licence   unconfirmed (the publisher's page could not be read)
size      10,000 clips (41.2 hours), 200,000 captions, 20 categories
splits    train (default: 6,513), val (497), test (2,990): the official ones
          train9k (9,000) and train7k (7,010) are to train on for test1k: the 1,000 clips of JSFusion's 1k-A, with the
          one caption of its list; train9k holds clips of test
layout    FOLDER/MSRVTT_data.json     (all; or train_val_videodatainfo.json or videodatainfo_2016.json, and
                                      test_videodatainfo.json), also in annotation/, annotations/ or msrvtt_data/
          FOLDER/category.txt     music, a tab, 0 (may be absent: categories are numbers then)
          FOLDER/MSRVTT_train.9k.csv, MSRVTT_train.7k.csv     video_id
          FOLDER/MSRVTT_JSFUSION_test.csv                     key,vid_key,video_id,sentence
          FOLDER/videos/all/video0.mp4, or any other folder
to get it lists: https://github.com/ArrowLuo/CLIP4Clip (msrvtt_data.zip); it names a copy of the videos
"""

from pathlib import Path

from vatt.data.builders.shared import (
    Catalogue,
    check_split,
    find,
    find_any,
    read_csv,
    read_json,
    read_lines,
    throughout,
)
from vatt.data.items import VIDEO, Listing
from vatt.errors import DataError

GET = "https://github.com/ArrowLuo/CLIP4Clip (msrvtt_data.zip)"
SPLITS = ("train", "val", "test", "train9k", "train7k", "test1k")
DEFAULT_SPLIT = "train"
OFFICIAL = {"train": "train", "val": "validate", "test": "test"}
LISTS = {"train9k": "MSRVTT_train.9k.csv", "train7k": "MSRVTT_train.7k.csv", "test1k": "MSRVTT_JSFUSION_test.csv"}
PLACES = ("", "annotation/", "annotations/", "msrvtt_data/")
ALL, PARTS = "MSRVTT_data.json", ("train_val_videodatainfo.json", "videodatainfo_2016.json", "test_videodatainfo.json")


def rows(folder: Path, split: str) -> Listing:
    """The clips of a split. Captions hold throughout. The label is the category (its number where category.txt is not
    there); test1k has none."""
    check_split("msrvtt", split, SPLITS)
    if split == "test1k":
        table = find(folder, *(place + LISTS[split] for place in PLACES), get=GET)
        catalogue = Catalogue("msrvtt", folder, split, VIDEO)
        for _, line in read_csv(table, ("video_id", "sentence")):
            catalogue.add(line["video_id"], [line["video_id"]], captions=throughout([line["sentence"]]))
        return catalogue.listing()
    videos, sentences = annotations(folder)
    if split in LISTS:
        table = find(folder, *(place + LISTS[split] for place in PLACES), get=GET)
        wanted = [line["video_id"] for _, line in read_csv(table, ("video_id",))]
    else:
        wanted = [video for video, (part, _) in videos.items() if part == OFFICIAL[split]]
    lacking = next((video for video in wanted if video not in videos or video not in sentences), None)
    if lacking or not wanted:
        what = f"captions of {lacking}" if lacking else f"videos of {split}"
        raise DataError(f"{folder}: no {what} in its annotations; put {ALL} there, from {GET}")
    catalogue = Catalogue("msrvtt", folder, split, VIDEO)
    for video in wanted:
        catalogue.add(video, [video], captions=throughout(sentences[video]), labels=[videos[video][1]])
    return catalogue.listing()


def annotation_files(folder: Path) -> list[Path]:
    """The file of all videos, or those of parts that are there."""
    names = [place + name for name in (ALL, *PARTS) for place in PLACES]
    there = [folder / name for name in names if (folder / name).is_file()]
    if not there:
        find(folder, *names, get=GET)
    return there[:1] if there[0].name == ALL else there


def annotations(folder: Path) -> tuple[dict[str, tuple[str, str]], dict[str, list[str]]]:
    """(split, category) of each video, and its captions, from whichever of the files are there."""
    categories = find_any(folder, *(f"{place}category.txt" for place in PLACES))
    lines = read_lines(categories) if categories else ()
    names = {number: name for _, line in lines for name, _, number in [line.rpartition("\t")]}
    videos: dict[str, tuple[str, str]] = {}
    sentences: dict[str, dict[int, str]] = {}  # by number: two of the files may hold the same ones
    for path in annotation_files(folder):
        content = read_json(path, "videos", "sentences")
        try:
            for video in content["videos"]:
                videos[video["video_id"]] = video["split"], names.get(str(video["category"]), str(video["category"]))
            for sentence in content["sentences"]:
                sentences.setdefault(sentence["video_id"], {})[sentence["sen_id"]] = sentence["caption"].strip()
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: malformed: {error!r} in its videos or sentences") from error
    return videos, {video: list(texts.values()) for video, texts in sentences.items()}
