"""ImageNet (ILSVRC 2012): photographs of 1,000 kinds of things.

source    Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015,
          https://arxiv.org/abs/1409.0575; https://www.image-net.org/
licence   non-commercial research and education, by the terms of access
size      1,281,167 pictures to train on, 50,000 to validate on, 100,000 to test on, 1,000 classes
splits    train (default), val, test (without labels)
layout    FOLDER/train/n01440764/n01440764_10026.JPEG      or, from Kaggle, below FOLDER/ILSVRC/Data/CLS-LOC/
          FOLDER/val/n01440764/ILSVRC2012_val_00000293.JPEG, or flat, FOLDER/val/ILSVRC2012_val_00000293.JPEG with
            FOLDER/LOC_val_solution.csv (Kaggle)            ImageId,PredictionString
            or FOLDER/ILSVRC2012_devkit_t12/data/           ILSVRC2012_validation_ground_truth.txt and meta.mat
          FOLDER/test/ILSVRC2012_test_00000001.JPEG
to get it https://www.image-net.org/download.php, or Kaggle's imagenet-object-localization-challenge
"""

from pathlib import Path

from vatt.data.builders.shared import Catalogue, check_split, find, number, read_csv, read_lines
from vatt.data.items import PICTURES, Listing
from vatt.errors import DataError

GET = "https://www.image-net.org/download.php"
SPLITS = ("train", "val", "test")
DEFAULT_SPLIT = "train"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
DEVKIT = ("ILSVRC2012_devkit_t12/data", "data", ".")


def rows(folder: Path, split: str) -> Listing:
    """The pictures of a split. The label is the WordNet id, such as n01440764: two classes are called "crane".

    What LOC_synset_mapping.txt calls them is for people to read. Nothing lists the pictures of train, so that none is
    known to be missing.
    """
    check_split("imagenet", split, SPLITS)
    media = next((place for place in (folder / "ILSVRC/Data/CLS-LOC" / split, folder / split) if place.is_dir()), None)
    if media is None:
        raise DataError(f"{folder}: no ILSVRC/Data/CLS-LOC/{split} and no {split} there. It is to be had from {GET}")
    catalogue = Catalogue("imagenet", media, split, PICTURES, depth=2)
    if not catalogue.files:
        raise DataError(f"{media}: no pictures there; unpack the archives of the classes (n01440764.tar, ...) first")
    classes = {key: key.split("/")[0] for key in sorted(catalogue.files)}
    if split == "test":
        for key in classes:
            catalogue.add(key.split("/")[-1], [key])
    elif split == "train" or any(place.is_dir() for place in media.glob("n*")):
        for key, label in classes.items():
            if label == media.name:
                raise DataError(f"{catalogue.files[key]}: lies in no folder of a class, such as {media}/n01440764")
            catalogue.add(key, [key], labels=[label])
    else:
        for image, label in _solution(folder):
            catalogue.add(image, [f"{split}/{image}"], labels=[label])
    return catalogue.listing()


def _solution(folder: Path) -> list[tuple[str, str]]:
    """(name, WordNet id) of each validation picture, as Kaggle or else the development kit has it."""
    kit = [f"{place}/{TRUTH}" for place in DEVKIT]
    path = find(folder, "LOC_val_solution.csv", *kit, get=GET)
    if path.suffix == ".csv":
        lines = read_csv(path, ("ImageId", "PredictionString"))
        found = [(where, line["ImageId"], line["PredictionString"].split()) for where, line in lines]
        empty = next((where for where, _, boxes in found if not boxes), None)
        if empty:
            raise DataError(f"{empty}: PredictionString is empty; expected a WordNet id and boxes")
        return [(image, boxes[0]) for _, image, boxes in found]
    from scipy.io import loadmat

    meta = find(folder, *(f"{place}/meta.mat" for place in DEVKIT), get=GET)
    ids = {int(s.ILSVRC2012_ID): str(s.WNID) for s in loadmat(meta, squeeze_me=True, struct_as_record=False)["synsets"]}
    solution = []
    for index, (where, line) in enumerate(read_lines(path), 1):
        label = ids.get(int(number(line, where, "class")))
        if label is None:
            raise DataError(f"{where}: no class {line} in {meta}")
        solution.append((f"ILSVRC2012_val_{index:08d}", label))
    return solution
