"""Moments in Time: videos of three seconds, one of 339 actions or events each.

source    Monfort et al., "Moments in Time Dataset: one million videos for event understanding", TPAMI 2019,
          https://arxiv.org/abs/1801.03150; http://moments.csail.mit.edu/
licence   an agreement to sign; its terms (license.txt in the archive) are unconfirmed
size      about 800,000 videos of 3 s, 339 classes. VATT trained on 791,297; 33,900 to validate on are unconfirmed
splits    train (default), val
layout    FOLDER/trainingSet.csv, validationSet.csv     without a header: blocking/NAME.mp4,blocking,3,0
                                                        (file, label, who agreed, who did not)
          FOLDER/moments_categories.txt                 not read: labels are names already
          FOLDER/training/blocking/getty-karate-video-id635808620_4.mp4, FOLDER/validation/...
to get it by the form on the page above
"""

from pathlib import Path

from vatt.data.builders.shared import Catalogue, check_split, find, read_csv
from vatt.data.items import VIDEO, Listing

GET = "http://moments.csail.mit.edu/"
SPLITS = ("train", "val")
DEFAULT_SPLIT = "train"
OFFICIAL = {"train": "training", "val": "validation"}


def rows(folder: Path, split: str) -> Listing:
    """The videos of a split. The label is the action, such as blocking."""
    check_split("moments", split, SPLITS)
    table = find(folder, f"{OFFICIAL[split]}Set.csv", get=GET)
    media = folder / OFFICIAL[split]  # apart, should a name occur in both
    catalogue = Catalogue("moments", media if media.is_dir() else folder, split, VIDEO, depth=2)
    for _, line in read_csv(table, ("filename", "label"), header=False):
        file = line["filename"] if "/" in line["filename"] else f"{line['label']}/{line['filename']}"
        stem = file.rpartition(".")[0]
        catalogue.add(stem, [stem], labels=[line["label"]])
    return catalogue.listing()
