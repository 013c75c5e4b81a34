"""Tiny copies of the published data sets, laid out as released, and what is read of them in a form to compare."""

from pathlib import Path

from vatt.data import builders
from vatt.data.faults import FAULTS
from vatt.data.items import Listing

KINETICS = "label,youtube_id,time_start,time_end,split,is_cc\n"
HOWTO = (
    "video_id,category_1,category_2,rank,task_id\n"
    "nVbIUDjzWY4,Cars & Other Vehicles,Motorcycles,27,52907\n"
    "CTPAZ2euJ2Q,Cars & Other Vehicles,Motorcycles,35,109057\n"
    "gkjnR3-ZVts,Food and Entertaining,,6,25938\n"
)
SPOKEN = {
    "CTPAZ2euJ2Q": {"text": ["never read"], "start": [0], "end": [1]},
    "nVbIUDjzWY4": {"text": ['größer {"}]\u4f60', "  ", "two\nlines"], "start": [0.5, 2, 3.25], "end": [2.0, 3, 5]},
    "gkjnR3-ZVts": {"text": [], "start": [], "end": []},
}
COOK = {
    "database": {
        "GLd3aX16zBg": {
            "duration": 241.62,
            "subset": "training",
            "recipe_type": "113",
            "annotations": [
                {"segment": [90, 102], "id": 0, "sentence": "spread margarine on two slices of white bread"},
                {"segment": [114, 127], "id": 1, "sentence": "place a slice of cheese\non the bread "},
            ],
            "video_url": "https://www.youtube.com/watch?v=GLd3aX16zBg",
        },
        "xHr8X2Wpmno": {
            "duration": 311.77,
            "subset": "validation",
            "recipe_type": "101",
            "annotations": [{"segment": [41, 54], "id": 0, "sentence": "pick the ends off the verdalago"}],
            "video_url": "https://www.youtube.com/watch?v=xHr8X2Wpmno",
        },
    }
}


def write_copy(folder: Path, **kinds: dict[str, str]) -> Path:
    """Writes {path: text}; the names of the kinds are for the reader."""
    for path, text in {path: text for kind in kinds.values() for path, text in kind.items()}.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return folder


def media(*paths: str) -> dict[str, str]:
    """Media files: listing never opens them."""
    return dict.fromkeys(paths, "not opened")


def listing(name: str, folder: Path, split: str = "") -> Listing:
    module = builders.load(name)
    found = module.rows(folder, split or module.DEFAULT_SPLIT)
    ids = [row.id for row in found.rows] + [fault.id for fault in found.faults]
    assert len(set(ids)) == len(ids)
    assert all(fault.reason == "missing" and fault.reason in FAULTS for fault in found.faults)
    assert all(row.split == (split or module.DEFAULT_SPLIT) for row in found.rows)
    assert all(isinstance(row.media, str) and Path(row.media).is_absolute() for row in found.rows)
    return found


def names(found: Listing, folder: Path) -> dict[str, str]:
    """id -> path within the copy."""
    return {row.id: Path(str(row.media)).relative_to(folder).as_posix() for row in found.rows}


def labels(found: Listing) -> dict[str, tuple[str, ...]]:
    return {row.id: row.labels for row in found.rows}
