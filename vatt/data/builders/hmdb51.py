"""HMDB51: short videos of 51 human actions, most of them from films.

source    Kuehne, Jhuang, Garrote, Poggio and Serre, "HMDB: A Large Video Database for Human Motion Recognition",
          ICCV 2011; https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/
licence   CC BY 4.0
size      6,766 clips, 51 classes
splits    train1 (default), test1, train2, test2, train3, test3: the three official splits, which overlap, of 70 clips
          a class to train on and 30 to test on; all: also those that a split leaves out
layout    FOLDER/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi     (or the classes in a folder of their own)
          FOLDER/testTrainMulti_7030_splits/brush_hair_test_split1.txt    (or any folder)
to get it hmdb51_org.rar (2 GB, holds a rar a class) and test_train_splits.rar from the page above
"""

from pathlib import Path

from vatt.data.builders.shared import Catalogue, check_split, find, read_lines
from vatt.data.items import VIDEO, Listing
from vatt.errors import DataError

GET = "https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/ (test_train_splits.rar)"
SPLITS = ("train1", "test1", "train2", "test2", "train3", "test3", "all")
DEFAULT_SPLIT = "train1"
CODES = {"train": "1", "test": "2"}  # 0 is in neither


def group(id: str) -> str:
    """The film that a clip was cut from, and what is seen: the front of April_09_brush_hair_u_nm_np1_ba_goo_0."""
    return id.rsplit("_", 6)[0]


def rows(folder: Path, split: str) -> Listing:
    """The clips of a split. The label is the class as its folder is called, such as brush_hair."""
    check_split("hmdb51", split, SPLITS)
    ending = f"_test_split{1 if split == 'all' else split[-1]}.txt"
    places = (f"**/brush_hair{ending}", f"**/*{ending}")  # any class tells where the others are
    first = next((path for place in places for path in sorted(folder.glob(place))), None)
    lists = first or find(folder, f"testTrainMulti_7030_splits/brush_hair{ending}", get=GET)
    catalogue = Catalogue("hmdb51", folder, split, VIDEO, depth=2)  # some files of two classes have one name
    for path in sorted(lists.parent.glob(f"*{ending}")):
        label = path.name.removesuffix(ending)
        for where, line in read_lines(path):
            name, _, code = line.rpartition(" ")
            if not name.strip().endswith(".avi") or code not in ("0", "1", "2"):
                raise DataError(f"{where}: expected NAME.avi and 0, 1 or 2, found {line[:60]!r}")
            if split == "all" or code == CODES[split[:-1]]:
                stem = f"{label}/{name.strip().removesuffix('.avi')}"
                catalogue.add(stem, [stem], labels=[label])
    return catalogue.listing()
