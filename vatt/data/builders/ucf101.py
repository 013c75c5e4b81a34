"""UCF101: short videos of 101 human actions from YouTube.

source    Soomro, Zamir and Shah, "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild", 2012,
          https://arxiv.org/abs/1212.0402; https://www.crcv.ucf.edu/data/UCF101.php
licence   unconfirmed (the publisher's page could not be read)
size      13,320 clips (27 hours), 101 classes
splits    train1 (default), test1, train2, test2, train3, test3: the three official splits, which overlap; all
layout    FOLDER/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
          FOLDER/ucfTrainTestlist/trainlist01.txt ... testlist03.txt
to get it UCF101.rar (6.9 GB) and UCF101TrainTestSplits-RecognitionTask.zip from the page above
"""

from pathlib import Path

from vatt.data.builders.shared import Catalogue, check_split, find, read_lines
from vatt.data.items import VIDEO, Listing
from vatt.errors import DataError

GET = "https://www.crcv.ucf.edu/data/UCF101.php (UCF101TrainTestSplits-RecognitionTask.zip)"
SPLITS = ("train1", "test1", "train2", "test2", "train3", "test3", "all")
DEFAULT_SPLIT = "train1"


def group(id: str) -> str:
    """The film that a clip was cut from: of v_Biking_g01_c02 what lies before _c02."""
    return id.rpartition("_c")[0]


def rows(folder: Path, split: str) -> Listing:
    """The clips of a split. The label is the class as its folder is called, such as ApplyEyeMakeup."""
    check_split("ucf101", split, SPLITS)
    names = ["trainlist01.txt", "testlist01.txt"] if split == "all" else [f"{split[:-1]}list0{split[-1]}.txt"]
    lists = [find(folder, f"ucfTrainTestlist/{name}", name, get=GET) for name in names]
    catalogue = Catalogue("ucf101", folder, split, VIDEO)
    for path in lists:
        for where, line in read_lines(path):
            label, slash, file = line.partition(".avi")[0].partition("/")  # Class/v_Class_g01_c01.avi 1
            if not slash or not file or ".avi" not in line:
                raise DataError(f"{where}: expected Class/v_Class_g01_c01.avi, found {line[:60]!r}")
            catalogue.add(f"{label}/{file}", [file], labels=[label])
    return catalogue.listing()
