"""ESC-50: environmental sounds of five seconds, one of 50 classes each.

source    Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015,
          https://doi.org/10.1145/2733373.2806390; https://github.com/karolpiczak/ESC-50
licence   CC BY-NC 3.0; the clips of ESC-10 are CC BY
size      2,000 clips of 5 s (2.8 hours), 44.1 kHz mono, 50 classes
splits    all (default), fold1 to fold5, and train1 to train5: trainN is all folds but foldN.
          Sounds of one recording lie in one fold: do not shuffle over folds
layout    FOLDER/meta/esc50.csv     filename,fold,target,category,esc10,src_file,take
          FOLDER/audio/1-100032-A-0.wav
to get it https://github.com/karolpiczak/ESC-50/archive/master.zip, 600 MB, all of it
"""

from pathlib import Path

from vatt.data.builders.shared import Catalogue, check_split, find, number, read_csv
from vatt.data.items import SOUND, Listing

GET = "https://github.com/karolpiczak/ESC-50"
FOLDS = (1, 2, 3, 4, 5)
SPLITS = ("all", *(f"fold{n}" for n in FOLDS), *(f"train{n}" for n in FOLDS))
DEFAULT_SPLIT = "all"


def group(id: str) -> str:
    """The fold of a clip, such as 1 of 1-100032-A-0: a recording lies whole in one."""
    return id.partition("-")[0]


def rows(folder: Path, split: str) -> Listing:
    """The clips of a split. Labels are the categories."""
    check_split("esc50", split, SPLITS)
    table = find(folder, "meta/esc50.csv", "esc50.csv", get=GET)
    catalogue = Catalogue("esc50", folder, split, SOUND)
    for where, line in read_csv(table, ("filename", "fold", "category")):
        fold = int(number(line["fold"], where, "fold"))
        if split in ("all", f"fold{fold}") or (split.startswith("train") and split != f"train{fold}"):
            stem = Path(line["filename"]).stem
            catalogue.add(stem, [stem], labels=[line["category"]])
    return catalogue.listing()
